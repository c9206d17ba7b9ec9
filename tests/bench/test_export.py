import hashlib
import json
import re

import av
import numpy as np
import pytest
import yaml
from PIL import Image

from roboalign.__main__ import main
from roboalign.bench.annotations import Annotation, read_annotations
from roboalign.bench.build import build
from roboalign.bench.export import choose_pairs, draw_strip, export, write_guide
from roboalign.bench.exported import SCHEMA_VERSION, ExportedBench, ExportedClip, ExportedDimension, read_listing
from roboalign.bench.pairs import Bench, write_pairs
from roboalign.store import EpisodeStore


@pytest.fixture(scope="module")
def bench(tmp_path_factory, labeller, models, corpus, six) -> Bench:
    path = tmp_path_factory.mktemp("bench")
    return Bench(
        build({"judge": labeller}, models, path / "generated", 10.0)["judge"], corpus, EpisodeStore(path / "generated")
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]


def test_clips_can_be_watched_and_answers_read(bench, six, corpus, tmp_path):
    rows = choose_pairs(bench.pairs, "test", 5)
    export(tmp_path / "out", bench, rows, six, corpus, blind=True)
    entries = lines(tmp_path / "out")
    assert [entry["clip"] for entry in entries] == [bench.pairs[row].id for row in rows]
    answers = []
    for entry, row in zip(entries, rows, strict=True):
        assert set(entry) == {"clip", "instruction", "video", "strip", "frames", "fps"}
        true = bench.frames(row)
        with av.open(str(tmp_path / "out" / entry["video"])) as video:
            shown = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
        assert len(shown) == len(true) == entry["frames"]
        assert np.abs(shown[:, 2::4, 2::4].astype(int) - true).mean() < 12
        with Image.open(tmp_path / "out" / entry["strip"]) as strip:
            assert strip.height >= 128
        scores = dict.fromkeys(six.names, 0.5)
        answers.append(Annotation(clip=entry["clip"], rater="anna", kind="person", scores=scores).line())
    (tmp_path / "answers.jsonl").write_text("".join(answers))
    known = {pair.id for pair in bench.pairs}
    assert len(read_annotations([str(tmp_path / "answers.jsonl")], six, known)) == 5


def test_blind_hides_what_open_tells(bench, six, corpus, tmp_path):
    rows = choose_pairs(bench.pairs, "test", 3)
    export(tmp_path, bench, rows, six, corpus, blind=False)
    for entry, row in zip(lines(tmp_path), rows, strict=True):
        assert entry["origin"] == bench.pairs[row].origin
        assert list(entry["scores"].values()) == pytest.approx(bench.pairs[row].scores)


def test_the_same_export_twice(bench, six, corpus, tmp_path):
    for name in ("a", "b"):
        export(tmp_path / name, bench, choose_pairs(bench.pairs, "test", 2), six, corpus, blind=True)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_clips_as_a_data_set_are_those_of_the_bench(bench, six, corpus, tmp_path):
    rows = choose_pairs(bench.pairs, "test", 6)
    export(tmp_path / "out", bench, rows, six, corpus, blind=False, layout="lerobot")
    header, clips = read_listing(tmp_path / "out")
    assert (header.schema_version, header.layout, header.clips) == (1, "lerobot", 6)
    assert {clip.dataset for clip in clips} == {"toy"}
    store = EpisodeStore(tmp_path / "out/toy")
    for clip, row in zip(clips, rows, strict=True):
        frames, actions = bench.clip(row)
        episode = store.read(clip.episode)
        np.testing.assert_array_equal(episode.frames, frames)
        np.testing.assert_array_equal(episode.actions[:-1], actions)
        assert (episode.id, episode.instruction) == (clip.clip, clip.instruction)
        assert list(clip.faithful.values()) == pytest.approx(bench.pairs[row].faithful)


