import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roboalign.bench.annotations import Annotation
from roboalign.bench.build import build
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.labels import label_recorded
from roboalign.bench.spec import GeneratedSpec
from roboalign.store import Corpus
from tests.conftest import toy_episode


def build_pairs(corpus, spec, six, annotations=()):
    labeller = PairLabeller.of(corpus, spec, six, annotations=annotations)
    return build({"judge": labeller}, {}, Path("unused"), 10.0)["judge"]


class NoisyProbe:
    """Returns the recorded states of known frames, with noise in all positions."""

    def __init__(self, episodes, deviation):
        self.known = {frame.tobytes(): state for e in episodes for frame, state in zip(e.frames, e.state, strict=True)}
        self.deviation = deviation
        self.calls = 0

    def __call__(self, source, task, frames):
        assert (source, task) == ("toy", "push")
        states = np.stack([[self.known[frame.tobytes()] for frame in clip] for clip in frames])
        self.calls += 1
        states[..., :6] += np.random.default_rng(self.calls).normal(0, self.deviation, states[..., :6].shape)
        return states.astype(np.float32)


def true_future(episodes):
    """A world model that always gives the true future."""
    known = {(e.frames[t].tobytes(), t): e.frames[t + 1 :] for e in episodes for t in range(len(e.frames))}

    def run(first, actions, masks, seeds):
        count = actions.shape[1]
        return np.stack([
            next(v[:count] for (frame, _), v in known.items() if frame == picture.tobytes() and len(v) >= count)
            for picture in first
        ])  # fmt: skip

    return run


@pytest.fixture
def generated(labeller, toy_episodes, tmp_path):
    spec = labeller.spec.model_copy(update={"generated": GeneratedSpec(frames=6, batch_size=3)})

    def run(deviation, reconstruct=None):
        probe = NoisyProbe(toy_episodes, deviation)
        own = replace(labeller, spec=spec, probe=probe, reconstruct=reconstruct)
        pairs = build({"judge": own}, {"final": true_future(toy_episodes)}, tmp_path / str(deviation), 10.0)["judge"]
        return own, [pair for pair in pairs if pair.origin == "generated"]

    return run


def exact(labeller, pair):
    state = labeller.states[pair.episode][pair.start : pair.stop]
    return label_recorded(labeller.reward, state, labeller.limits["toy"]).scores


def test_a_probe_without_errors_gives_the_rubrics_own_scores(generated):
    own, pairs = generated(0.0)
    assert pairs
    for pair in pairs:
        assert pair.provenance == "rubric_probed"
        assert pair.scores == pytest.approx(exact(own, pair), abs=1e-3)
    # Toy pictures are coarse: the same one is seen for places that differ by less than a pixel.
    assert (own.trusted_calibrations["toy"].slack < 0.2).all()


@pytest.mark.parametrize("reconstruct", [None, np.copy], ids=["states", "reconstructions"])
@pytest.mark.parametrize("deviation", [0.005, 0.02])
def test_the_probes_own_errors_cost_hardly_any_marks(generated, deviation, reconstruct):
    own, pairs = generated(deviation, reconstruct)
    lost = np.array([exact(own, pair) - np.array(pair.scores) for pair in pairs])
    assert (np.abs(lost).sum(1) < 0.5).mean() > 0.9
    assert np.abs(lost.sum(1)).mean() < 0.2


def test_a_probe_that_always_says_the_same_is_not_asked(labeller, toy_episodes, models, tmp_path):
    mean = np.mean([e.state.mean(0) for e in toy_episodes], 0)

    def blind(source, task, frames):
        return np.broadcast_to(mean, (*frames.shape[:2], 14)).astype(np.float32)

    own = replace(labeller, probe=blind)
    assert own.probe_calibrations["toy"].explained_variance < 0.2
    assert own.trusted_calibrations == {}
    made = [p for p in build({"judge": own}, models, tmp_path / "g", 10.0)["judge"] if p.origin == "generated"]
    assert {pair.provenance for pair in made} == {"distance_rule"}


