"""The order of tokens in the world model's sequence.

    context c_0 … c_{Nc-1} | frame 0: action slots, dynamics d_0 … d_{Nd-1} | frame 1: action slots, dynamics | …

Dynamics frame f is the picture f + 1 steps after the context frame; its action slots hold the action that leads to
it. A slot's output predicts the token of the next slot, and only dynamics tokens are predicted: d_0 from the last
action slot, d_p from the slot of d_{p-1}. Context, dynamics and actions have vocabularies of their own (nothing is
ever predicted across them), so codes need no offsets.

A prompt is what a tokenizer makes of the context frame: its Nc context codes, then the Nd dynamics codes that the same
frame gets as a later frame. The latter are the previous codes of frame 0; with `world_model.still_tokens` they have
slots of their own too, between the context and frame 0 (RLVR-World).

A model of two contexts has the Nc codes of the frame that the rollout began with before those of the context frame,
which sliding windows refresh. Until the first refresh the two are one frame.
"""

import math
from dataclasses import asdict, dataclass

from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Json


@dataclass(frozen=True, slots=True)
class TokenShape:
    """Token counts and vocabularies of the tokenizer, and the action width of the sources."""

    context_tokens: int
    """Nc, tokens of the context frame."""
    dynamics_tokens: int
    """Nd, tokens of each predicted frame."""
    context_levels: tuple[int, ...]
    """FSQ levels of the context codes; a code's first digit varies fastest."""
    dynamics_levels: tuple[int, ...]
    """FSQ levels of the dynamics codes."""
    action_width: int
    """A, action dimensions of the widest source."""
    proprioception_width: int = 0
    """P, dimensions of the widest source's proprioception; 0 if the model is not given any."""

    @property
    def context_codes(self) -> int:
        """Size of the context vocabulary."""
        return math.prod(self.context_levels)

    @property
    def dynamics_codes(self) -> int:
        """Size of the dynamics vocabulary."""
        return math.prod(self.dynamics_levels)

    @classmethod
    def of(cls, tokenizer: TokenizerSpec, action_width: int, proprioception_width: int = 0) -> "TokenShape":
        """The shape under a tokenizer, for sources with at most these dimensions of actions and proprioception."""
        tokens = tokenizer.context_tokens, tokenizer.dynamics_tokens
        return cls(*tokens, tokenizer.context_levels, tokenizer.dynamics_levels, action_width, proprioception_width)

    def dump(self) -> Json:
        """The JSON form that checkpoints carry."""
        value = asdict(self)
        if not self.proprioception_width:
            del value["proprioception_width"]
        return value

    @classmethod
    def load(cls, value: Json) -> "TokenShape":
        """The inverse of `dump`. Raises KeyError or TypeError on anything else."""
        return cls(
            int(value["context_tokens"]),
            int(value["dynamics_tokens"]),
            tuple(map(int, value["context_levels"])),
            tuple(map(int, value["dynamics_levels"])),
            int(value["action_width"]),
            int(value.get("proprioception_width", 0)),
        )


@dataclass(frozen=True, slots=True)
class SequenceLayout:
    """Positions in the sequence, from 0, given the sizes of its parts."""

    context: int
    """Tokens of the context, or of both contexts."""
    actions: int
    """Action slots of each frame."""
    dynamics: int
    """Nd, dynamics tokens of each frame."""
    contexts: int = 1
    """Contexts of a prompt, 1 or 2."""
    still: int = 0
    """Slots of the context frame's own dynamics codes: Nd or 0."""

    @property
    def prefix(self) -> int:
        """Slots before those of frame 0."""
        return self.context + self.still

    @property
    def prompt(self) -> int:
        """Codes of a whole prompt."""
        return self.context + self.dynamics

    @property
    def frame(self) -> int:
        """Tokens of one frame."""
        return self.actions + self.dynamics

    def length(self, frames: int) -> int:
        """Tokens of a sequence with `frames` frames."""
        return self.prefix + frames * self.frame

    def start(self, frame: int) -> int:
        """Position of the first action slot of `frame`."""
        return self.length(frame)

    def token(self, frame: int, place: int) -> int:
        """Position of the dynamics token `place` of `frame`."""
        return self.start(frame) + self.actions + place

    def frames(self, tokens: int) -> int:
        """How many whole frames fit into a sequence of `tokens` tokens (negative if the prefix does not fit)."""
        return (tokens - self.prefix) // self.frame

    @property
    def predicting(self) -> slice:
        """The slots of a frame whose outputs predict its dynamics tokens, in order."""
        return slice(self.actions - 1, self.frame - 1)
