"""Sliding Window Re-encoding (paper, training-free).

The horizon is cut into segments of W frames. At each boundary the last predicted frame, decoded to pixels, is encoded
as a fresh context and the prompt is reset: the sequence never holds more than W frames. Frames keep their absolute
number, so a row's random stream continues across boundaries.
"""

from torch import Tensor

from roboalign.rollout.decoder import SharedSegmentDecoder
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start


class SwrDecoder(SharedSegmentDecoder[ContextT, StateT]):
    """A fresh context every `window` frames; subclasses encode another frame than the last predicted one."""

    def __init__(
        self, tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], start: Start, window: int
    ) -> None:
        super().__init__(tokenizer, sampler, start)
        self.window = window
        self._begin_segment(start.frames)

    def _make_room(self) -> None:
        if self.age == self.window:
            self._begin_segment(self._fresh_image(self.current_frame))

    def _begin_segment(self, image: Tensor) -> None:
        """Begin a segment with `image` (B, 3, H, W) as its context."""
        self._begin(image, self.window)

    def _fresh_image(self, last: Tensor) -> Tensor:
        """The image (B, 3, H, W) to encode as the context, given the last predicted frame."""
        return last
