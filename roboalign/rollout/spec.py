"""Rollouts: the decodings, how far and from which models rollouts are made, and how their drift is measured.

A decoding is a method of rolling a world model out. Each has one spec class here, which knows the length of its
sequences and its requirements, and one step-wise class in a file of this folder, which `build.py` builds.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, ValidationInfo, field_validator, model_validator

from roboalign.spec.base import FieldError, Name, Positive, Seed, Spec, items

Frames = Annotated[int, Field(ge=1, le=10_000)]
"""A number of frames."""

ModelName = Literal["supervised", "aligned"]
"""The world model after supervised training, and after alignment."""

SamplingName = Literal["greedy", "sampled"]
"""`greedy` takes the likeliest token; `sampled` draws from the model's distribution at `temperature`."""

Segment = tuple[int, int]
"""Frames [start, stop), from 0, that are drawn under one context."""


class DecodingBase(Spec):
    """Base of the decodings: the properties that specs of other parts and the stages ask for."""

    sees_true_frames: ClassVar[bool] = False
    """Whether it needs the true future, which makes it an upper bound and rules it out for simulation."""
    needs_horizon: ClassVar[bool] = False
    """Whether its sequence grows with every frame, so that it needs room for all of them from the start."""
    measures_drift: ClassVar[bool] = False
    """Whether its window is measured on validation episodes before it can be built."""
    contexts: ClassVar[int] = 1
    """Context frames that the world model's prompt must have room for."""
    length_field: ClassVar[str | None] = None
    """The field that bounds the frames of a sequence, and may not be above the horizon; None without one."""

    @abstractmethod
    def peak_frames(self, horizon: int) -> int:
        """The most frames that stand in the sequence at once during a rollout of `horizon` frames."""

    def peak_sequence(self, horizon: int, context_tokens: int, frame_tokens: int) -> int:
        """Tokens of the longest sequence: the contexts and, for each frame, `frame_tokens` (its action's included).

        With the paper's 1280 context tokens, 93 a frame and 30 frames: 4070 for plain autoregression, 1838 with W = 6.
        """
        return context_tokens + self.peak_frames(horizon) * frame_tokens


class ArSpec(DecodingBase):
    """Plain autoregression: one context, a sequence that grows to the horizon (paper: the default)."""

    needs_horizon: ClassVar[bool] = True
    kind: Literal["ar"] = "ar"
    """The decoding."""

    def peak_frames(self, horizon: int) -> int:
        """All `horizon` frames."""
        return horizon

    def segments(self, horizon: int) -> list[Segment]:
        """The whole horizon as one segment."""
        return [(0, horizon)]


class WindowedSpec(DecodingBase):
    """Base of the decodings that reset the prompt under a fresh context every `window` frames."""

    length_field: ClassVar[str | None] = "window"
    window: Frames = 6
    """Frames of a segment; not above the horizon (paper: 6)."""

    def peak_frames(self, horizon: int) -> int:
        """The frames of one segment."""
        return min(self.window, horizon)

    def segments(self, horizon: int) -> list[Segment]:
        """One segment for each window; the last may be shorter."""
        return [(start, min(start + self.window, horizon)) for start in range(0, horizon, self.window)]


class SwrSpec(WindowedSpec):
    """Sliding window re-encoding: every `window` frames the last predicted frame is decoded to pixels, encoded as a
    fresh context, and the prompt is reset (paper)."""

    kind: Literal["swr"] = "swr"
    """The decoding."""


class AnchoredSwrSpec(WindowedSpec):
    """As `swr`, but the fresh context blends the first and the last frame: pixels that do not differ visibly are taken
    from the first, which is true (our choice; for static cameras)."""

    kind: Literal["swr_anchored"] = "swr_anchored"
    """The decoding."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Largest colour difference that does not count as motion; from there to twice as much, the last frame is blended
    in. Chosen on test episodes among .04 and .1."""


