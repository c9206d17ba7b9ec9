"""Conformal intervals: ranks, coverage by simulation, what the metrics say."""

from types import SimpleNamespace

import numpy as np
import pytest

from roboalign.bench.calibration import Calibration, ScorerErrors, calibrate, interval_metrics
from roboalign.store import Corpus, EpisodeStore, EpisodeWriter


class FakeBench:
    """Pairs with labels; all have the same frames."""

    def __init__(self, labels, origins, degradations):
        self.scores = np.asarray(labels, float)
        self.pairs = [
            SimpleNamespace(
                origin=origin,
                degradation=kind,
                source="toy",
                split="train",
                episode=f"toy/{number // 2}",
                start=0,
                stop=5 + number % 4,
            )
            for number, (origin, kind) in enumerate(zip(origins, degradations, strict=True))
        ]

    def frames(self, number):
        return np.zeros((5, 8, 12, 3), np.uint8)


def known(count: int) -> ScorerErrors:
    sizes = tuple(float(number) for number in range(1, count + 1))
    return ScorerErrors(pairs=count, episodes=count, sizes={"total": sizes})


@pytest.mark.parametrize(
    ("pairs", "level", "half"),
    [(9, 0.9, 9), (8, 0.9, None), (19, 0.9, 18), (99, 0.9, 90), (99, 0.5, 50), (0, 0.5, None), (4, 0.8, 4)],
)
def test_half_of_the_width_is_the_error_of_the_conformal_rank(pairs, level, half):
    assert known(pairs).half_width("total", level) == half


def test_too_few_rollouts_leave_their_intervals_to_all_pairs():
    calibration = Calibration(
        height=8, width=8, frames=(5, 8), fps=(10, 10), errors={"all": known(30), "generated": known(8)}
    )
    assert calibration.usable("generated", 0.9) == "all"
    assert calibration.usable("generated", 0.8) == "generated"


def test_intervals_cover_as_often_as_they_say_whatever_the_errors_are(six):
    rng, inside, n = np.random.default_rng(0), [], 40
    for _ in range(300):
        errors = np.sort(np.abs(rng.standard_t(2, n)))
        drawn = ScorerErrors(pairs=n, episodes=n, sizes={"total": tuple(errors)})
        inside.append(np.abs(rng.standard_t(2, 50)).__le__(drawn.half_width("total", 0.9)).mean())
    assert np.mean(inside) == pytest.approx(37 / 41, abs=0.015)  # rank 37 of 40, between 0.9 and 0.9 + 1 / 41


@pytest.fixture
def corpus(tmp_path, toy_episodes) -> Corpus:
    with EpisodeWriter(tmp_path / "store", fps=12.5) as writer:
        for episode in toy_episodes[:2]:
            writer.add(episode)
    store = EpisodeStore(tmp_path / "store")
    return Corpus((store,), ((0, 0), (0, 1)), {})


def test_errors_are_sorted_by_dimension_and_told_apart_by_origin(corpus, six):
    rng = np.random.default_rng(1)
    labels = rng.uniform(0, 1, (20, 6))
    bench = FakeBench(labels, ["generated" if n % 4 == 0 else "real" for n in range(20)], [""] * 20)
    scores = labels[10:] + 0.01 * np.arange(10)[:, None]
    found = calibrate(bench, corpus, six, range(10), list(range(10, 20)), scores)
    assert (found.height, found.width, found.frames, found.fps) == (8, 12, (5, 8), (12.5, 12.5))
    assert found.errors["all"].pairs == 10
    assert found.errors["all"].episodes == 5
    assert found.errors["all"].sizes["physics_adherence"] == pytest.approx([0.01 * n for n in range(10)])
    assert found.errors["all"].sizes["total"] == pytest.approx([0.06 * n for n in range(10)])
    assert found.errors["generated"].sizes["total"] == pytest.approx([0.06 * 2, 0.06 * 6])
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_without_validation_pairs_there_are_no_intervals(corpus, six):
    bench = FakeBench(np.ones((4, 6)), ["real"] * 4, [""] * 4)
    found = calibrate(bench, corpus, six, range(4), [], None)
    assert found.errors["all"].half_width("total", 0.5) is None
    metrics = interval_metrics(found, np.ones((4, 6)), bench, range(4), range(4), six)
    assert metrics["all"]["half_width"] == {}
    assert metrics["all"]["coverage"]["all"] == {"n": 4}


def test_coverage_is_measured_by_part(corpus, six):
    origins = ["real"] * 10 + ["real"] * 10 + ["real"] * 4 + ["degraded"] * 4 + ["generated"] * 2
    kinds = ["blur"] * 20 + ["blur"] * 4 + ["splice"] * 4 + [""] * 2
    bench = FakeBench(np.zeros((30, 6)), origins, kinds)
    calibration = calibrate(bench, corpus, six, range(10), list(range(10, 20)), np.full((10, 6), 0.1))
    test = list(range(20, 30))
    scores = np.repeat(np.array([0.1] * 4 + [0.2] * 4 + [0.05, 0.3])[:, None], 6, axis=1)
    metrics = interval_metrics(calibration, scores, bench, test, range(10), six)
    assert metrics["level"] == 0.9
    assert metrics["all"]["half_width"]["total"] == pytest.approx(0.6)
    covered = {name: (part["n"], part["total"]) for name, part in metrics["all"]["coverage"].items()}
    assert covered == {"known": (4, 1.0), "held_out_degradations": (4, 0.0), "generated": (2, 0.5), "all": (10, 0.5)}
    assert metrics["generated"]["pairs"] == 0
    assert metrics["generated"]["coverage"] == {"generated": {"n": 2}}
