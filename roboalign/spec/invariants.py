"""Invariants between parts, checked before any compute. Each violation names the field to change."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from roboalign.policies.spec import VisualServoingSpec
from roboalign.probe.spec import ProbeName
from roboalign.reward.spec import RewardModelSpec
from roboalign.sources.simulators.spec import DisplacementRobotSpec
from roboalign.sources.spec import SimulatedRobotSpec
from roboalign.spec.estimates import estimates
from roboalign.spec.experiment import Experiment

VOCABULARY = 65_536
"""Maximum number of codes of a branch: the largest that the FSQ paper evaluates, and for larger ones the softmax would
dominate a small model."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated invariant; `field` is the dotted path of the field to change, starting with its section."""

    field: str
    message: str


def violations(experiment: Experiment) -> Iterator[Violation]:
    """All violations of an experiment whose parts are each valid."""
    yield from sizes(experiment)
    yield from lengths(experiment)
    yield from positions(experiment)
    yield from decodings(experiment)
    yield from actions(experiment)
    yield from proprioception(experiment)
    yield from splits(experiment)
    yield from vocabulary(experiment)
    yield from weights(experiment)
    yield from samples(experiment)
    yield from perceptions(experiment)
    yield from batches(experiment)
    yield from devices(experiment)
    yield from policies(experiment)


def sizes(experiment: Experiment) -> Iterator[Violation]:
    """All images have the tokenizer's size."""
    tokenizer = experiment.tokenizer
    for name, source in experiment.sources.items():
        for side, actual, expected in zip(
            ("height", "width"), source.image_size, (tokenizer.height, tokenizer.width), strict=True
        ):
            if actual != expected:
                yield Violation(
                    f"sources.{name}.image.{side}",
                    f"images are {actual} pixels in {side}, but tokenizer.{side} is {expected}; make them equal",
                )
    image_size = tokenizer.height, tokenizer.width
    for part in ("judge", "held_out", "student"):
        scorer = getattr(experiment, part)
        appearance = scorer.encoder.appearance if isinstance(scorer, RewardModelSpec) else None
        if appearance is not None and appearance.image_size not in (None, image_size):
            yield Violation(
                f"{part}.encoder.appearance.image_size",
                f"must equal the tokenizer's image size {list(image_size)}; change it or remove it",
            )


def lengths(experiment: Experiment) -> Iterator[Violation]:
    """Every segment, with its context frame, fits into the shortest episodes."""
    shortest = min(experiment.sources, key=lambda name: experiment.sources[name].length)
    frames = experiment.sources[shortest].length
    needs = {
        "tokenizer.samples.horizon": experiment.tokenizer.samples.horizon + 1,
        "world_model.measure.horizon": experiment.world_model.measure.horizon + 1,
        **{f"probe.{name}.frames": getattr(experiment.probe, name).frames for name in get_args(ProbeName)},
        **{
            f"probe.{name}.measure.frames": getattr(experiment.probe, name).measure.frames + 1
            for name in get_args(ProbeName)
        },
        "bench.min_frames": experiment.bench.min_frames,
        "bench.generated.frames": experiment.bench.generated.frames + 1,
        **{f"bench.groups.{index}.frames": g.frames + 1 for index, g in enumerate(experiment.bench.groups)},
        "rl.horizon": experiment.rl.horizon + 1,
        "rollout.horizon": experiment.rollout.horizon + 1,
    }
    if experiment.world_model.segment is not None:
        needs["world_model.segment.frames"] = experiment.world_model.segment.frames + 1
    for field, needed in needs.items():
        if needed > frames:
            yield Violation(
                field,
                f"sources.{shortest} has episodes of {frames} frames, {needed - frames} fewer than needed; lower this "
                f"by {needed - frames}, or raise sources.{shortest}.length to {needed}",
            )


