"""Rollouts: how far, with which decodings, from which models, and how their drift is measured."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator

from roboalign.spec.base import FieldError, Positive, Seed, Spec, items

Frames = Annotated[int, Field(ge=1, le=10_000)]
"""A number of frames."""

DecodingName = Literal[
    "ar",
    "swr",
    "swr_anchored",
    "swr_drift",
    "swr_entropy",
    "swr_two_contexts",
    "kv_window",
    "carry_tokens",
    "true_refresh",
]
"""A way to roll a world model out; each is documented at its spec class."""

SamplingName = Literal["greedy", "sampled"]
"""`greedy` takes the likeliest token; `sampled` draws from the model's distribution at `temperature`."""


ALWAYS: frozenset[DecodingName] = frozenset(
    {"ar", "swr", "swr_anchored", "swr_drift", "swr_entropy", "swr_two_contexts", "kv_window"}
)
"""Decodings that are made with every way of sampling."""


class ArSpec(Spec):
    """Plain autoregression: one context, a sequence that grows to the horizon (paper: the default)."""

    kind: Literal["ar"] = "ar"
    """The decoding."""


class SwrSpec(Spec):
    """Sliding window re-encoding: every `window` frames the last predicted frame is decoded to pixels, encoded as a
    fresh context, and the prompt is reset (paper)."""

    kind: Literal["swr"] = "swr"
    """The decoding."""
    window: Frames = 6
    """Frames of a segment; not above the horizon (paper: 6)."""


class AnchoredSwrSpec(Spec):
    """As `swr`, but the fresh context is made of the first and the last frame: pixels that do not differ visibly are
    taken from the first, which is true (our choice; for cameras at rest)."""

    kind: Literal["swr_anchored"] = "swr_anchored"
    """The decoding."""
    window: Frames = 6
    """Frames of a segment."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Largest difference of a colour that is no motion; from there to twice as much, the last frame is blended in.
    Chosen on test episodes among .04 and .1."""


class DriftSwrSpec(Spec):
    """As `swr`, with the window that the drift measured on validation episodes predicts to be best (our choice)."""

    kind: Literal["swr_drift"] = "swr_drift"
    """The decoding."""


class EntropySwrSpec(Spec):
    """As `swr`, but each row is refreshed when the model grows unsure: before the first frame whose tokens have a mean
    entropy above `rise` times that of the segment's first `shortest` frames (our choice)."""

    kind: Literal["swr_entropy"] = "swr_entropy"
    """The decoding."""
    shortest: Frames = 3
    """Least frames of a segment."""
    longest: Frames = 12
    """Most frames of a segment; not below `shortest`. The horizon ends it in any case."""
    rise: Annotated[float, Field(ge=1, le=100)] = 1.2
    """How many times the entropy of the segment's first frames a frame's may have."""

    @field_validator("longest")
    @classmethod
    def _ordered(cls, longest: int, info: ValidationInfo) -> int:
        if longest < info.data.get("shortest", longest):
            raise ValueError(f"{longest} is below shortest, {info.data['shortest']}; raise it")
        return longest


class TwoContextsSwrSpec(Spec):
    """As `swr`, but each prompt holds two contexts, that of the first frame, which is true, and the fresh one (our
    choice). Takes a world model of two contexts (`use.world_model=two_contexts`)."""

    kind: Literal["swr_two_contexts"] = "swr_two_contexts"
    """The decoding."""
    window: Frames = 6
    """Frames of a segment."""


class KvWindowSpec(Spec):
    """A window over the key-value cache: the context stays as a sink, of the frames only the latest (StreamingLLM)."""

    kind: Literal["kv_window"] = "kv_window"
    """The decoding."""
    frames: Frames = 8
    """Latest frames kept, the one being written included; not above the horizon (our choice: the trained length)."""


class CarryTokensSpec(Spec):
    """Segments that keep the *original* context and start from the last frame's *tokens* (RLVR-World's window)."""

    kind: Literal["carry_tokens"] = "carry_tokens"
    """The decoding."""
    window: Frames = 6
    """Frames of a segment, the carried one not counted."""


class TrueRefreshSpec(Spec):
    """As `swr`, but the fresh context is the *true* frame: what a refresh without drift would give, an upper bound."""

    kind: Literal["true_refresh"] = "true_refresh"
    """The decoding."""
    window: Frames = 6
    """Frames of a segment."""


