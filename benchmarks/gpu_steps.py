"""Training steps and an alignment step for benchmarks/gpu.py, with the losses and optimizers of the stages."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_setup import Clock, Row, Setup
from roboalign.hardware.spec import SamplerSpec
from roboalign.optimizer import build_optimizer, is_layer_matrix
from roboalign.spec.training import TrainingSpec
from roboalign.world_model.model import token_loss
from roboalign.world_model.sampler import Sampler

STEPS = {"paper": 3, "small": 1}
"""Timed steps, after one that warms up."""


def build_student(setup: Setup) -> Any:
    """A student with random weights, whose probe knows no scene."""
    from roboalign.probe.model import Probe
    from roboalign.probe.outcome import OutcomeModel
    from roboalign.probe.spec import OutcomeSpec
    from roboalign.reward.text import Vocabulary
    from roboalign.student.model import Student

    experiment = setup.experiment
    size, words = (experiment.tokenizer.height, experiment.tokenizer.width), experiment.student.encoder.text.words
    spec = experiment.probe.judge
    probe, outcome = Probe(spec, [], size), OutcomeModel(spec.outcome or OutcomeSpec(), 0, setup.action_width)
    vocabulary = Vocabulary.of(["open the drawer"], words)
    student = Student(experiment.student, experiment.reward, vocabulary, setup.action_width, probe, outcome)
    return student.to(setup.device)


def measure_alignment(setup: Setup) -> list[Row]:
    """A GRPO step of one device by phase, in micro-batches."""
    from roboalign.reward.rewards import Rollouts
    from roboalign.rl.grpo import grpo, token_log_probabilities
    from roboalign.rl.rollouts import PolicyRollouts, Window, split_rows
    from roboalign.tokenizer.batch_invariant import BatchInvariantTokenizer
    from roboalign.tokenizer.model import build_tokenizer

    experiment, rl = setup.experiment, setup.experiment.rl
    prompts, size = setup.batch_size(rl.training), rl.group_size
    count, micro_batches = prompts * size, experiment.hardware.micro_batches.rl
    policy, reference = setup.world_model(), setup.world_model(1).requires_grad_(False)
    tokenizer = BatchInvariantTokenizer(build_tokenizer(experiment.tokenizer).to(setup.device).eval())
    student = build_student(setup).eval().requires_grad_(False)
    optimizer = build_optimizer(policy.named_parameters(), rl.training, is_hidden=is_layer_matrix)
    mask = torch.ones(count, setup.action_width, dtype=torch.bool, device=setup.device)
    seeds, actions = torch.arange(count, device=setup.device), setup.random(count, rl.horizon, setup.action_width)
    first = setup.random(prompts, 3, *_image(setup)).repeat_interleave(size, 0)
    fast = SamplerSpec(batch_invariant=False, precision="bf16-true" if setup.device.type == "cuda" else "32-true")
    sampler = Sampler(policy, temperature=1.0, spec=fast)
    advantage = torch.randn(count, device=setup.device)

    def step() -> dict[str, float]:
        clock = Clock(setup.device)
        with clock.phase("sample"):
            context = tokenizer.encode_context(first)
            state = sampler.start(context.tokens, mask, seeds, rl.horizon)
            tokens = torch.stack([sampler.step(state, action) for action in actions.unbind(1)], 1).clone()
            del state
        with clock.phase("decode"):
            videos = torch.cat([first[:, None], tokenizer.decode(context, tokens)], 1)
        with clock.phase("score"), torch.no_grad():
            student.sample(videos, ["open the drawer"] * count, actions)
        window = Window(0, rl.horizon, context.tokens[::size])
        shown = Rollouts(videos, ("open the drawer",) * count, actions, videos, (("", ""),) * count)
        rollouts = PolicyRollouts(shown, tokens, mask, (window,), seeds // size, size)
        for rows in split_rows(count, micro_batches):
            sequence = rollouts.sequence(window, rows)
            with clock.phase("policy"), setup.autocast():
                logits = policy(*sequence)
            with clock.phase("reference"), setup.autocast(), torch.no_grad():
                anchor = token_log_probabilities(reference(*sequence), tokens[rows], 1.0)[0]
            with clock.phase("backward"):
                chosen, _ = token_log_probabilities(logits, tokens[rows], 1.0)
                parts = grpo(chosen, chosen.detach(), anchor, advantage[rows], 0.2, rl.kl_coef)
                (parts.loss * len(chosen) / count).backward()
        with clock.phase("optimizer"):
            optimizer.step()
            optimizer.zero_grad()
        return clock.seconds

    for _ in range(2):  # the first one warms up
        seconds = step()
    whole = {"seconds a step": sum(seconds.values()), "peak GB": setup.peak(), "planned GB": setup.planned("rl")}
    return [{"what": f"alignment: {count} rollouts of {prompts} prompts, {rl.horizon} frames", **seconds, **whole}]


def _image(setup: Setup) -> tuple[int, int]:
    return setup.experiment.tokenizer.height, setup.experiment.tokenizer.width


def time_training(
    setup: Setup, part: str, samples: str, loss: Callable[[], Tensor], module: nn.Module, spec: TrainingSpec
) -> list[Row]:
    """Time training steps: loss in mixed precision, backward pass, clipping, optimizer."""
    trained = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    optimizer = build_optimizer(trained, spec, is_hidden=is_layer_matrix)

    def step() -> None:
        with setup.autocast():
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_([parameter for _, parameter in trained], spec.gradient_clip or 1.0)
        optimizer.step()
        optimizer.zero_grad()

    with FlopCounterMode(display=False) as counter:
        step()
    operations, taken = counter.get_total_flops(), []
    for _ in range(STEPS[setup.size]):
        clock = Clock(setup.device)
        with clock.phase("step"):
            step()
        taken.append(clock.seconds["step"])
    seconds = sorted(taken)[len(taken) // 2]
    return [
        {
            "what": f"train {part}: {samples}",
            "seconds a step": seconds,
            "TFLOP a step": operations / 1e12,
            "TFLOP/s": operations / seconds / 1e12,
            "MFU": operations / seconds / setup.product_rate if setup.product_rate else None,
            "peak GB": setup.peak(),
            "planned GB": setup.planned(part),
        }
    ]


def measure_world_model(setup: Setup) -> list[Row]:
    """Training steps of the world model, and on a GPU compiled, too."""
    model = setup.world_model()
    spec, shape = model.spec, model.shape
    batch, frames = setup.batch_size(spec.training), spec.longest_trained
    dynamics = setup.codes(shape.dynamics_codes, batch, frames, shape.dynamics_tokens)
    context = setup.codes(shape.context_codes, batch, spec.contexts * shape.context_tokens)
    context = torch.cat([context, dynamics[:, 0]], 1)
    actions = setup.random(batch, frames, shape.action_width) * 2 - 1
    mask = torch.ones(batch, shape.action_width, dtype=torch.bool, device=setup.device)
    samples, rows = f"{batch} x {model.layout.length(frames)} tokens", list[Row]()
    for compiled in (False, True) if setup.device.type == "cuda" else (False,):
        if compiled:
            model.compile()
        rows += time_training(
            setup, "world_model", samples + ", compiled" * compiled,
            lambda: token_loss(model(context, dynamics, actions, mask), dynamics), model, spec.training,
        )  # fmt: skip
    return rows


def measure_tokenizer(setup: Setup) -> list[Row]:
    """Training steps of the tokenizer with its perceptual and adversarial terms, without the discriminator's steps."""
    from roboalign.tokenizer.discriminator import Discriminator
    from roboalign.tokenizer.losses import generator_hinge_loss, pixel_weights, reconstruction_loss
    from roboalign.tokenizer.model import build_tokenizer

    spec = setup.experiment.tokenizer
    batch, model = setup.batch_size(spec.training), build_tokenizer(spec).to(setup.device)
    context, frames = (
        setup.random(batch, 3, *_image(setup)),
        setup.random(batch, spec.samples.frames, 3, *_image(setup)),
    )
    points = torch.full((batch, spec.samples.frames, 2, 2), torch.nan, device=setup.device)
    distance: nn.Module | None = None
    if spec.loss.perceptual:
        from roboalign.metrics.perceptual import build_perceptual

        distance = build_perceptual(setup.experiment.evaluation.perceptual).to(setup.device)
    judge = Discriminator(spec.adversarial.width).to(setup.device) if spec.adversarial else None

    def loss() -> Tensor:
        _, output = model(context, frames)
        value = reconstruction_loss(output, frames, pixel_weights(frames, context, points, spec.loss), spec.loss)
        if distance is not None:
            value = value + spec.loss.perceptual * distance(output, frames).mean()
        if judge is not None and spec.adversarial is not None:
            value = value + spec.adversarial.weight * generator_hinge_loss(judge(output.flatten(0, 1)))
        return value

    samples = f"{batch} x {spec.samples.frames} frames"
    return time_training(setup, "tokenizer", samples, loss, model, spec.training)


def measure_student(setup: Setup) -> list[Row]:
    """Training steps of the student on sets of clips of the bench's length."""
    from roboalign.reward.losses import set_loss
    from roboalign.reward.observation import SetBatch, make_set

    student, spec, frames = build_student(setup), setup.experiment.student, setup.experiment.bench.max_frames
    count, clips = setup.batch_size(spec.training), spec.set_size
    words = student.vocabulary.encode(["open the drawer"] * clips)
    targets = torch.rand(clips, 2, len(setup.experiment.reward.dimensions))
    videos, actions = (
        setup.random(clips, frames, 3, *_image(setup)),
        setup.random(clips, frames - 1, setup.action_width),
    )
    one: Mapping[str, Any] = make_set(student.observe(videos, actions), words, targets)
    batch: Any = {name: value.to(setup.device).expand(count, *value.shape) for name, value in one.items()}
    batch["grouped"] = torch.ones(count, device=setup.device)
    sets: SetBatch = batch

    def loss() -> Tensor:
        value: Tensor = set_loss(student.train(), sets, 0, spec.loss)["loss"]
        return value

    samples = f"{count} x {clips} clips of {frames} frames"
    return time_training(setup, "student", samples, loss, student, spec.training)