def positions(experiment: Experiment) -> Iterator[Violation]:
    """Every token sequence fits into the world model's `max_position_embeddings`."""
    tokenizer, model, rollout = experiment.tokenizer, experiment.world_model, experiment.rollout
    tokens, generated = (tokenizer.context_tokens, tokenizer.dynamics_tokens), experiment.bench.generated
    frame = model.frame_tokens(tokenizer.dynamics_tokens)
    needs = {
        "world_model.measure.horizon": model.sequence_tokens(*tokens, model.measure.horizon),
        "bench.generated.frames": model.sequence_tokens(*tokens, generated.decoding.peak_frames(generated.frames)),
        "rl.horizon": model.sequence_tokens(*tokens, experiment.rl.decoding.peak_frames(experiment.rl.horizon)),
    }
    if model.segment is not None:
        needs["world_model.segment.frames"] = model.sequence_tokens(*tokens, model.segment.frames)
    for index, groups in enumerate(experiment.bench.groups):
        peak = groups.decoding.peak_frames(groups.frames)
        needs[f"bench.groups.{index}.frames"] = model.sequence_tokens(*tokens, peak)
    for name, decoding in rollout.used_decodings.items():
        limit = decoding.length_field
        field = "rollout.horizon" if limit is None else f"rollout.decodings.{name}.{limit}"
        length = decoding.peak_sequence(rollout.horizon, model.prefix_tokens(*tokens), frame)
        needs[field] = max(needs.get(field, 0), length)
    longest = max(needs, key=lambda field: needs[field])
    if needs[longest] > model.max_position_embeddings:
        yield Violation(
            "world_model.max_position_embeddings",
            f"a sequence of {needs[longest]} tokens ({longest}) does not fit into {model.max_position_embeddings} "
            f"positions; raise them to {needs[longest]}, or lower {longest}",
        )


def decodings(experiment: Experiment) -> Iterator[Violation]:
    """The world model and the sources have what each decoding and the RL guard need."""
    validated = any(source.split.validation for source in experiment.sources.values())
    if experiment.rl.guard is not None and not validated:
        yield Violation(
            "rl.guard",
            "the guard measures the policy on validation episodes, and no source has any; set a source's "
            "split.validation above 0, or set the guard to null",
        )
    for name, decoding in experiment.rollout.used_decodings.items():
        if decoding.measures_drift and not validated:
            yield Violation(
                f"rollout.decodings.{name}",
                f"the decoding {name} measures its window on validation episodes, and no source has any; set a "
                "source's split.validation above 0, or remove the decoding",
            )
        if decoding.contexts > experiment.world_model.contexts:
            yield Violation(
                "world_model.contexts",
                f"rollout uses the decoding {name}, which needs a world model with {decoding.contexts} contexts; set "
                f"this to {decoding.contexts} (use.world_model: two_contexts), or remove the decoding",
            )


def actions(experiment: Experiment) -> Iterator[Violation]:
    """The actions of every source fit into the world model's action slots."""
    form = experiment.world_model.actions
    if form.kind == "tokens":
        for name, source in experiment.sources.items():
            if source.action_width > form.width:
                yield Violation(
                    "world_model.actions.width",
                    f"sources.{name} has {source.action_width} action dimensions, more than the {form.width} slots; "
                    f"raise this to {source.action_width}",
                )


def proprioception(experiment: Experiment) -> Iterator[Violation]:
    """A world model that is given proprioception has a source that records it."""
    recorded = any(source.proprioception_width for source in experiment.sources.values())
    if experiment.world_model.proprioception is not None and not recorded:
        yield Violation(
            "world_model.proprioception",
            "no source reads proprioception; list its columns in a source's proprioception, or set this to null",
        )


def splits(experiment: Experiment) -> Iterator[Violation]:
    """Every source has training and test episodes, and at least one source is not held out from the judge."""
    held_out = experiment.bench.held_out_sources
    for index, name in enumerate(held_out):
        if name not in experiment.sources:
            yield Violation(
                f"bench.held_out_sources.{index}",
                f"the experiment has no source {name}; it has {', '.join(experiment.sources)}",
            )
    if set(experiment.sources) <= set(held_out):
        yield Violation("bench.held_out_sources", "every source is held out, so training would have none; remove one")
    for name, source in experiment.sources.items():
        for split in ("train", "test"):
            if getattr(source.split, split) == 0:
                yield Violation(
                    f"sources.{name}.split.{split}",
                    f"the {split} split has no episodes; set it above 0",
                )


