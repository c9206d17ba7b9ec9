"""Policies by name, and their evaluation in the simulators (the truth) and in the world models.

Defaults are our choice unless a source is named.
"""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from roboalign.rollout.spec import PolicyDecodingSpec, SwrSpec
from roboalign.spec.base import FieldError, Fraction, Name, Positive, Seed, Spec, Split, items
from roboalign.spec.training import RequiredTraining

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
"""A duration in seconds."""


Offset = Annotated[float, Field(ge=-1, le=1)]
"""A coordinate of a displacement in metres."""

Width = Annotated[int, Field(ge=8, le=1024, multiple_of=8)]
"""Number of channels."""


class ScriptedPolicySpec(Spec):
    """A scripted actor of the simulated robots (roboalign/sources/simulators). It reads the simulator's state, which a
    world model does not have, so the world model replays its actions open loop."""

    kind: Literal["scripted"]
    actor: Literal["expert", "wrong_goal", "random"] = "expert"
    """`expert` works towards the goal, `wrong_goal` towards another one, `random` wanders around the object."""
    noise: Fraction = 0.0
    """Standard deviation of the smooth noise on an expert's actions, in units of the largest action."""

    @model_validator(mode="after")
    def _noise_fits(self) -> Self:
        if self.noise > 0 and self.actor != "expert":
            raise FieldError("noise", f"noise is for the expert, and the actor is {self.actor}; set it to 0")
        return self


class ConstantPolicySpec(Spec):
    """The same action in every frame: a trivial baseline."""

    kind: Literal["constant"]
    action: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """Value of every dimension, from -1 (lower end of the source's measured range) to 1 (upper end)."""


class RandomPolicySpec(Spec):
    """Smooth random actions, independent of the image: a trivial baseline."""

    kind: Literal["random"]
    std: Positive = 0.5
    """Standard deviation, in units of half the source's measured range; actions are clipped to the range."""
    correlation: Fraction = 0.85
    """Correlation of an action with that of the frame before."""


class ConvolutionalCloningModelSpec(Spec):
    """A convolutional network of the image, and its training on successful demonstrations of the train split.

    Images are encoded to heat maps of three points, whose coordinates and local features predict the action together
    with the instruction (spatial softmax; Levine et al., arXiv 1504.00702).
    """

    kind: Literal["convolutional"]
    demonstrations: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Maximum number of demonstrations, taken from the tasks in turn."""
    successful: bool = True
    """Only take demonstrations that succeed; recordings of real robots count as successful."""
    widths: Annotated[tuple[Width, Width], items(2, 2)] = (16, 32)
    """Channels at one half and at one quarter of the image's resolution."""
    blocks: Annotated[int, Field(ge=0, le=64)] = 1
    """Residual blocks at one quarter of the resolution."""
    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 128
    """Width of the action head."""
    words: Annotated[int, Field(ge=1, le=512)] = 16
    """Maximum length of an instruction in words."""
    keypoint_weight: Annotated[float, Field(ge=0, le=100)] = 0.1
    """Weight of the loss of the heat maps against the projected points of gripper, object and goal, for sources whose
    episodes have them."""
    shift: Annotated[int, Field(ge=0, le=64)] = 2
    """Maximum random shift of training images in pixels, against overfitting (DrQ, arXiv 2004.13649)."""
    training: RequiredTraining
    """Steps, batches, learning rate."""


class PerceivedCloningModelSpec(Spec):
    """A small head on what a frozen state probe perceives, and its training on successful demonstrations of the train
    split. Quick to train; only for scenes that the probe knows."""

    kind: Literal["perceived"]
    probe: Literal["judge", "held_out"] = "held_out"
    """The state probe; not `gold`, which judges success."""
    demonstrations: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Maximum number of demonstrations, taken from the tasks in turn."""
    successful: bool = True
    """Only take demonstrations that succeed; recordings of real robots count as successful."""
    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 192
    """Width of the head."""
    layers: Annotated[int, Field(ge=1, le=64)] = 2
    """Residual layers of the head."""
    words: Annotated[int, Field(ge=1, le=512)] = 16
    """Maximum length of an instruction in words."""
    training: RequiredTraining
    """Steps, batches, learning rate."""


CloningModelSpec = Annotated[ConvolutionalCloningModelSpec | PerceivedCloningModelSpec, Field(discriminator="kind")]
"""The network of behaviour cloning."""


class BehaviorCloningSpec(Spec):
    """Behaviour cloning: predicts the action from image and instruction. Policies of equal `model` share the trained
    network."""

    kind: Literal["behavior_cloning"]
    model: CloningModelSpec
    """The network and its training."""
    noise: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Standard deviation of the smooth noise on the actions, in units of half the source's measured range; grades the
    quality of one network."""
    swap_instructions: bool = False
    """Give the policy the instruction of another task of its source, if there is one."""


