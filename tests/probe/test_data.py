from dataclasses import replace

import numpy as np
import pytest
import torch
from probe_fakes import state_of

from roboalign.distributed import BatchShard
from roboalign.probe.augment import augment, blur
from roboalign.probe.data import ProbeClips, clip_order, list_tasks, select_episodes, select_part, select_round_robin
from roboalign.probe.spec import AugmentationSpec, ProbeSpec
from roboalign.store import Corpus
from roboalign.types import Episode, UInt8

PLAIN = AugmentationSpec(reconstructed=0.0, blurred=0.0, noise=0.0, contrast=0.0, rearranged=0.5)


def marked(episodes: list[Episode]) -> list[Episode]:
    """Each frame tells its number, each episode its own."""
    return [
        replace(e, frames=np.stack([np.full_like(f, 12 * i + t) for t, f in enumerate(e.frames)]))
        for i, e in enumerate(episodes[:16])
    ]


def darker(frames: UInt8) -> UInt8:
    """A tokenizer that takes the number of its context off every frame."""
    return np.asarray(frames + 200, np.uint8)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_sample_has_the_states_of_its_frames(seen: list[Episode], share: float) -> None:
    episodes = marked(seen)
    spec = PLAIN.model_copy(update={"reconstructed": share})
    clips = ProbeClips(episodes, list_tasks(episodes), 4, spec, 0, darker if share else None)
    found = set()
    for number in range(0, len(clips), 31):
        sample, row = clips[number], number % 16
        # Every other episode is reconstructed: at the greatest share all of its clips are.
        marks = (sample["frames"][:, 0, 0, 0].int() - (200 if share and row % 2 == 0 else 0)) % 256
        i, times = int(marks[0]) // 12, (marks % 12).tolist()
        assert (marks // 12 == i).all()
        assert torch.equal(sample["state"], torch.from_numpy(state_of(seen[i])[times]))
        assert torch.equal(sample["points"].flatten(1), torch.from_numpy(seen[i].keypoints[times]))  # type: ignore[index]
        assert list_tasks(episodes)[sample["task"]] == (seen[i].source, seen[i].task)
        found.add(i)
    assert len(found) == 16


def test_a_sample_depends_on_its_number_alone(seen: list[Episode]) -> None:
    first, again = (ProbeClips(seen, list_tasks(seen), 4, PLAIN, 0, None) for _ in range(2))
    _ = again[3]
    assert torch.equal(first[77]["frames"], again[77]["frames"])


def shard(seed):
    return BatchShard(generator=torch.Generator().manual_seed(seed))


def test_clips_are_consecutive_unless_rearranged() -> None:
    rng = np.random.default_rng(0)
    assert all((np.diff(clip_order(10, 4, 0.0, rng)) == 1).all() for _ in range(50))
    orders = [clip_order(10, 4, 1.0, rng) for _ in range(50)]
    assert not all((np.diff(order) == 1).all() for order in orders)
    assert clip_order(3, 6, 0.0, rng).max() < 3


def test_real_robots_are_left_out_and_tasks_take_turns(seen: list[Episode]) -> None:
    real = [replace(e, id=f"real/{n}", source="real", state=None, keypoints=None) for n, e in enumerate(seen[:3])]
    corpus = Corpus.of([*real, *seen])
    assert all(corpus.infos[number].source == "seen" for number in select_round_robin(corpus.infos, 100))
    spec = ProbeSpec.model_validate(
        {"parts": 1, "episodes": 4, "training": {"steps": 1, "learning_rate": 0.1, "batch_size": 2}}
    )
    four = select_episodes(corpus, spec)
    assert [episode.task for episode in four].count("push") == 2
    assert select_episodes(Corpus.of(real), spec) == []


def test_augmentation_of_no_strength_changes_nothing() -> None:
    frames = torch.rand(2, 3, 3, 16, 16)
    assert torch.allclose(augment(frames, PLAIN, shard(0)), frames)


def test_augmentation_is_drawn_from_its_generator_and_stays_in_range() -> None:
    frames = torch.rand(4, 3, 3, 16, 16)
    strong = AugmentationSpec(blurred=1.0, noise=0.3, contrast=0.5)
    one, two, other = (augment(frames, strong, shard(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 1


def test_softening_blurs_each_frame_by_its_amount() -> None:
    frames = torch.zeros(2, 1, 3, 9, 9)
    frames[..., 4, 4] = 1
    soft = blur(frames, torch.tensor([0.0, 1.0]))
    assert torch.equal(soft[0], frames[0])
    assert soft[1, 0, 0].sum() == pytest.approx(1, abs=1e-4)
    assert soft[1, 0, 0, 4, 4] == pytest.approx(0.38774**2, rel=1e-3)
    flat = torch.full((1, 1, 3, 9, 9), 0.3)
    assert torch.allclose(blur(flat, torch.ones(1)), flat, atol=1e-4)


def test_parts_are_disjoint_balanced_by_task_and_keep_scenes_whole(seen: list[Episode]) -> None:
    # Ten scenes of each task, of two episodes each.
    infos = Corpus.of([
        replace(seen[number % 20], id=f"seen/{number:06d}", scene=f"seen/{number % 20}") for number in range(40)
    ]).infos  # fmt: skip
    parts = [select_part(infos, part, 3) for part in range(3)]
    assert sorted(number for part in parts for number in part) == list(range(40))
    scenes = [{infos[number].scene for number in part} for part in parts]
    assert sum(map(len, scenes)) == len(set.union(*scenes)) == 20
    for task in ("push", "place"):
        assert sorted(len({infos[n].scene for n in part if infos[n].task == task}) for part in parts) == [3, 3, 4]


def test_the_part_of_a_scene_depends_on_its_own_task_alone(seen: list[Episode]) -> None:
    infos = Corpus.of(seen).infos
    push = [info for info in infos if info.task == "push"]
    whole = {infos[number].id for number in select_part(infos, 1, 3) if infos[number].task == "push"}
    assert {push[number].id for number in select_part(push, 1, 3)} == whole


def test_a_probe_learns_from_its_part_of_the_episodes(seen: list[Episode]) -> None:
    corpus = Corpus.of(seen)
    training = {"steps": 1, "learning_rate": 0.1, "batch_size": 2}
    specs = [ProbeSpec.model_validate({"part": part, "training": training}) for part in range(3)]
    found = [{episode.id for episode in select_episodes(corpus, spec)} for spec in specs]
    assert set.union(*found) == {episode.id for episode in seen}
    assert sum(map(len, found)) == len(seen)
