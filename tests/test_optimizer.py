"""Muon against the singular value decomposition, AdamW against torch's, and both together against what they fit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from roboalign.optimizer import Muon, build_optimizer, is_layer_matrix, orthogonalize
from roboalign.spec.training import TrainingSpec


def spec(**changes: object) -> TrainingSpec:
    return TrainingSpec.model_validate({"steps": 10, "batch_size": 2, "learning_rate": 0.01} | changes)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 1000))
def test_singular_values_come_near_one_and_directions_stay(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=generator, dtype=torch.float64))[0]
    count = min(rows, columns)
    values = torch.rand(count, generator=generator, dtype=torch.float64) + 0.1  # at most eleven times the least
    matrix = left[:, :count] @ torch.diag(values) @ right[:, :count].T
    found = left[:, :count].T @ orthogonalize(matrix) @ right[:, :count]
    diagonal = found.diagonal()
    assert (diagonal > 0.6).all()
    assert (diagonal < 1.3).all()
    assert (found - torch.diag(diagonal)).abs().max() < 1e-9


def test_zero_stays_zero_and_batches_are_independent() -> None:
    matrices = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    matrices[1] = 0
    together = orthogonalize(matrices)
    assert not together[1].any()
    torch.testing.assert_close(together[2], orthogonalize(matrices[2]))


def test_adamw_is_that_of_torch() -> None:
    results = []
    for make in (lambda p: build_optimizer(p, spec()), lambda p: torch.optim.AdamW([v for _, v in p], lr=0.01)):
        torch.manual_seed(0)
        layer = nn.Linear(5, 3, bias=False)
        chosen = make([("weight", layer.weight)])
        chosen.param_groups[0]["weight_decay"] = 0.02
        for _ in range(4):
            chosen.zero_grad()
            layer(torch.ones(2, 5)).square().sum().backward()
            chosen.step()
        results.append(layer.weight.detach().clone())
    assert torch.equal(*results)


def test_a_step_of_muon_has_the_size_that_the_learning_rate_says() -> None:
    convolution = nn.Conv2d(8, 6, 3)
    before = convolution.weight.detach().clone()
    chosen = build_optimizer(convolution.named_parameters(), spec(optimizer="muon", muon_scale=2.0, weight_decay=0.0))
    assert [group.get("muon") for group in chosen.param_groups] == [True, None]
    assert [group["lr_scale"] for group in chosen.param_groups] == [2.0, 1.0]
    convolution(torch.randn(2, 8, 5, 5)).square().mean().backward()
    chosen.step()
    change = convolution.weight.detach() - before
    # 6 rows of 72: orthogonal rows have a root mean square of 1 / sqrt(72), which the step multiplies by .2 sqrt(72).
    assert change.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)


def test_directions_that_the_data_hardly_show_are_learned_too() -> None:
    generator = torch.Generator().manual_seed(1)
    goal = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    shown = torch.logspace(0, -1, 16)  # standard deviations of the inputs
    missed = {}
    for name in ("muon", "descent"):
        layer = nn.Linear(16, 16, bias=False)
        nn.init.zeros_(layer.weight)
        training = spec(optimizer="muon", learning_rate=0.05, weight_decay=0.0)
        muon = build_optimizer(layer.named_parameters(), training)
        chosen = muon if name == "muon" else torch.optim.SGD(layer.parameters(), lr=0.5)
        for step in range(60):
            chosen.param_groups[0]["lr"] *= (60 - step) / (61 - step)
            layer.weight.grad = (layer.weight.detach() - goal) * shown**2
            chosen.step()
        missed[name] = (layer.weight.detach() - goal)[:, -4:].norm() / goal[:, -4:].norm()
    assert missed["descent"] > 0.7
    assert missed["muon"] < 0.35


def test_states_survive_saving() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 4), nn.Linear(4, 4)]
    layers[1].load_state_dict(layers[0].state_dict())
    inputs = torch.randn(6, 8, 4)

    def train(layer: nn.Linear, chosen: Muon, steps: range) -> None:
        for step in steps:
            chosen.zero_grad()
            (layer(inputs[step]) - 1).square().sum().backward()
            chosen.step()

    whole = build_optimizer(layers[0].named_parameters(), spec(optimizer="muon"))
    train(layers[0], whole, range(6))
    first = build_optimizer(layers[1].named_parameters(), spec(optimizer="muon"))
    train(layers[1], first, range(3))
    second = build_optimizer(layers[1].named_parameters(), spec(optimizer="muon"))
    second.load_state_dict(first.state_dict())
    train(layers[1], second, range(3, 6))
    assert torch.equal(layers[0].weight, layers[1].weight)


def test_embeddings_and_heads_are_no_hidden_matrices() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(3, 3)]), "head": nn.Linear(3, 5)})
    found = [name for name, parameter in model.named_parameters() if is_layer_matrix(name, parameter)]
    assert found == ["layers.0.weight"]