def vocabulary(experiment: Experiment) -> Iterator[Violation]:
    """The number of FSQ codes of each branch is at most VOCABULARY."""
    for branch in ("context", "dynamics"):
        codes = getattr(experiment.tokenizer, f"{branch}_codes")
        if codes > VOCABULARY:
            yield Violation(
                f"tokenizer.{branch}_levels",
                f"their product is {codes:,} codes, more than {VOCABULARY:,}; use fewer or lower levels",
            )


def weights(experiment: Experiment) -> Iterator[Violation]:
    """Every degradation of the bench lowers at least one of the reward's dimensions, so that scorers can learn it."""
    if experiment.bench.origins.degraded == 0:
        return
    measured = {dimension.labeller.kind for dimension in experiment.reward.dimensions.values()}
    for index, degradation in enumerate(experiment.bench.degradations):
        if not measured & degradation.lowers.keys():
            yield Violation(
                f"bench.degradations.{index}.lowers",
                f"no dimension of the reward is labelled by {', '.join(degradation.lowers)}, so the degradation "
                f"'{degradation.kind}' would change no score; add such a dimension, or remove this degradation",
            )


def perceptions(experiment: Experiment) -> Iterator[Violation]:
    """Judges have the inputs and the models that their scores need.

    Faithful scores need actions, judges need an outcome model, and sources without simulator states need reward models
    with an appearance backbone, because no state probe can be trained for them.
    """
    judge, signal = experiment.judge, experiment.rl.reward
    if not judge.scores_faithfulness:
        terms = [term.signal for term in signal.terms] if signal.kind == "sum" else [signal]
        if any(term.kind in ("distilled", "judge") and getattr(term, "variant", "") == "faithful" for term in terms):
            yield Violation(
                "judge.inputs",
                "rl.reward uses faithful scores, which this judge gives only if it reads actions; add actions, or set "
                "rl.reward.variant to absolute",
            )
    for name in ("judge", "held_out"):
        if getattr(experiment.probe, name).outcome is None:
            yield Violation(
                f"probe.{name}.outcome", f"the {name} judge needs an outcome model of the actions; set this"
            )
    unseen = [name for name, source in experiment.sources.items() if not isinstance(source, SimulatedRobotSpec)]
    for part in ("judge", "held_out", "student"):
        scorer = getattr(experiment, part)
        if isinstance(scorer, RewardModelSpec) and unseen and scorer.encoder.appearance is None:
            yield Violation(
                f"{part}.encoder.appearance",
                f"{', '.join(unseen)} has no simulator states, so no state probe covers it; name a backbone, such as "
                "{backbone: resnet10t, level: 3, frames: 4}",
            )


