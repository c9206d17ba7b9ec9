"""SWR that takes the static pixels of fresh contexts from the first frame, which is true (our choice)."""

from torch import Tensor

from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start
from roboalign.rollout.swr import SwrDecoder


class AnchoredSwrDecoder(SwrDecoder[ContextT, StateT]):
    """Static pixels are as sharp after many refreshes as after none."""

    def __init__(
        self,
        tokenizer: FrameTokenizer[ContextT],
        sampler: FrameSampler[StateT],
        start: Start,
        window: int,
        threshold: float,
    ) -> None:
        super().__init__(tokenizer, sampler, start, window)
        self.threshold = threshold

    def _fresh_image(self, last: Tensor) -> Tensor:
        return anchor(last, self.first_frame, self.threshold)


def anchor(last: Tensor, first: Tensor, threshold: float) -> Tensor:
    """`last` (B, 3, H, W) with the pixels that have not moved since `first` (B, 3, H, W) taken from there.

    A pixel whose colours differ by at most `threshold` has not moved; up to twice as much, the two frames are blended.
    """
    change = (last - first).abs().amax(1, keepdim=True)
    return first + (change / threshold - 1).clamp(0, 1) * (last - first)
