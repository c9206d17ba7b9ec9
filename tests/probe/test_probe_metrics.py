import numpy as np
import pytest

from roboalign.probe.probe_metrics import auc, balanced_accuracy, flag_metrics, mean_over_episodes, state_errors
from roboalign.types import STATE_NAMES

SUCCESS = STATE_NAMES.index("success")


def test_auc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 40) / 5, rng.random(40) < 0.4
    pairs = np.subtract.outer(scores[labels], scores[~labels])
    plain = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert auc(scores, labels, np.ones((1, 40)))[0] == pytest.approx(plain)


def test_weights_count_an_item_several_times() -> None:
    rng = np.random.default_rng(1)
    scores, labels, weights = rng.random(20), rng.random(20) < 0.5, rng.integers(0, 3, 20)
    for measure in (auc, balanced_accuracy):
        repeated = measure(scores.repeat(weights), labels.repeat(weights), np.ones((1, weights.sum())))
        assert measure(scores, labels, weights[None].astype(float)) == pytest.approx(repeated)


def test_a_draw_of_one_class_has_no_auc() -> None:
    labels, weights = np.array([True, False]), np.array([[1.0, 0.0]])
    assert np.isnan(auc(np.array([0.2, 0.1]), labels, weights)).all()
    assert np.isnan(balanced_accuracy(np.array([0.2, 0.1]), labels, weights)).all()


def test_errors_are_in_their_units() -> None:
    said, truth = np.zeros((4, 14), np.float32), np.zeros((4, 14), np.float32)
    said[:, 0] = 0.03
    said[:, 1] = 0.04
    said[:2, STATE_NAMES.index("penetration")] = 0.002
    said[:, STATE_NAMES.index("force")] = 7
    found = state_errors(said, truth)
    assert found["gripper_cm"] == pytest.approx(5)
    assert found["object_cm"] == found["goal_cm"] == found["opening"] == 0
    assert found["penetration_mm"] == pytest.approx(1)
    assert found["force_newtons"] == pytest.approx(7)


def test_flags_are_measured_over_frames_and_resampled_by_episode() -> None:
    truth = [np.zeros((5, 14), np.float32) for _ in range(8)]
    for states in truth[:4]:
        states[3:, SUCCESS] = 1
    said = [states * 0.4 + 0.1 for states in truth]
    episodes = [f"e{number // 2}" for number in range(8)]
    found = flag_metrics(said, truth, episodes, 200, 0)
    assert set(found) == {"success_auc", "success_balanced_accuracy"}, "contact never varies, so it has no figure"
    assert found["success_auc"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 4}
    assert found["success_balanced_accuracy"]["mean"] == 0.5, "all answers lie on one side of one half"


def test_means_are_over_episodes() -> None:
    found = mean_over_episodes([{"a": 1.0}, {"a": 3.0}, {"a": 8.0}], ["x", "x", "y"], 200, 0)
    assert found["a"]["mean"] == 5.0
    assert found["a"]["n"] == 2
