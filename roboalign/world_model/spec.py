"""The world model: a LLaMA transformer over context, action and dynamics tokens, and how it is trained."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from roboalign.spec.base import FieldError, Fraction, Positive, Spec
from roboalign.spec.training import TrainingSpec
from roboalign.spec.weights import Init, require_weights
from roboalign.world_model.segment_spec import SegmentSpec

Count = Annotated[int, Field(ge=1, le=65_536)]
"""A number of layers, channels, heads, frames."""


class SlotActionsSpec(Spec):
    """One slot a frame holds the whole action: the sum of one embedding for each discretised dimension."""

    kind: Literal["slot"]
    bins: Annotated[int, Field(ge=2, le=65_536)] = 32
    """Uniform bins of each action dimension over its normalised range [-1, 1] (our choice)."""
    every_slot: bool = True
    """Add the action's embedding to every slot of its frame too; learned twice as fast in trials (our choice)."""
    displacement: bool = True
    """Embed, as numbers, the action and the sum of all actions since the context too (our choice).

    Dynamics codes say what has changed since the context, which is what that sum moves; bins alone are learned slowly.
    """


class TokenActionsSpec(Spec):
    """One token for each action dimension; a source with fewer dimensions leaves the last slots without a bin."""

    kind: Literal["tokens"]
    bins: Annotated[int, Field(ge=2, le=65_536)] = 256
    """Uniform bins of each action dimension over its normalised range [-1, 1] (RLVR-World)."""
    width: Annotated[int, Field(ge=1, le=256)] = 13
    """Action slots of each frame: at least the widest source's dimensions (13: paper, RLVR-World)."""


ActionsSpec = Annotated[SlotActionsSpec | TokenActionsSpec, Field(discriminator="kind")]
"""How the action of a frame enters the sequence."""


class ProprioceptionSpec(Spec):
    """The proprioception of the context frame as an input: one linear embedding, added to every context token.

    It is known where a context is a recorded frame; after a refresh by SWR it is not, and nothing is added.
    """

    dropout: Fraction = 0.2
    """Share of the training samples from which it is withheld, so that the model also works without (our choice)."""


class WorldModelMeasureSpec(Spec):
    """How the trained model is measured on the test episodes."""

    horizon: Annotated[int, Field(ge=1, le=1024)] = 8
    """Predicted frames of one rollout, by plain autoregression."""
    episodes: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Largest number of test episodes, taken in turn from each source."""
    starts: Annotated[int, Field(ge=1, le=64)] = 2
    """Rollouts of one episode, their context frames spread evenly; intervals treat them as one sample."""
    temperature: Positive = 1.0
    """Temperature of the sampled rollouts; the greedy ones have none."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Rollouts measured at once; bounds the memory."""