def test_without_validation_episodes_the_slack_comes_from_training(labeller, toy_episodes):
    train = labeller.corpus.filter(split="train")
    probe = NoisyProbe(toy_episodes, 0.01)
    spec = labeller.spec.model_copy(update={"generated": GeneratedSpec(frames=6)})
    both = replace(labeller, spec=spec, probe=probe)
    alone = replace(both, corpus=train)
    assert alone.trusted_calibrations["toy"].clips > both.trusted_calibrations["toy"].clips > 0


def test_a_labeller_that_was_sent_to_another_process_labels_alike(labeller, toy_episodes, tmp_path):
    spec = labeller.spec.model_copy(update={"pairs": 20, "generated": GeneratedSpec(frames=6, batch_size=3)})
    here = replace(labeller, spec=spec, probe=NoisyProbe(toy_episodes, 0.0), reconstruct=np.copy)
    sent = pickle.loads(pickle.dumps(here.without_models()))
    assert sent.probe is sent.reconstruct is None
    there = replace(sent, probe=here.probe)
    models = {"final": true_future(toy_episodes)}
    pairs = [
        build({"judge": each}, models, tmp_path / name, 10.0)["judge"] for name, each in (("a", here), ("b", there))
    ]
    assert pairs[0] == pairs[1]
    assert "rubric_probed" in {pair.provenance for pair in pairs[1]}


@pytest.fixture(scope="module")
def robots():
    """A source without states, as of real robots."""
    return Corpus.of([replace(toy_episode(n), policy="unknown", state=None, keypoints=None) for n in range(9)])


def answer(pair, six, share, kind="person"):
    scores = {name: share * maximum for name, maximum in zip(six.names, six.max_scores, strict=True)}
    return Annotation(clip=pair.id, rater=f"{kind} {share}", kind=kind, scores=scores)


def test_a_source_without_states_gets_full_marks_or_declared_losses(six, small):
    episodes = [replace(toy_episode(n), policy="unknown", state=None) for n in range(6)]
    corpus = Corpus.of(episodes)
    pairs = build_pairs(corpus, small, six)
    assert {pair.provenance for pair in pairs} == {"full_marks", "full_marks_declared"}


def test_annotations_label_what_has_no_states(robots, small, six):
    first = build_pairs(robots, small, six)
    people = [answer(first[0], six, 0.2), answer(first[0], six, 0.6), answer(first[1], six, 0.5, "vlm")]
    labelled = build_pairs(robots, small, six, people)
    by_id = {pair.id: pair for pair in labelled}
    assert len(labelled) == len(first)
    assert by_id[first[0].id].provenance == "people"
    assert by_id[first[0].id].scores == pytest.approx(0.4 * np.array(six.max_scores))
    assert by_id[first[1].id].provenance == "vlm"
    only = build_pairs(
        robots, small.model_copy(update={"unlabelled": "annotations", "annotations": ("x",)}), six, people
    )
    assert {pair.id for pair in only} == {first[0].id, first[1].id}


def test_annotations_leave_measured_labels_unless_told(corpus, small, six):
    first = build_pairs(corpus, small, six)
    people = [answer(first[0], six, 0.3)]
    assert build_pairs(corpus, small, six, people) == first
    everything = build_pairs(corpus, small.model_copy(update={"annotated": "all"}), six, people)
    changed = {pair.id for pair in everything if pair.provenance == "people"}
    assert changed == {first[0].id}


def test_sources_without_states_are_skipped_by_spec(robots, toy_episodes, small, six):
    both = Corpus.of([*toy_episodes, *(replace(e, source="robot", id=f"robot/{e.id}") for e in
                                       (robots.read(n) for n in range(len(robots))))])  # fmt: skip
    spec = small.model_copy(update={"unlabelled": "skip"})
    assert {pair.source for pair in build_pairs(both, spec, six)} == {"toy"}
    assert {pair.source for pair in build_pairs(both, small, six)} == {"toy", "robot"}