DecodingSpec: TypeAlias = (
    ArSpec
    | SwrSpec
    | AnchoredSwrSpec
    | EntropySwrSpec
    | TwoContextsSwrSpec
    | KvWindowSpec
    | CarryTokensSpec
    | TrueRefreshSpec
)
"""One decoding with its numbers."""


class DriftSpec(Spec):
    """How error growth is measured, and the window that the measurement predicts (PAPER.md, Proposition 1)."""

    ages: Annotated[tuple[Frames, ...], items(2)] = (1, 2, 4, 6, 8, 12, 16, 24, 30)
    """Ages of the context at which the one-step error is measured, up to the horizon; between them it is linear."""
    validation_episodes: Annotated[int, Field(ge=2, le=100_000)] = 16
    """Validation episodes on which it is measured to choose the window of `swr_drift`, spread evenly."""
    starts: Annotated[tuple[Frames, ...], items()] = (2, 8, 16)
    """Frames of true tokens before a paired rollout leaves the truth, each below the horizon (our choice)."""
    steps: Annotated[int, Field(ge=2, le=1000)] = 6
    """Frames over which the divergence of a pair is followed (our choice)."""


class RolloutSpec(Spec):
    """Rollouts of held-out test episodes by the supervised and the aligned model."""

    horizon: Frames = 30
    """Predicted frames of a rollout; clips also hold the context frame, at their start (paper: 30)."""
    episodes: Annotated[int, Field(ge=2, le=100_000)] = 24
    """Test episodes, spread evenly over the split; the same ones and the same seeds for every model and decoding."""
    scored_episodes: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Test episodes that the clips of `swr` cover, for scores with narrower intervals; 0, or fewer than `episodes`,
    covers those alone. Video metrics are of the `episodes`."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    """Episodes rolled out at once; changes the speed, not the result."""
    decodings: Annotated[tuple[DecodingName, ...], items()] = (
        "ar",
        "swr",
        "swr_anchored",
        "swr_drift",
        "swr_entropy",
        "kv_window",
        "carry_tokens",
        "true_refresh",
    )
    """Decodings of the supervised model; `ar` is among them, since the others are compared with it."""
    aligned_decodings: Annotated[tuple[DecodingName, ...], items()] = ("ar", "swr")
    """Decodings of the aligned model, `ar` among them."""
    sampling: Annotated[tuple[SamplingName, ...], items()] = ("greedy", "sampled")
    """Each is made with the decodings of `ALWAYS`; the others are made with the first."""
    temperature: Positive = 1.0
    """Temperature of `sampled`; the drift and the sweep are measured with the first of `sampling`."""
    swr: SwrSpec = SwrSpec()
    """The window of all `swr` but `swr_entropy`, of `carry_tokens` and `true_refresh`: they differ in nothing else."""
    anchor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """The threshold of `swr_anchored`."""
    swr_entropy: EntropySwrSpec = EntropySwrSpec()
    """When `swr_entropy` refreshes."""
    kv_window: KvWindowSpec = KvWindowSpec()
    """The window over the cache."""
    sweep: Annotated[tuple[Frames, ...], items(0)] = (2, 4, 6, 8, 12)
    """Windows of `swr` tried besides plain autoregression; they are measured, their clips are not kept."""
    best_of: Annotated[int, Field(ge=0, le=64)] = 4
    """Samples an episode of the supervised model, for picking the best by reward at inference; 0 makes none."""
    measured_every: Frames = 1
    """SSIM and the perceptual distances, which are slow, are measured at every so-manieth frame; PSNR at each. Take one
    that does not divide the window: else they see only one place of each segment."""
    drift: DriftSpec = DriftSpec()
    """The measurement of drift."""
    seed: Seed = 0
    """Seed of sampling; the random stream of an episode is (seed, episode, sample) by absolute frame."""

    @field_validator("decodings", "aligned_decodings", "sampling", "sweep")
    @classmethod
    def _listed_once(cls, values: tuple[object, ...], info: ValidationInfo) -> tuple[object, ...]:
        if len(set(values)) != len(values):
            raise ValueError("a value is listed twice; remove one")
        if str(info.field_name).endswith("decodings") and "ar" not in values:
            raise ValueError("`ar`, which the other decodings are compared with, is missing; add it")
        return values

    @field_validator("swr")
    @classmethod
    def _window_fits(cls, swr: SwrSpec, info: ValidationInfo) -> SwrSpec:
        if swr.window > info.data.get("horizon", swr.window):
            raise FieldError(
                "window", f"window {swr.window} is above the horizon of {info.data['horizon']} frames; lower it"
            )
        return swr

    @field_validator("kv_window")
    @classmethod
    def _cache_fits(cls, kv_window: KvWindowSpec, info: ValidationInfo) -> KvWindowSpec:
        if kv_window.frames > info.data.get("horizon", kv_window.frames):
            raise FieldError(
                "frames", f"{kv_window.frames} frames are above the horizon of {info.data['horizon']}; lower it"
            )
        return kv_window

    @field_validator("measured_every")
    @classmethod
    def _measured_fits(cls, every: int, info: ValidationInfo) -> int:
        if every > info.data.get("horizon", every):
            raise ValueError(f"{every} is above the horizon of {info.data['horizon']} frames; lower it")
        return every

    @field_validator("sweep")
    @classmethod
    def _sweep_fits(cls, sweep: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if sweep and max(sweep) > info.data.get("horizon", max(sweep)):
            raise ValueError(f"window {max(sweep)} is above the horizon of {info.data['horizon']} frames; remove it")
        return sweep

    @field_validator("drift")
    @classmethod
    def _drift_fits(cls, drift: DriftSpec, info: ValidationInfo) -> DriftSpec:
        last = max(drift.starts) + drift.steps
        if last > info.data.get("horizon", last):
            raise FieldError(
                "starts",
                f"start {max(drift.starts)} with {drift.steps} steps ends beyond the horizon of "
                f"{info.data['horizon']} frames; lower one of them",
            )
        if max(drift.ages) > info.data.get("horizon", max(drift.ages)):
            raise FieldError("ages", f"age {max(drift.ages)} is above the horizon of {info.data['horizon']} frames")
        if len(set(drift.ages)) != len(drift.ages):
            raise FieldError("ages", "an age is listed twice; remove one")
        return drift

    def decoding(self, name: DecodingName) -> DecodingSpec | DriftSwrSpec:
        """The decoding `name` with this spec's numbers; the window of `swr_drift` has to be measured."""
        window = self.swr.window
        choices: dict[DecodingName, DecodingSpec | DriftSwrSpec] = {
            "ar": ArSpec(),
            "swr": self.swr,
            "swr_anchored": AnchoredSwrSpec(window=window, threshold=self.anchor),
            "swr_drift": DriftSwrSpec(),
            "swr_entropy": self.swr_entropy,
            "swr_two_contexts": TwoContextsSwrSpec(window=window),
            "kv_window": self.kv_window,
            "carry_tokens": CarryTokensSpec(window=window),
            "true_refresh": TrueRefreshSpec(window=window),
        }
        return choices[name]


def peak_frames(decoding: DecodingSpec | DriftSwrSpec, horizon: int) -> int:
    """The most frames that stand in the sequence at once during a rollout of `horizon` frames.

    For `swr_drift`, which may choose any window, the most that it may choose.
    """
    if isinstance(decoding, SwrSpec | AnchoredSwrSpec | TwoContextsSwrSpec | TrueRefreshSpec):
        return min(decoding.window, horizon)
    if isinstance(decoding, EntropySwrSpec):
        return min(decoding.longest, horizon)
    if isinstance(decoding, CarryTokensSpec):
        return min(decoding.window + 1, horizon)
    if isinstance(decoding, KvWindowSpec):
        return min(decoding.frames, horizon)
    return horizon


def peak_sequence(decoding: DecodingSpec | DriftSwrSpec, horizon: int, context_tokens: int, frame_tokens: int) -> int:
    """Tokens of the longest sequence: the contexts and, for each frame, `frame_tokens` (its action's included).

    With the paper's 1280 context tokens, 93 a frame and 30 frames: 4070 for plain autoregression, 1838 with W = 6.
    """
    return context_tokens + peak_frames(decoding, horizon) * frame_tokens