class WorldModelSpec(Spec):
    """A LLaMA transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    layers: Count
    """Transformer layers (12: paper)."""
    hidden_size: Count
    """Width of the residual stream (768: RLVR-World)."""
    heads: Count
    """Attention heads; their width, hidden_size / heads, must be even (12: RLVR-World)."""
    kv_heads: Count
    """Key and value heads, each shared by heads / kv_heads attention heads; equal to heads for plain attention."""
    intermediate_size: Count
    """Inner width of the SwiGLU feed-forward network (3072: RLVR-World)."""
    rope_base: Annotated[float, Field(ge=1, le=1e9)] = 10_000.0
    """Base of the rotary position angles (LLaMA)."""
    max_position_embeddings: Annotated[int, Field(ge=2, le=1_048_576)]
    """Longest sequence in tokens that may be trained on or rolled out."""
    actions: ActionsSpec = SlotActionsSpec(kind="slot")
    """How actions enter the sequence."""
    embedding: Literal["digits", "table"] = "digits"
    """Code embeddings: the sum of one vector for each FSQ digit (our choice), or a table with one for each code.

    With digits, a code's logit has a part for each of its digits too, besides its own.
    """
    previous_codes: bool = True
    """Add to each input the previous frame's code at the place that is predicted next (our choice).

    For the first frame it is the code that the context frame itself would get as a later frame.
    """
    places: bool = True
    """Add a learned vector for the place in the frame (our choice); rotary positions encode distances only.

    With a `table` embedding, without `previous_codes` and `places`, and actions of kind `tokens`, the model is a plain
    LLaMA (RLVR-World, with `still_tokens`): huggingface.py imports and exports its weights.
    """
    still_tokens: bool = False
    """Give the dynamics codes that the context frame gets as a later frame slots of their own, between the context and
    the first action (RLVR-World's sequence); without, they are known by `previous_codes` alone."""
    norm_epsilon: Annotated[float, Field(ge=1e-8, le=1e-3)] = 1e-5
    """Added to the mean square of RMSNorm (LLaMA)."""
    proprioception: ProprioceptionSpec | None = None
    """Give the robot's proprioception at the context frame to the model; null: the frame alone (paper)."""
    segment: SegmentSpec | None = SegmentSpec()
    """Training sequences, which the stage `tokens` encodes; null encodes none, for imported weights that are taken as
    they are (`training: {steps: 0}`)."""
    contexts: Literal[1, 2] = 1
    """Context frames of a prompt: 1 (paper), or 2: before the context, which sliding windows refresh with predicted
    frames, the true frame that the rollout began with (our choice; what `swr_two_contexts` needs). In training, the
    latter is the true frame that a re-encoded context comes from, so `segment.reencoded` must be above 0."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of what a layer adds to the residual stream that training sets to zero, against overfitting."""
    corruption: Fraction = 0.0
    """Share of the input dynamics codes that training replaces by codes drawn at random, against compounding errors."""
    context_corruption: Fraction = 0.0
    """The same share of the prompt's codes, against errors in contexts that are not true frames."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential average of the weights; the average is what is kept. 0 keeps the last weights."""
    change_weight: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Extra weight in the loss of tokens whose code differs from the previous frame's; 0 weighs all alike."""
    early_fraction: Fraction = 0.2
    """Share of the training steps after which early.safetensors is kept: a bad model for the bench's rollouts."""
    training: TrainingSpec
    """Optimisation."""
    init: Init | None = None
    """Origin of the initial weights; null starts from random ones."""
    measure: WorldModelMeasureSpec = WorldModelMeasureSpec()
    """Measurement."""

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        require_weights(self.training, self.init)
        if self.segment is None and self.training.steps:
            raise FieldError("segment", "is null, but training needs segments; give them, or set training.steps to 0")
        return self

    @property
    def longest_trained(self) -> int:
        """Most frames of a sequence that the stage runs: those of a segment, or of a measured rollout without one."""
        return self.measure.horizon if self.segment is None else self.segment.frames

    @field_validator("heads")
    @classmethod
    def _heads(cls, heads: int, info: ValidationInfo) -> int:
        hidden = info.data.get("hidden_size")
        if hidden is not None and (hidden % heads or hidden // heads % 2):
            raise ValueError(f"hidden_size ({hidden}) must be divisible by {heads} heads, into parts of an even width")
        return heads

    @field_validator("kv_heads")
    @classmethod
    def _kv_heads(cls, kv_heads: int, info: ValidationInfo) -> int:
        heads = info.data.get("heads")
        if heads is not None and heads % kv_heads:
            raise ValueError(f"heads ({heads}) must be divisible by kv_heads ({kv_heads})")
        return kv_heads

    @field_validator("contexts")
    @classmethod
    def _contexts(cls, contexts: int, info: ValidationInfo) -> int:
        segment = info.data.get("segment")
        if contexts == 2 and isinstance(segment, SegmentSpec) and segment.reencoded == 0:
            raise ValueError(
                "with segment.reencoded 0, both contexts of every training prompt are the same frame; raise that, or "
                "take 1 context"
            )
        return contexts

    @property
    def action_slots(self) -> int:
        """Slots of a frame that hold its action."""
        return 1 if self.actions.kind == "slot" else self.actions.width

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.heads

    def frame_tokens(self, dynamics_tokens: int) -> int:
        """Tokens of one frame: its action slots and its dynamics tokens."""
        return self.action_slots + dynamics_tokens

    def prefix_tokens(self, context_tokens: int, dynamics_tokens: int) -> int:
        """Tokens before those of the first frame: the contexts, of `context_tokens` tokens each, and `still_tokens`."""
        return self.contexts * context_tokens + (dynamics_tokens if self.still_tokens else 0)

    def sequence_tokens(self, context_tokens: int, dynamics_tokens: int, frames: int) -> int:
        """Tokens of a sequence of the prompt's contexts, of `context_tokens` tokens each, and `frames` frames."""
        return self.prefix_tokens(context_tokens, dynamics_tokens) + frames * self.frame_tokens(dynamics_tokens)

    def cache_bytes(self, tokens: int, rows: int = 1, width: int = 4) -> int:
        """Bytes of the key-value cache of `rows` sequences of `tokens` tokens, `width` bytes a number."""
        return 2 * self.layers * self.kv_heads * self.head_width * tokens * rows * width

    @property
    def layer_parameters(self) -> int:
        """Number of parameters of a layer."""
        key_value = self.kv_heads * self.head_width
        attention = self.hidden_size * (2 * self.hidden_size + 2 * key_value)
        return attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size

    def parameters(
        self,
        context_tokens: int,
        dynamics_tokens: int,
        context_levels: tuple[int, ...],
        dynamics_levels: tuple[int, ...],
        action_width: int,
        proprioception_width: int = 0,
    ) -> int:
        """Number of parameters of the model.

        Args:
            context_tokens: Tokens of a context frame.
            dynamics_tokens: Tokens of each later frame.
            context_levels: FSQ levels of the context tokens.
            dynamics_levels: FSQ levels of the dynamics tokens.
            action_width: Action dimensions of the widest source.
            proprioception_width: Dimensions of the widest source's proprioception.
        """
        vectors = _vectors(self.embedding, context_levels) + _vectors(self.embedding, dynamics_levels)
        vectors += _vectors(self.embedding, dynamics_levels) * self.previous_codes
        vectors += sum(dynamics_levels) if self.embedding == "digits" else 0
        vectors += self.actions.bins * (action_width if self.actions.kind == "slot" else 1)
        vectors += 2 * action_width if self.actions.kind == "slot" and self.actions.displacement else 0
        vectors += 2 * proprioception_width if self.proprioception is not None else 0
        vectors += self.sequence_tokens(context_tokens, dynamics_tokens, 1) * self.places
        return self.layers * self.layer_parameters + self.hidden_size * (vectors + 1 + _codes(dynamics_levels))


def _codes(levels: tuple[int, ...]) -> int:
    codes = 1
    for level in levels:
        codes *= level
    return codes


def _vectors(embedding: Literal["digits", "table"], levels: tuple[int, ...]) -> int:
    """Rows of the embedding of one FSQ vocabulary."""
    return sum(levels) if embedding == "digits" else _codes(levels)