class VisualServoingSpec(Spec):
    """A scripted controller on what a frozen state probe perceives, in closed loop in simulators and world models.

    The object is perceived in every frame, the goal in the first one. The gripper moves as its own actions say, by a
    calibration to the train split, and is corrected towards its perceived position. Only for robots whose action is a
    gripper displacement, with our controllers (Fetch, Panda); other sources are left out. A scene that the probe does
    not know gets the action 0.
    """

    kind: Literal["visual_servoing"]
    probe: Literal["judge", "held_out"] = "held_out"
    """The state probe; not `gold`, which judges success."""
    gain: Fraction = 0.02
    """Correction of the gripper's position towards the perceived one in each frame, as a fraction of the
    difference; 0 ignores what is perceived of the gripper, 1 takes it as it is."""
    goal_offset: tuple[Offset, Offset, Offset] = Field(default=(0.0, 0.0, 0.0), strict=False)
    """Displacement in metres of the goal that the controller works towards, from the perceived one; grades the
    quality without noise."""
    noise: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Standard deviation of the smooth noise on the actions, in units of half the source's measured range."""


class PolicyServerSpec(Spec):
    """A policy behind openpi's websocket protocol: MessagePack with numpy arrays, one request for each robot and frame
    (or for each chunk of actions that it answers)."""

    kind: Literal["server"]
    url: Annotated[str, Field(min_length=6, max_length=1000)]
    """Address, such as ws://localhost:8000."""
    image_key: Annotated[str, Field(min_length=1, max_length=200)] = "observation/image"
    """Key of the image (H, W, 3), uint8, in the request."""
    instruction_key: Annotated[str, Field(min_length=1, max_length=200)] = "prompt"
    """Key of the instruction."""
    action_key: Annotated[str, Field(min_length=1, max_length=200)] = "actions"
    """Key of the actions (C, A) or (A,), in the source's units, in the answer."""
    execute: Annotated[int, Field(ge=1, le=1024)] = 1
    """Actions of a chunk that are executed before the next request."""
    clip: bool = False
    """Clip actions beyond the source's measured range, as the controllers of robots do; if false, they are an error."""

    @model_validator(mode="after")
    def _is_websocket(self) -> Self:
        if urlsplit(self.url).scheme not in ("ws", "wss") or not urlsplit(self.url).hostname:
            raise FieldError("url", f"{self.url} is not the address of a websocket; write ws://HOST:PORT")
        return self


class PlannerSpec(Spec):
    """Model predictive control by the cross-entropy method: samples action sequences, rolls them out in the world
    model, and refits the distribution to those that the student scores highest."""

    kind: Literal["planner"]
    world_model: Literal["supervised", "aligned"] = "supervised"
    """The world model that it plans with."""
    horizon: Annotated[int, Field(ge=1, le=256)] = 10
    """Frames of a plan."""
    samples: Annotated[int, Field(ge=2, le=65_536)] = 32
    """Action sequences of an iteration."""
    elites: Annotated[int, Field(ge=1, le=65_536)] = 6
    """Sequences that the next iteration's distribution is fitted to; below `samples`."""
    iterations: Annotated[int, Field(ge=1, le=100)] = 3
    """Refits of a plan."""
    execute: Annotated[int, Field(ge=1, le=256)] = 5
    """Actions of a plan that are executed before the next plan; at most `horizon`."""
    std: Positive = 0.5
    """Initial standard deviation, in units of half the source's measured range."""
    correlation: Fraction = 0.7
    """Correlation of the sampled actions from frame to frame."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.elites >= self.samples:
            raise FieldError("elites", f"{self.elites} is not below samples ({self.samples}); lower it")
        if self.execute > self.horizon:
            raise FieldError("execute", f"{self.execute} is above the horizon ({self.horizon}); lower it")
        return self


PolicySpec = Annotated[
    ScriptedPolicySpec
    | ConstantPolicySpec
    | RandomPolicySpec
    | BehaviorCloningSpec
    | VisualServoingSpec
    | PolicyServerSpec
    | PlannerSpec,
    Field(discriminator="kind"),
]
"""A policy. Python callables and LeRobot's policies are given on the command line only, never in YAML."""

