"""A window over the key-value cache with the context as the attention sink (StreamingLLM, arXiv 2309.17453).

Once the window is full, the oldest frame leaves the cache before each new one. Nothing is computed anew, so the kept
keys and values still depend on the frames that left.
"""

from roboalign.rollout.decoder import SharedSegmentDecoder
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start


class KvWindowDecoder(SharedSegmentDecoder[ContextT, StateT]):
    """At most `frames` frames follow the context."""

    def __init__(
        self, tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], start: Start, frames: int
    ) -> None:
        super().__init__(tokenizer, sampler, start)
        self.frames = self._room(frames)
        self._begin(start.frames, frames)

    def _make_room(self) -> None:
        if self.age == self.frames:
            self.sampler.drop(self.state)
            self.age -= 1
