"""SWR with windows that the model chooses: a row is refreshed when the model is uncertain about the next frame.

Rows are refreshed at different frames. Those refreshed at the same frame form a group, which is drawn together; a row's
refreshes depend on its own entropies alone, so the rest of the batch makes no difference to it.
"""

from dataclasses import dataclass, replace
from typing import Generic

import torch
from torch import Tensor

from roboalign.rollout.decoder import Decoder
from roboalign.rollout.interfaces import ContextT, FrameSampler, FrameTokenizer, StateT
from roboalign.rollout.prompt import Start
from roboalign.rollout.spec import EntropySwrSpec


@dataclass
class _Group(Generic[ContextT, StateT]):
    """R rows that were refreshed at the same frame."""

    rows: Tensor
    """Their numbers (R,) in the batch."""
    start: int
    """The first frame under their context."""
    context: ContextT
    state: StateT
    typical_entropy: Tensor
    """(R,): the mean over the first `shortest` frames."""
    pending: list[Tensor]
    """Tokens (R, Nd) of the latest frames, which are not yet decoded."""
    pending_start: int
    """The frame that they begin with."""


class EntropySwrDecoder(Decoder[ContextT, StateT]):
    """A fresh context before a frame whose entropy rose by `spec.rise`, and after `spec.longest` frames at the latest.

    The frame at which a row turns out uncertain is drawn anew under the next context.
    """

    def __init__(
        self, tokenizer: FrameTokenizer[ContextT], sampler: FrameSampler[StateT], start: Start, spec: EntropySwrSpec
    ) -> None:
        super().__init__(tokenizer, sampler, start)
        self.spec = spec
        self._latest = start.frames.clone()
        self._decoded: list[tuple[Tensor, int, Tensor]] = []
        """Rows (R,), the first frame and the frames (R, n, 3, H, W) of what was decoded and not yet taken."""
        self._taken = 0
        """Number of frames that were taken."""
        self._groups = [self._begin(torch.arange(len(self), device=self.seeds.device))]

    def _begin(self, rows: Tensor) -> _Group[ContextT, StateT]:
        """A new group of `rows` (R,) under the context of their latest frames."""
        context = self.tokenizer.encode_context(self._latest[rows])
        state = self.sampler.start(
            context.tokens, self.action_mask[rows], self.seeds[rows], self._room(self.spec.longest),
            first_frame=self.frame, proprioception=self.proprioception if self.frame == 0 else None,
        )  # fmt: skip
        typical_entropy = torch.zeros(len(rows), device=rows.device)
        return _Group(rows, self.frame, context, state, typical_entropy, [], self.frame)

    def _draw(self, action: Tensor) -> Tensor:
        refreshed: list[Tensor] = []
        for group in self._groups:
            uncertain = self._extend(group, action)
            if uncertain.any():
                refreshed.append(group.rows[uncertain])
                self._remove(group, uncertain)
        self._groups = [group for group in self._groups if len(group.rows)]
        if refreshed:
            group = self._begin(torch.cat(refreshed))
            self._extend(group, action)
            self._groups.append(group)
        parts = [group.pending[-1] for group in self._groups]
        tokens = parts[0].new_empty(len(self), parts[0].shape[1])
        for group, part in zip(self._groups, parts, strict=True):
            tokens[group.rows] = part
        return tokens

    def _extend(self, group: _Group[ContextT, StateT], action: Tensor) -> Tensor:
        """Draw the next frame of a group, given all rows' `action` (B, A): which rows have to be refreshed first, (R,).

        At the maximum length all rows are refreshed and nothing is drawn.
        """
        age = self.frame - group.start
        if age == self.spec.longest:
            return torch.ones_like(group.rows, dtype=torch.bool)
        group.pending.append(self.sampler.step(group.state, action[group.rows]))
        self.costs.record_state(group.state, len(group.rows))
        if age < self.spec.shortest:
            group.typical_entropy += group.state.entropy / self.spec.shortest
            return torch.zeros_like(group.rows, dtype=torch.bool)
        return group.state.entropy > self.spec.rise * group.typical_entropy

    def _remove(self, group: _Group[ContextT, StateT], uncertain: Tensor) -> None:
        """Decode what the `uncertain` rows (R,) of a group have drawn before this frame, and take them out of it."""
        leaving, staying = uncertain.nonzero()[:, 0], (~uncertain).nonzero()[:, 0]
        self._decode(group, leaving, self.frame - group.pending_start)
        if len(staying):
            group.state = group.state.select(staying, self.seeds[group.rows[staying]])
            group.context = group.context.select(staying)
        group.pending = [tokens[staying] for tokens in group.pending]
        group.typical_entropy, group.rows = group.typical_entropy[staying], group.rows[staying]

    def _decode(self, group: _Group[ContextT, StateT], places: Tensor, frames: int) -> None:
        """Decode the first `frames` pending frames of the rows at `places` in a group."""
        if frames:
            tokens = torch.stack([each[places] for each in group.pending[:frames]], 1)
            video = self.tokenizer.decode(group.context.select(places), tokens)
            self.costs.record_decoding(frames)
            rows = group.rows[places]
            self._latest[rows] = video[:, -1]
            self._decoded.append((rows, group.pending_start, video))

    def _decode_pending(self) -> None:
        for group in self._groups:
            self._decode(group, torch.arange(len(group.rows), device=group.rows.device), len(group.pending))
            group.pending, group.pending_start = [], self.frame

    def _take_decoded(self) -> Tensor:
        taken = self._latest.new_empty(len(self), self.frame - self._taken, *self._latest.shape[1:])
        for rows, start, video in self._decoded:
            first = start - self._taken
            taken[rows, first : first + video.shape[1]] = video
        self._decoded, self._taken = [], self.frame
        return taken

    def _select_sequences(self, rows: Tensor) -> None:
        self._decoded, self._taken = [], self.frame
        groups = [self._select_group(group, rows) for group in self._groups]
        self._groups = [group for group in groups if len(group.rows)]

    def _select_group(self, group: _Group[ContextT, StateT], rows: Tensor) -> _Group[ContextT, StateT]:
        """The part of a group that remains if `rows` (N,) of all rows are selected; its rows are renumbered."""
        new_rows, places = (rows[:, None] == group.rows).nonzero().unbind(1)
        if not len(new_rows):
            return replace(group, rows=new_rows)
        return replace(
            group,
            rows=new_rows,
            context=group.context.select(places),
            state=group.state.select(places, self.seeds[new_rows]),
            typical_entropy=group.typical_entropy[places],
            pending=[],
        )