def samples(experiment: Experiment) -> Iterator[Violation]:
    """The Fréchet distance has at least as many frames as its feature covariance needs."""
    spec, rollout = experiment.evaluation.frechet, experiment.rollout
    if spec is None:
        return
    frames = rollout.episodes * (rollout.horizon // rollout.measured_every)
    if frames < spec.samples:
        yield Violation(
            "evaluation.frechet.dimension",
            f"{spec.dimension} dimensions of features and as many of their changes need {spec.samples} measured "
            f"frames, and the rollouts have at most {frames} (episodes x horizon / measured_every); "
            + (f"lower this to {(frames - 1) // 2}" if frames > 2 else "set evaluation.frechet to null"),
        )


def batches(experiment: Experiment) -> Iterator[Violation]:
    """Batch sizes are divisible by the number of devices, of micro-batches and of the members that share a batch."""
    ranks, micro_batches = experiment.hardware.device.ranks, experiment.hardware.micro_batches
    parts = {part: getattr(experiment, part) for part in ("tokenizer", "world_model", "judge", "held_out", "student")}
    parts |= {f"probe.{name}": getattr(experiment.probe, name) for name in get_args(ProbeName)}
    parts |= {f"{part}.outcome": spec.outcome for part, spec in parts.items() if part.startswith("probe.")}
    parts |= {f"policies.policies.{name}.model": model for name, model in experiment.policies.cloning_models.items()}
    for part, spec in parts.items():
        if not hasattr(spec, "training"):  # a judge behind a server; no outcome model
            continue
        stage = {"held_out": "judge"}.get(part, part.split(".")[0])
        count, members = getattr(micro_batches, stage), getattr(spec, "members", 1)
        size, field = spec.training.batch_size, f"{part}.training.batch_size"
        if size % ranks:
            yield _indivisible(field, size, ranks)
        elif count > 1 and size % (ranks * count * members):
            shared = f", {members} members" if members > 1 else ""
            yield Violation(
                f"hardware.micro_batches.{stage}",
                f"{field} ({size}) must be divisible by {count} micro-batches x {ranks} devices{shared}; change one of "
                "them",
            )
    if experiment.rl.training.batch_size % ranks:
        yield _indivisible("rl.training.batch_size", experiment.rl.training.batch_size, ranks)


def _indivisible(field: str, size: int, ranks: int) -> Violation:
    """A batch size that is not divisible by the number of devices."""
    return Violation(field, f"{size} must be divisible by the number of devices ({ranks}); change one of them")


def devices(experiment: Experiment) -> Iterator[Violation]:
    """Processes can start on all nodes, and the estimated memory fits."""
    device, limit = experiment.hardware.device, experiment.hardware.limits.memory_gb
    if device.nodes > 1 and experiment.hardware.launcher != "srun":
        yield Violation("hardware.launcher", "torchrun starts processes on one machine; several nodes need srun")
    rows, ram = estimates(experiment), experiment.hardware.limits.ram_gb
    for row in rows:
        if row.memory_gb is not None and row.memory_gb > limit:
            yield Violation(
                row.field,
                f"the stage {row.part} needs about {row.memory_gb:.3g} GB of memory, and hardware.limits.memory_gb is "
                f"{limit:g}; {'raise' if 'micro_batches' in row.field else 'lower'} this, or choose hardware with more "
                "memory",
            )
    needed, stage = max((row.ram_gb or 0.0, row.part) for row in rows)
    if needed > ram:
        yield Violation(
            "hardware.limits.ram_gb",
            f"the stage {stage} needs about {needed:.3g} GB of RAM, and this is {ram:g}; raise it if the "
            "machine has more, or lower the stage's batch size or hardware.device.loader_workers",
        )


def policies(experiment: Experiment) -> Iterator[Violation]:
    """Policies have simulators as truth, held-out episodes to start from, and positions for their horizon."""
    spec, model = experiment.policies, experiment.world_model
    if not spec.policies:
        return
    robots = {name: each for name, each in experiment.sources.items() if isinstance(each, SimulatedRobotSpec)}
    if not robots:
        yield Violation("policies.policies", "no source is a simulated robot, in which policies could act; remove them")
    if not any(isinstance(each, DisplacementRobotSpec) for each in robots.values()):
        for name, policy in spec.policies.items():
            if isinstance(policy, VisualServoingSpec):
                yield Violation(
                    f"policies.policies.{name}.kind",
                    "no source has a scripted controller of gripper displacements, which visual_servoing needs; "
                    "record one of the kinds fetch and panda, or remove the policy",
                )
    for name, source in robots.items():
        if getattr(source.split, spec.split) == 0:
            yield Violation(
                f"sources.{name}.split.{spec.split}",
                f"policies.split is {spec.split}, and this split has no episodes; set it above 0",
            )
    tokens = experiment.tokenizer.context_tokens, experiment.tokenizer.dynamics_tokens
    for field, decoding in {
        "decoding": spec.decoding,
        **{f"compared_decodings.{name}": each for name, each in spec.compared_decodings.items()},
    }.items():
        length = model.sequence_tokens(*tokens, decoding.peak_frames(spec.horizon))
        if length > model.max_position_embeddings:
            yield Violation(
                f"policies.{field}",
                f"a sequence of {length} tokens over policies.horizon ({spec.horizon} frames) does not fit into "
                f"world_model.max_position_embeddings ({model.max_position_embeddings}); choose one with a window",
            )
