"""The policy's loss with a world model: rollouts that share their context, and micro-batches, change nothing."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from rl_fakes import spec
from torch import Tensor

from roboalign.reward.rewards import Rollouts
from roboalign.rl.policy_loss import Credit, PolicyLoss
from roboalign.rl.rollouts import PolicyRollouts, Window, split_rows
from tests.small_models import SHAPE, world_model

PROMPTS, GROUP, FRAMES = 2, 4, 4
ROWS = PROMPTS * GROUP


def drawn(*shape: int, high: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + high)
    return torch.randint(high, shape, generator=generator) if high else torch.rand(shape, generator=generator)


def rollouts(segments: Sequence[tuple[int, int]]) -> PolicyRollouts:
    """Two groups of rollouts, whose first window has one context for each group."""
    videos, actions = torch.zeros(ROWS, 1 + FRAMES, 3, 1, 1), 2 * drawn(ROWS, FRAMES, SHAPE.action_width) - 1
    windows = []
    for start, stop in segments:
        rows = ROWS if start else PROMPTS
        context = drawn(rows, SHAPE.context_tokens, high=SHAPE.context_codes)
        still = drawn(rows, SHAPE.dynamics_tokens, high=SHAPE.dynamics_codes)
        windows.append(Window(start, stop, torch.cat([context, still], 1)))
    texts, tasks = ("push",) * ROWS, (("source", "task"),) * ROWS
    batch = Rollouts(videos, texts, actions, videos, tasks)
    tokens = drawn(ROWS, FRAMES, SHAPE.dynamics_tokens, high=SHAPE.dynamics_codes)
    prompts = torch.arange(PROMPTS).repeat_interleave(GROUP)
    return PolicyRollouts(batch, tokens, torch.ones(ROWS, SHAPE.action_width), tuple(windows), prompts, GROUP)


def separate(batch: PolicyRollouts) -> PolicyRollouts:
    """The same rollouts, each with a context of its own."""
    first, *rest = batch.windows
    return replace(batch, windows=(replace(first, context=first.context.repeat_interleave(GROUP, 0)), *rest))


@pytest.mark.parametrize("kind", ["grpo", "first_order", "best_of_n"])
@pytest.mark.parametrize("segments", [[(0, 4)], [(0, 2), (2, 4)]], ids=["ar", "swr"])
def test_a_shared_context_and_micro_batches_change_neither_loss_nor_gradient(
    kind: str, segments: list[tuple[int, int]]
) -> None:
    rl = spec(optimizer={"kind": kind}, kl_coef=0.1, group_size=GROUP, horizon=FRAMES, distillation=None)
    policy, reference = world_model(1), world_model(2).requires_grad_(False)
    loss, batch = PolicyLoss(rl, policy, reference, drawn(SHAPE.dynamics_codes, 2)), rollouts(segments)
    credit = Credit(
        drawn(ROWS),
        gradients=[drawn(ROWS, stop - start, SHAPE.dynamics_tokens, 2) for start, stop in segments]
        if kind == "first_order"
        else None,
        advantage=drawn(ROWS) - 0.5,
        kept=(drawn(ROWS) > 0.5).float() if kind == "best_of_n" else None,
        imitated=3.0,
    )

    def run(given: PolicyRollouts, rows: list[slice]) -> tuple[Tensor, tuple[Tensor, ...]]:
        total = torch.stack([loss(given, credit, each)[0] for each in rows]).sum()
        return total, torch.autograd.grad(total, list(policy.parameters()))

    expected, expected_gradients = run(separate(batch), [slice(None)])
    assert max(float(gradient.abs().max()) for gradient in expected_gradients) > 1e-3
    for parts in (1, 2, 3, 4, 8):  # of both groups, whole groups, cut groups, halves of groups, single rollouts
        found, gradients = run(batch, list(split_rows(ROWS, parts)))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        for one, other in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_whole_groups_and_parts_of_one_share_their_context() -> None:
    batch = rollouts([(0, 2), (2, 4)])
    first, later = batch.windows
    contexts = {rows: len(batch.sequence(first, slice(*rows))[0]) for rows in [(0, 8), (4, 8), (0, 2), (6, 8), (2, 6)]}
    assert contexts == {(0, 8): 2, (4, 8): 1, (0, 2): 1, (6, 8): 1, (2, 6): 4}
    assert len(batch.sequence(later, slice(0, 4))[0]) == 4
    assert torch.equal(batch.sequence(first, slice(2, 6))[0], first.context[[0, 0, 1, 1]])
