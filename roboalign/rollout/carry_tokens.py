"""The window of RLVR-World: segments that keep the original context and start from the last frame's tokens."""

import torch
from torch import Tensor

from roboalign.rollout.decoder import SharedSegmentDecoder
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start


class CarryTokensDecoder(SharedSegmentDecoder[ContextT, StateT]):
    """Each later segment of `window` frames begins with the frame before it.

    Nothing is encoded anew: the codec's error does not add up, but the context ages.
    """

    def __init__(
        self, tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], start: Start, window: int
    ) -> None:
        super().__init__(tokenizer, sampler, start)
        self.window = window
        self._actions: list[Tensor] = []
        self._last_tokens: Tensor | None = None
        self._begin(start.frames, window)

    def _draw(self, action: Tensor) -> Tensor:
        self._last_tokens = super()._draw(action)
        self._actions.append(action)
        return self._last_tokens

    def _make_room(self) -> None:
        if self.age == self.window:
            assert self._last_tokens is not None
            actions = torch.stack(self._actions, 1)
            self.state = self.sampler.start(
                self.context.tokens, self.action_mask, self.seeds, self._room(self.window) + 1,
                first_frame=self.frame - 1, displacement=actions[:, :-1].sum(1),
                proprioception=self.proprioception,
            )  # fmt: skip
            self.sampler.feed(self.state, actions[:, -1:], self._last_tokens[:, None])
            self.age = 0

    def _select_sequences(self, rows: Tensor) -> None:
        super()._select_sequences(rows)
        self._actions = [action[rows] for action in self._actions]
        self._last_tokens = None if self._last_tokens is None else self._last_tokens[rows]
