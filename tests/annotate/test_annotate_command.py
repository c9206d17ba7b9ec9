"""The command, on a small experiment's folder: written pages, agreement, errors; never a traceback, never torch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from roboalign.__main__ import main
from roboalign.bench.build import build
from roboalign.bench.labeller import PairLabeller
from roboalign.bench.pairs import read_pairs, write_pairs
from roboalign.bench.spec import BenchSpec
from roboalign.io import write_json
from roboalign.sources.index import entry
from roboalign.store import Corpus, EpisodeWriter


@pytest.fixture(scope="module")
def root(tmp_path_factory, toy_episodes, six) -> Path:
    """An experiment's folder with a bench."""
    root = tmp_path_factory.mktemp("experiment")
    artifacts = root / "artifacts"
    with EpisodeWriter(artifacts / "episodes/toy", fps=10.0) as writer:
        for episode in toy_episodes:
            writer.add(episode)
    write_json(artifacts / "sources/index.json", {"sources": {"toy": entry(artifacts / "episodes/toy", artifacts)}})
    corpus = Corpus.open(artifacts / "sources/index.json")
    spec = BenchSpec.model_validate({"pairs": 80, "min_frames": 5, "max_frames": 12})
    labeller = PairLabeller.of(corpus, spec, six)
    pairs = build({"judge": labeller}, {}, artifacts / "bench/generated", 10.0)["judge"]
    write_pairs(artifacts / "bench/pairs.parquet", pairs, six.names)
    (root / "build/spec").mkdir(parents=True)
    (root / "build/spec/reward.yaml").write_text(yaml.safe_dump({"reward": six.model_dump(mode="json")}))
    return root


def annotate(root: Path, *words: object) -> int:
    return main(["--root", str(root), "annotate", *map(str, words)])


def study_of(page: Path) -> dict:
    return json.loads(re.search(r'id="study">(.*?)</script>', page.read_text(), re.S).group(1))


def scored(root, six, path: Path, rater: str, factor: float = 1.0, **changes) -> Path:
    """Annotations of the test split: the labels times a factor."""
    rows = []
    for pair in read_pairs(root / "artifacts/bench/pairs.parquet", six.names):
        if pair.split == "test":
            scores = dict(zip(six.names, (factor * score for score in pair.scores), strict=True))
            rows.append({"clip": pair.id, "rater": rater, "kind": "person", "scores": scores} | changes)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_page_of_the_split_is_written_and_the_same_again(root, tmp_path, capsys, six):
    page = tmp_path / "deep/page.html"
    assert annotate(root, page, "--clips", 6, "--split", "train", "--rater", "anna") == 0
    first = page.read_bytes()
    assert annotate(root, page, "--clips", 6, "--split", "train", "--rater", "anna") == 0
    assert page.read_bytes() == first
    assert "7 showings of 6 clips" in capsys.readouterr().out
    pairs = {pair.id: pair for pair in read_pairs(root / "artifacts/bench/pairs.parquet", six.names)}
    study = study_of(page)
    assert study["rater"] == "anna"
    assert {pairs[clip["clip"]].split for clip in study["clips"]} == {"train"}
    assert len({pairs[clip["clip"]].origin for clip in study["clips"]}) == 3
    for clip in study["clips"]:
        assert clip["instruction"] == pairs[clip["clip"]].instruction
    assert "toy/0" not in page.read_text()


def test_agreement_of_several_files_as_table_and_json(root, tmp_path, capsys, six):
    anna = scored(root, six, tmp_path / "anna.jsonl", "anna")
    ben = scored(root, six, tmp_path / "ben.jsonl", "ben", 0.5)
    assert annotate(root, "--agreement", anna, ben) == 0
    out = capsys.readouterr().out
    assert "anna (person) against the labels" in out
    assert "anna ~ ben" in out
    assert annotate(root, "--agreement", anna, ben, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["raters"]["anna"]["total"]["mae"]["value"] == 0
    assert result["raters"]["ben"]["total"]["bias"] < 0


def test_files_that_are_no_annotations_of_this_bench_are_errors(root, tmp_path, capsys, six):
    good = scored(root, six, tmp_path / "good.jsonl", "anna")
    line = json.loads(good.read_text().splitlines()[0])
    cases = {
        "style": (
            {"scores": line["scores"] | {"style": 1}},
            "bad.jsonl:1: scores.style: the reward has no such dimension",
        ),
        "points": ({"scores": line["scores"] | {"physics_adherence": 2.5}}, "above the maximum"),
        "clip": ({"clip": "f" * 16}, "this bench has no clip"),
        "kind": ({"kind": "cat"}, "bad.jsonl:1: kind"),
    }
    bad = tmp_path / "bad.jsonl"
    for change, message in cases.values():
        bad.write_text(json.dumps(line | change) + "\n")
        assert annotate(root, "--agreement", good, bad) == 2
        assert message in capsys.readouterr().err
    assert annotate(root, "--agreement", tmp_path / "none.jsonl") == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err
    bad.write_text("\n")
    assert annotate(root, "--agreement", bad) == 1
    assert "no annotations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--clips", "0"], "--clips is 0"),
        (["--serve", "--port", "70000"], "--port is 70000"),
        (["--seed", "-1"], "--seed is -1"),
    ],
)
def test_wrong_numbers_are_named(root, capsys, words, message):
    assert annotate(root, *words) == 2
    assert message in capsys.readouterr().err


def test_without_a_bench_the_remedy_is_named(tmp_path, capsys, root):
    assert annotate(tmp_path, tmp_path / "page.html") == 1
    assert "reward.yaml is missing; run `dvc repro`" in capsys.readouterr().err
    (tmp_path / "build/spec").mkdir(parents=True)
    (tmp_path / "build/spec/reward.yaml").write_text((root / "build/spec/reward.yaml").read_text())
    assert annotate(tmp_path, tmp_path / "page.html") == 1
    assert "artifacts/bench is missing" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_a_foreign_file_is_not_served_into(root, tmp_path, capsys):
    answers = tmp_path / "notes.jsonl"
    answers.write_text("notes\n")
    assert annotate(root, "--serve", "--port", 0, "--answers", answers) == 2
    assert "notes.jsonl:1" in capsys.readouterr().err


def test_neither_page_nor_agreement_loads_torch(root, tmp_path, six):
    file = scored(root, six, tmp_path / "anna.jsonl", "anna")
    for words in ([str(tmp_path / "page.html"), "--clips", "3"], ["--agreement", str(file)]):
        script = (
            "import sys\nfrom roboalign.__main__ import main\n"
            f"assert main(['--root', {str(root)!r}, 'annotate', *{words!r}]) == 0\n"
            "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
