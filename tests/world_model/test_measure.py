"""A codec of brightness levels and a corpus whose brightness the actions set: the figures are known exactly."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from roboalign.rollout.clip_generator import make_rollout_fn
from roboalign.rollout.spec import ArSpec
from roboalign.store import Corpus
from roboalign.types import Episode
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.measure import actions_of_other_episodes, measure, select_segments
from roboalign.world_model.model import WorldModel, token_loss
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.segment_spec import SegmentSpec
from roboalign.world_model.spec import WorldModelMeasureSpec
from tests.world_model.token_cache import encode_segments

LEVELS = 4


@dataclass
class Level:
    tokens: Tensor


class Brightness:
    """One code a frame: its brightness in four levels."""

    def encode_context(self, frames: Tensor) -> Level:
        return Level((frames.mean((1, 2, 3))[:, None] * LEVELS).long().clamp(max=LEVELS - 1).repeat(1, 2))

    def encode(self, context: Level, frames: Tensor) -> Tensor:
        return self.encode_context(frames.flatten(0, 1)).tokens[:, :1].view(*frames.shape[:2], 1)

    def decode(self, context: Level, tokens: Tensor) -> Tensor:
        return ((tokens + 0.5) / LEVELS)[..., None, None].expand(*tokens.shape[:2], 3, 16, 16)


def bright(number: int, source: str = "lamp", length: int = 9) -> Episode:
    """Frame t + 1 is as bright as action t says; the levels of two episodes are never equal at the same time."""
    levels = (np.random.default_rng(5).integers(0, LEVELS, length) + number) % LEVELS
    frames = np.empty((length, 16, 16, 3), np.uint8)
    frames[0] = 255 * (number % LEVELS + 0.5) // LEVELS
    frames[1:] = (255 * (levels[:-1] + 0.5) / LEVELS)[:, None, None, None]
    actions = ((levels + 0.5) / LEVELS * 2 - 1)[:, None].astype(np.float32)
    return Episode(f"{source}/{number}", source, "dim", "dim it", "random", f"{number}", "test", frames, actions)


@pytest.fixture(scope="module")
def corpus():
    return Corpus.of([bright(number) for number in range(LEVELS)] + [bright(0, "solo")])


@pytest.fixture(scope="module")
def trained(spec_of, corpus, tmp_path_factory):
    """A model that has learned that the action sets the brightness."""
    torch.manual_seed(0)
    model = WorldModel(spec_of(layers=1, actions={"kind": "slot", "bins": 16}), TokenShape(1, 1, (4,), (4,), 1))
    data = encode_segments(Brightness(), corpus, SegmentSpec(frames=4, stride=1), tmp_path_factory.mktemp("tokens"))
    batch = {name: torch.stack([data[i][name] for i in range(len(data))]) for name in data[0]}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(80):
        logits = model(batch["context"], batch["dynamics"], batch["actions"], batch["action_mask"])
        loss = token_loss(logits, batch["dynamics"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    return model.eval()


def rollout_at(model):
    def build(temperature):
        roll_out = make_rollout_fn(Brightness(), Sampler(model, temperature=temperature), ArSpec())
        return lambda frames, actions, mask, seeds, proprioception: roll_out(frames, actions, mask, seeds)

    return build


SPEC = WorldModelMeasureSpec(horizon=4, episodes=10, starts=2)


def measured(batch_size: int) -> WorldModelMeasureSpec:
    return SPEC.model_copy(update={"batch_size": batch_size})


def test_the_figures_of_a_model_that_obeys(trained, corpus):
    heard: list[str] = []
    found = measure(
        rollout_at(trained), Brightness(), corpus, measured(batch_size=4), donors=corpus, seed=0, log=heard.append
    )
    assert found["psnr"] == pytest.approx(found["codec_psnr"])
    assert found["psnr"] > 40 > 20 > found["copy_context_psnr"]
    assert found["action_gap_psnr"]["low"] > 10
    assert found["action_gap_psnr"]["n"] == 4  # no other episode of that source: no other actions
    assert found["n"] == 5
    assert found["horizon"] == 4
    assert found["gain_over_copy_context_psnr"]["low"] > 0
    assert "action_gap_psnr" not in found["by_source"]["solo"]
    assert found["by_source"]["lamp"]["n"] == 4
    assert len(heard) == 3  # ten rollouts in batches of four


def test_figures_do_not_depend_on_the_batch(trained, corpus):
    rollout = rollout_at(trained)
    small, large = (
        measure(rollout, Brightness(), corpus, measured(batch_size=size), donors=corpus, seed=3) for size in (1, 7)
    )
    assert small == large


def test_a_model_that_ignores_actions_has_no_gap(trained, corpus):
    deaf = WorldModel(trained.spec, trained.shape)
    deaf.load_state_dict(trained.state_dict())
    with torch.no_grad():
        for parameter in deaf.actions.parameters():
            parameter.zero_()
    found = measure(rollout_at(deaf.eval()), Brightness(), corpus, SPEC, donors=corpus, seed=0)
    assert found["action_gap_psnr"]["mean"] == 0


def test_a_given_distance_is_measured(trained, corpus):
    found = measure(
        rollout_at(trained),
        Brightness(),
        corpus,
        SPEC,
        donors=corpus,
        seed=0,
        distance=lambda video, target: (video - target).abs().mean((2, 3, 4)),
    )
    assert 0 < found["perceptual"] < 0.02 < found["copy_context_perceptual"]


def test_sources_take_turns_and_starts_are_spread(corpus):
    found = select_segments(corpus, WorldModelMeasureSpec(horizon=4, episodes=2, starts=3))
    assert [(s.episode, s.start) for s in found] == [(0, 0), (0, 2), (0, 4), (4, 0), (4, 2), (4, 4)]
    assert [s.start for s in select_segments(corpus, WorldModelMeasureSpec(horizon=8, episodes=1, starts=3))] == [0]


def test_other_actions_come_from_the_same_source_at_the_same_time(corpus):
    segments = select_segments(corpus, SPEC)
    for segment, actions in zip(segments, actions_of_other_episodes(corpus, segments, corpus), strict=True):
        if segment.episode == LEVELS:
            assert actions is None
        else:
            others = [
                corpus.actions(e)[segment.start : segment.start + 4] for e in range(LEVELS) if e != segment.episode
            ]
            assert sum(torch.equal(actions, torch.from_numpy(other)) for other in others) == 1


def test_an_episode_of_another_split_may_lend_its_actions(corpus):
    alone = corpus.filter(source="solo")
    donors = Corpus.of([bright(0, "solo"), bright(3, "solo")])
    lent = actions_of_other_episodes(alone, select_segments(alone, SPEC), donors)
    assert torch.equal(lent[0], torch.from_numpy(donors.actions(1)[:4]))


def test_no_episode_long_enough_is_an_error(trained, corpus):
    with pytest.raises(ValueError, match=r"world_model.measure.horizon, 20 frames"):
        measure(rollout_at(trained), Brightness(), corpus, WorldModelMeasureSpec(horizon=20), donors=corpus, seed=0)
