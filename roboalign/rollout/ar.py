"""Plain autoregression (paper: the default): one context, one sequence that grows to the horizon."""

from roboalign.rollout.decoder import SharedSegmentDecoder
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start


class ArDecoder(SharedSegmentDecoder[ContextT, StateT]):
    """The whole horizon as one segment."""

    def __init__(self, tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], start: Start) -> None:
        """Raises ValueError without a horizon, which the cache needs room for."""
        super().__init__(tokenizer, sampler, start)
        if start.horizon is None:
            raise ValueError("plain autoregression needs a horizon; give one, or take a decoding with a window")
        self._begin(start.frames, start.horizon)

    def _make_room(self) -> None:
        pass