class TwoContextsSwrSpec(WindowedSpec):
    """As `swr`, but each prompt holds two contexts, that of the first frame, which is true, and the fresh one (our
    choice). Needs a world model of two contexts (`use.world_model=two_contexts`)."""

    contexts: ClassVar[int] = 2
    kind: Literal["swr_two_contexts"] = "swr_two_contexts"
    """The decoding."""


class TrueRefreshSpec(WindowedSpec):
    """As `swr`, but the fresh context is the *true* frame: an upper bound, namely refreshing without drift."""

    sees_true_frames: ClassVar[bool] = True
    kind: Literal["true_refresh"] = "true_refresh"
    """The decoding."""


class EntropySwrSpec(DecodingBase):
    """As `swr`, but each row is refreshed when the model becomes uncertain: before the first frame whose tokens have a
    mean entropy above `rise` times that of the segment's first `shortest` frames (our choice)."""

    kind: Literal["swr_entropy"] = "swr_entropy"
    """The decoding."""
    shortest: Frames = 3
    """Least frames of a segment."""
    longest: Frames = 12
    """Most frames of a segment; not below `shortest`. The horizon ends it in any case."""
    rise: Annotated[float, Field(ge=1, le=100)] = 1.2
    """Entropy, as a multiple of that of the segment's first frames, above which a row is refreshed."""

    @field_validator("longest")
    @classmethod
    def _check_order(cls, longest: int, info: ValidationInfo) -> int:
        if longest < info.data.get("shortest", longest):
            raise ValueError(f"{longest} is below shortest, {info.data['shortest']}; raise it")
        return longest

    def peak_frames(self, horizon: int) -> int:
        """The frames of the longest segment."""
        return min(self.longest, horizon)


class KvWindowSpec(DecodingBase):
    """A window over the key-value cache: the context stays as the attention sink, of the frames only the latest stay
    (StreamingLLM)."""

    length_field: ClassVar[str | None] = "frames"
    kind: Literal["kv_window"] = "kv_window"
    """The decoding."""
    frames: Frames = 8
    """Latest frames kept, including the one being drawn; not above the horizon (our choice: the trained length)."""

    def peak_frames(self, horizon: int) -> int:
        """The frames that are kept."""
        return min(self.frames, horizon)

    def segments(self, horizon: int) -> list[Segment]:
        """The whole horizon as one segment, since the context stays."""
        return [(0, horizon)]


class CarryTokensSpec(DecodingBase):
    """Segments that keep the *original* context and start from the last frame's *tokens* (RLVR-World's window)."""

    length_field: ClassVar[str | None] = "window"
    kind: Literal["carry_tokens"] = "carry_tokens"
    """The decoding."""
    window: Frames = 6
    """Frames of a segment, without the one carried over."""

    def peak_frames(self, horizon: int) -> int:
        """The frames of one segment, and the one carried over."""
        return min(self.window + 1, horizon)


class DriftSwrSpec(DecodingBase):
    """As `swr`, with the window that the drift measured on validation episodes predicts to be best (our choice)."""

    measures_drift: ClassVar[bool] = True
    kind: Literal["swr_drift"] = "swr_drift"
    """The decoding."""

    def peak_frames(self, horizon: int) -> int:
        """All `horizon` frames, since any window may turn out best."""
        return horizon


FixedDecodingSpec: TypeAlias = (
    ArSpec
    | SwrSpec
    | AnchoredSwrSpec
    | EntropySwrSpec
    | TwoContextsSwrSpec
    | KvWindowSpec
    | CarryTokensSpec
    | TrueRefreshSpec
)
"""A decoding with all of its numbers, which `build.py` can build."""

DecodingSpec: TypeAlias = Annotated[FixedDecodingSpec | DriftSwrSpec, Field(discriminator="kind")]
"""Any decoding, told apart by `kind`."""

PolicyDecodingSpec: TypeAlias = Annotated[ArSpec | SwrSpec | KvWindowSpec, Field(discriminator="kind")]
"""A decoding whose segments are known beforehand and that needs nothing but a world model of one context."""