def test_the_schema_describes_what_is_written_and_changes_with_its_version(bench, six, corpus, tmp_path):
    export(tmp_path, bench, choose_pairs(bench.pairs, "test", 2), six, corpus, blind=False)
    document = json.loads((tmp_path / "schema.json").read_text())
    written = {"ExportedBench": (tmp_path / "bench.json").read_text(), "ExportedClip": lines(tmp_path)[0]}
    for kind, value in written.items():
        fields = set(json.loads(value) if isinstance(value, str) else value)
        described = document["$defs"][kind]
        assert set(described.get("required", ())) <= fields <= set(described["properties"])
        assert all("description" in field for key, field in described["properties"].items() if key != "format")
    kinds = (ExportedBench, ExportedClip, ExportedDimension)
    fields = {
        kind.__name__: {name: str(field.annotation) for name, field in kind.model_fields.items()} for kind in kinds
    }
    digest = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]
    known = (1, "9a5626ea")
    assert (SCHEMA_VERSION, digest) == known, "the format changed: raise SCHEMA_VERSION, and update this line"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("bench.json", '"schema_version": 1', '"schema_version": 2', r"bench\.json: schema_version: Input should be 1"),
        ("clips.jsonl", '"frames":', '"frame":', r"clips\.jsonl:1: frames: Field required; see schema\.json"),
        ("bench.json", '"clips": 2', '"clips": 3', r"has 2 clips, bench\.json says 3; export it again"),
        ("clips.jsonl", '"video":"clips/', '"video":"lost/', r"clips\.jsonl:1: lost/.*\.mp4 is missing"),
    ],
)
def test_check_names_what_is_wrong_with_a_folder(bench, six, corpus, tmp_path, capsys, name, old, new, message):
    export(tmp_path, bench, choose_pairs(bench.pairs, "test", 2), six, corpus, blind=True)
    assert main(["bench", "check", str(tmp_path)]) == 0
    assert "2 clips, valid by schema version 1" in capsys.readouterr().out
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1))
    assert main(["bench", "check", str(tmp_path)]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_fewer_clips_are_the_first_of_more(bench):
    everything = choose_pairs(bench.pairs, "train", 0)
    assert choose_pairs(bench.pairs, "train", 7) == everything[:7]
    assert all(bench.pairs[row].judged for row in everything)
    assert len({bench.pairs[row].id for row in everything}) == len(everything)


def test_the_guide_shows_a_line_that_is_accepted(six):
    text = write_guide(six, 3)
    example = text.split("```json\n")[1].split("\n```")[0]
    assert set(Annotation.model_validate_json(example).scores) == set(six.names)
    for dimension in six.dimensions.values():
        assert dimension.rubric in text


def test_without_a_bench_the_command_says_what_to_do(tmp_path, capsys):
    assert main(["--root", str(tmp_path), "bench", "export", str(tmp_path / "out")]) == 1
    assert "dvc repro bench" in capsys.readouterr().err


def test_a_negative_number_of_clips_is_refused(tmp_path, capsys):
    assert main(["--root", str(tmp_path), "bench", "export", str(tmp_path / "out"), "--clips", "-1"]) == 2
    assert "--clips is -1" in capsys.readouterr().err


def test_the_command_writes_the_folder(bench, six, labeller, tmp_path, capsys, monkeypatch):
    (tmp_path / "build/spec").mkdir(parents=True)
    (tmp_path / "build/spec/reward.yaml").write_text(yaml.safe_dump({"reward": six.model_dump(mode="json")}))
    (tmp_path / "artifacts/bench").mkdir(parents=True)
    plain = [pair for pair in bench.pairs if pair.generated < 0]
    write_pairs(tmp_path / "artifacts/bench/pairs.parquet", plain, six.names)
    monkeypatch.setattr("roboalign.store.Corpus.open", lambda path: labeller.corpus)
    assert main(["--root", str(tmp_path), "bench", "export", str(tmp_path / "out"), "--clips", "2", "--blind"]) == 0
    assert "2 clips of the test split" in capsys.readouterr().out
    assert len(lines(tmp_path / "out")) == 2


def test_a_strip_shows_as_many_frames_of_each_clip():
    long, short = np.full((12, 32, 40, 3), 200, np.uint8), np.full((5, 32, 40, 3), 100, np.uint8)
    image = draw_strip([long, short], 4)
    assert image.shape == (2 * (128 + 2), 4 * (160 + 2), 3)
    assert (image[:128, -4] == 200).all()
    assert (image[130:258, -4] == 0).all()
