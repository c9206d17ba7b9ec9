"""SWR whose prompts keep the context of the first frame, which is true, before the fresh one (our choice)."""

from torch import Tensor

from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start
from roboalign.rollout.swr import SwrDecoder


class TwoContextsSwrDecoder(SwrDecoder[ContextT, StateT]):
    """Needs a sampler of a world model of two contexts."""

    def __init__(
        self, tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], start: Start, window: int
    ) -> None:
        self._first_context = tokenizer.encode_context(start.frames).tokens
        super().__init__(tokenizer, sampler, start, window)

    def _begin_segment(self, image: Tensor) -> None:
        self._begin(image, self.window, first_context=self._first_context)

    def _select_sequences(self, rows: Tensor) -> None:
        super()._select_sequences(rows)
        self._first_context = self._first_context[rows]