class DriftSpec(Spec):
    """How error growth is measured, and the window that the measurement predicts (docs/paper.md, Proposition 1)."""

    ages: Annotated[tuple[Frames, ...], items(2)] = (1, 2, 4, 6, 8, 12, 16, 24, 30)
    """Ages of the context at which the one-step error is measured, up to the horizon; between them it is linear."""
    validation_episodes: Annotated[int, Field(ge=2, le=100_000)] = 16
    """Validation episodes on which it is measured to choose the window of `swr_drift`, spread evenly."""
    starts: Annotated[tuple[Frames, ...], items()] = (2, 8, 16)
    """Frames of true tokens before a paired rollout leaves the truth, each below the horizon (our choice)."""
    steps: Annotated[int, Field(ge=2, le=1000)] = 6
    """Frames over which the divergence of a pair is followed (our choice)."""


Names = Annotated[tuple[Name, ...], items()]
"""Names of decodings."""


BOUND = "true_refresh"
"""Beginning of the names of decodings that see true later frames: they are bounds, not models."""


def _default_decodings() -> dict[Name, DecodingSpec]:
    return {"ar": ArSpec(), "swr": SwrSpec(), "kv_window": KvWindowSpec(), "true_refresh": TrueRefreshSpec()}


def _default_sampling() -> dict[SamplingName, Names]:
    return {"greedy": ("ar", "swr", "kv_window", "true_refresh"), "sampled": ("ar", "swr", "kv_window")}