ActingPolicySpec = (
    ConstantPolicySpec | RandomPolicySpec | BehaviorCloningSpec | VisualServoingSpec | PolicyServerSpec | PlannerSpec
)
"""The policies that act on images, in simulators and in world models alike."""


class PoliciesSpec(Spec):
    """Policies, and how they are evaluated. Without policies, nothing is evaluated."""

    policies: Annotated[dict[Name, PolicySpec], Field(max_length=64)] = Field(default={})
    """Policies by name; the tables follow this order."""
    episodes: Annotated[int, Field(ge=2, le=100_000)] = 24
    """Held-out episodes of each source whose first frames the policies start from, spread evenly over the split."""
    split: Split = "test"
    """The split of these episodes. Choose recipes on `validation`."""
    horizon: Annotated[int, Field(ge=1, le=1024)] = 30
    """Frames of an episode, beyond the first one."""
    horizons: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], items(0, 16)] = ()
    """Shorter horizons at which agreement is measured too; none above `horizon`."""
    decoding: PolicyDecodingSpec = SwrSpec()
    """Decoding of the world models."""
    compared_decodings: Annotated[dict[Name, PolicyDecodingSpec], Field(max_length=8)] = Field(default={})
    """Further decodings of the supervised model, by name, for a table of their agreement."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Temperature of the world models; 0 takes the likeliest token. At 1 they show more of the true successes, but rank
    policies in closed loop less well (docs/policies.md)."""
    threshold: Fraction = 0.5
    """Probability of success, by the gold state probe, from which a frame of the world model counts as success."""
    near: Positive = 0.05
    """Distance in metres from the object in the last frame to the goal in the first, as perceived, up to which the
    judge `distance` counts a success. It does not forget a goal that the world model forgets."""
    replays: bool = True
    """Replay the actions that policies took in the simulator in the world models, too: the false and the missed
    success of sequences of known outcome."""
    other_frames: bool = True
    """Evaluate the policies in the supervised model from first frames of another task of their source: a baseline that
    does not see the scene."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Episodes in a world model at once; affects the speed, not the results."""
    time_limit: Seconds = 60.0
    """Maximum seconds of one step of a policy server, for all copies of an environment."""
    draws: Annotated[int, Field(ge=100, le=100_000)] = 2000
    """Bootstrap draws of policies and episodes."""
    clips: Annotated[int, Field(ge=0, le=64)] = 4
    """Episodes whose clips are kept for the report, in the simulator and in each world model."""
    seed: Seed = 0
    """Seed of policies and world models."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for index, horizon in enumerate(self.horizons):
            if horizon > self.horizon:
                raise FieldError(f"horizons.{index}", f"{horizon} is above the horizon ({self.horizon}); lower it")
        if "decoding" in self.compared_decodings:
            raise FieldError("compared_decodings", "the name `decoding` is taken; choose another")
        return self

    @property
    def cloning_models(self) -> dict[Name, CloningModelSpec]:
        """The networks to train: one for all policies of equal `model`, named after the first of them."""
        result: dict[Name, CloningModelSpec] = {}
        for name, policy in self.policies.items():
            if isinstance(policy, BehaviorCloningSpec) and policy.model not in result.values():
                result[name] = policy.model
        return result

    def network_of(self, model: CloningModelSpec) -> Name:
        """The name in `cloning_models` of the network of a model."""
        return next(name for name, each in self.cloning_models.items() if each == model)
