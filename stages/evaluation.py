"""Score every clip set by every scorer, compare them, judge the gates: `python -m stages.evaluation`."""

from collections.abc import Sequence
from pathlib import Path

from roboalign.evaluation.clips import Clip, read_clip_sets, true_clips
from roboalign.evaluation.external import scored_sets
from roboalign.evaluation.gates import gates
from roboalign.evaluation.scoring import ClipScorer, Scorer, Scores, best_of_n, evaluate, rows, score
from roboalign.evaluation.spec import EvaluationSpec, ScorerName
from roboalign.hardware.spec import DeviceSpec
from roboalign.io import digest, read_json, write_json, write_tsv
from roboalign.judge.model import load_judge
from roboalign.probe.gold import Gold
from roboalign.probe.model import load_probe
from roboalign.reward.rubric import limits_from_json
from roboalign.reward.spec import RewardSpec
from roboalign.run import Run, execute
from roboalign.store import Corpus
from roboalign.student.model import load_student

MODEL = "model.safetensors"

MEASURED = ("tokenizer", "world_model", "student", "rl", "rollout")
"""The metrics files whose figures the gates read."""


def main(run: Run) -> None:
    """Write metrics/evaluation.json, and the scores of every clip for the report."""
    spec: EvaluationSpec = run.section("evaluation", EvaluationSpec)
    reward: RewardSpec = run.section("reward", RewardSpec)
    device: DeviceSpec = run.section("hardware.device", DeviceSpec)
    folders: dict[ScorerName, Path] = {
        "student": run.input("artifacts/student"),
        "teacher": run.input("artifacts/judge"),
    }
    scorers: dict[str, Scorer] = {name: _load(name, folders[name], device.accelerator) for name in spec.scorers}
    judges: dict[ScorerName, str] = {name: digest([folders[name] / MODEL]) for name in spec.scorers}
    folder = run.input("external")
    listed = [(entry, folder.parent / entry.scores) for entry in spec.external]
    external = scored_sets(listed, reward.names, judges)
    sets = {name: one for name, one in read_clip_sets(run.input("artifacts/rollout")).items() if one.scored}
    corpus = Corpus.open(run.input("artifacts/sources/index.json")).where(split="test")
    gold = by_gold(run, corpus, reward, device.accelerator) if spec.gold else None
    first = next(iter(sets.values()))
    truth = score("ground_truth", true_clips(corpus, first), scorers, spec.batch, device.accelerator, gold)
    scored = {"ground_truth": truth}
    for number, (name, one) in enumerate(sets.items(), 1):
        scored[name] = score(name, one.clips(), scorers, spec.batch, device.accelerator, gold)
        if one.best_of_n:
            scored[name] = best_of_n(scored[name], "student")
        run.say(f"scored {name}, {number} of {len(sets)} clip sets")
    scored |= external
    result = evaluate(scored, reward.names, spec)
    metrics = {name: read_json(run.input(f"metrics/{name}.json")) for name in MEASURED}
    metrics["evaluation"] = result
    result["gates"], result["gates_not_measured"] = gates(metrics, result["differences"], spec)
    write_json(run.output("metrics/evaluation.json"), result)
    write_tsv(run.output("artifacts/evaluation/scores.tsv"), rows(scored.values(), reward.names))
    passed = sum(gate["passed"] for gate in result["gates"].values())
    run.say(f"{passed} of {len(result['gates'])} measured gates passed")


def by_gold(run: Run, corpus: Corpus, reward: RewardSpec, device: str) -> ClipScorer:
    """The gold scorer of clips of the corpus's episodes."""
    probe = load_probe(run.input("artifacts/probe/model.safetensors")).to(device)
    limits = limits_from_json(read_json(run.input("artifacts/bench/probed_limits.json")))
    gold, numbers = Gold(probe, reward, limits), {info.id: n for n, info in enumerate(corpus.infos)}

    def score_clips(clips: Sequence[Clip]) -> Scores:
        infos = [corpus.infos[numbers[clip.episode]] for clip in clips]
        truths = [corpus.frames(numbers[clip.episode], 0, len(clip.frames)) for clip in clips]
        return gold([(info.source, info.task) for info in infos], [clip.frames for clip in clips], truths)

    return score_clips


def _load(name: ScorerName, folder: Path, device: str) -> Scorer:
    path = folder / MODEL
    return load_student(path).to(device) if name == "student" else load_judge(path).to(device)


if __name__ == "__main__":
    execute("evaluation", main)