class RolloutSpec(Spec):
    """Rollouts of held-out test episodes by the supervised and the aligned model."""

    horizon: Frames = 30
    """Predicted frames of a rollout; clips also hold the context frame, at their start (paper: 30)."""
    episodes: Annotated[int, Field(ge=2, le=100_000)] = 24
    """Test episodes, spread evenly over the split; the same ones and the same seeds for every model and decoding."""
    scored_episodes: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Test episodes that the clips of `scored_decoding` cover, for scores with narrower intervals; with 0, or fewer
    than `episodes`, they cover those alone. Video metrics are of the `episodes`."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Episodes rolled out at once; changes the speed, not the result."""
    decodings: Annotated[dict[Name, DecodingSpec], Field(min_length=1, max_length=64)] = Field(
        default_factory=_default_decodings
    )
    """Decodings by name; the other fields refer to these names. One that no field names is not rolled out."""
    sampling: Annotated[dict[SamplingName, Names], Field(min_length=1)] = Field(default_factory=_default_sampling)
    """The decodings of the supervised model by sampling. The drift and the sweep are measured with the first."""
    aligned_decodings: Names = ("ar", "swr")
    """The decodings of the aligned model, each with the samplings that list it."""
    baseline: Name = "ar"
    """The decoding, of kind `ar`, that the others are compared with; every sampling and the aligned model have it."""
    scored_decoding: Name = "swr"
    """A decoding of kind `swr`: its clips cover `scored_episodes`, it shows other episodes' actions, and the drift's
    delta is that of its refreshes."""
    sweep: Annotated[tuple[Name, ...], items(0)] = ()
    """Decodings of kind `swr` whose windows are compared, beside the baseline and the scored decoding; their metrics
    are measured, their clips are not kept."""
    temperature: Positive = 1.0
    """Temperature of `sampled`."""
    best_of: Annotated[int, Field(ge=0, le=64)] = 4
    """Sampled rollouts of each scored episode by the scored decoding, of which the student picks the best (best-of-N at
    inference), by the supervised model and, if it has that decoding, by the aligned one; 0 makes none."""
    measured_every: Frames = 1
    """Frame stride of SSIM and the perceptual distances, which are slow; PSNR uses every frame. Choose one that does
    not divide the window, or all measured frames lie at the same place of their segments."""
    drift: DriftSpec = DriftSpec()
    """The measurement of drift."""
    seed: Seed = 0
    """Seed of sampling; the random stream of an episode is (seed, episode, sample) by absolute frame."""

    @field_validator("measured_every")
    @classmethod
    def _measured_fits(cls, every: int, info: ValidationInfo) -> int:
        if every > info.data.get("horizon", every):
            raise ValueError(f"{every} is above the horizon of {info.data['horizon']} frames; lower it")
        return every

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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field, name in self._references():
            if name not in self.decodings:
                raise FieldError(
                    field, f"'{name}' is not a name in decodings, which has {', '.join(self.decodings)}; add it there"
                )
        lists = {f"sampling.{sampling}": names for sampling, names in self.sampling.items()}
        lists["aligned_decodings"] = self.aligned_decodings
        for field, names in {**lists, "sweep": self.sweep}.items():
            if len(set(names)) != len(names):
                raise FieldError(field, "a decoding is listed twice; remove one")
        for field, names in lists.items():
            if self.baseline not in names:
                raise FieldError(
                    field, f"the baseline `{self.baseline}`, which the others are compared with, is missing; add it"
                )
        if not isinstance(self.decodings[self.baseline], ArSpec):
            raise FieldError("baseline", f"'{self.baseline}' is not of kind ar; name one that is")
        for field, name in (("scored_decoding", self.scored_decoding), *self._number_fields("sweep", self.sweep)):
            if not isinstance(self.decodings[name], SwrSpec):
                raise FieldError(field, f"'{name}' is not of kind swr; name one that is")
        for name, declared in self.decodings.items():
            if declared.sees_true_frames != name.startswith(BOUND):
                sees = "sees" if declared.sees_true_frames else "does not see"
                raise FieldError(
                    f"decodings.{name}",
                    f"it {sees} true later frames, and names of such decodings alone begin with {BOUND}, so that "
                    "tables show them as bounds; rename it",
                )
        for name, decoding in self.used_decodings.items():
            length = getattr(decoding, decoding.length_field or "", 0)
            if length > self.horizon:
                raise FieldError(
                    f"decodings.{name}.{decoding.length_field}",
                    f"{decoding.length_field} {length} is above the horizon of {self.horizon} frames; lower it",
                )
        return self

    def _references(self) -> list[tuple[str, Name]]:
        """Every name of a decoding, with the field that names it."""
        lists = [self._number_fields(f"sampling.{sampling}", names) for sampling, names in self.sampling.items()]
        lists += [
            self._number_fields("aligned_decodings", self.aligned_decodings),
            self._number_fields("sweep", self.sweep),
        ]
        single = [("baseline", self.baseline), ("scored_decoding", self.scored_decoding)]
        return [reference for references in (single, *lists) for reference in references]

    @staticmethod
    def _number_fields(field: str, names: tuple[Name, ...]) -> list[tuple[str, Name]]:
        return [(f"{field}.{index}", name) for index, name in enumerate(names)]

    @property
    def best_of_models(self) -> tuple[ModelName, ...]:
        """The models whose samples best-of-N picks from."""
        if self.best_of == 0:
            return ()
        return ("supervised", "aligned") if self.scored_decoding in self.aligned_decodings else ("supervised",)

    @property
    def used_decodings(self) -> dict[Name, DecodingBase]:
        """The decodings that are rolled out, by name."""
        return {name: self.decodings[name] for _, name in self._references()}

    @property
    def temperatures(self) -> dict[SamplingName, float]:
        """The temperature of each sampling; 0 takes the likeliest token."""
        return {"greedy": 0.0, "sampled": self.temperature}

    @property
    def first_sampling(self) -> SamplingName:
        """The sampling that the drift and the sweep are measured with."""
        return next(iter(self.sampling))

    @property
    def swr(self) -> SwrSpec:
        """The scored decoding."""
        decoding = self.decodings[self.scored_decoding]
        assert isinstance(decoding, SwrSpec)
        return decoding

    @property
    def windows(self) -> list[int]:
        """The windows of the sweep, ascending; the widest, the horizon, is plain autoregression."""
        swept = [self.decodings[name] for name in (*self.sweep, self.scored_decoding)]
        return sorted({self.horizon, *(decoding.window for decoding in swept if isinstance(decoding, SwrSpec))})
