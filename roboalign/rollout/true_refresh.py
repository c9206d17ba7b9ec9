"""SWR whose fresh contexts are true frames: an upper bound, namely refreshing without drift."""

from torch import Tensor

from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start
from roboalign.rollout.swr import SwrDecoder


class TrueRefreshDecoder(SwrDecoder[ContextT, StateT]):
    """Sees the true future (B, F, 3, H, W) at the boundaries."""

    def __init__(
        self,
        tokenizer: FrameTokenizer[ContextT],
        sampler: FrameSampler[StateT],
        start: Start,
        window: int,
        truth: Tensor | None,
    ) -> None:
        """Raises ValueError without the true future."""
        super().__init__(tokenizer, sampler, start, window)
        if truth is None:
            raise ValueError("true_refresh needs the true frames; pass `truth`")
        self._truth = truth

    def _fresh_image(self, last: Tensor) -> Tensor:
        return self._truth[:, self.frame - 1]

    def _select_sequences(self, rows: Tensor) -> None:
        super()._select_sequences(rows)
        self._truth = self._truth[rows]
