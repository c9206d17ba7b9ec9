from dataclasses import replace

import numpy as np
import pytest

from roboalign.bench.build import build
from roboalign.bench.pairs import Bench, BenchError, pair_id, read_pairs, write_pairs


@pytest.fixture(scope="module")
def pairs(labeller):
    return build({"judge": labeller}, {}, None, 10.0)["judge"]


def test_what_is_written_is_read(pairs, six, tmp_path):
    write_pairs(tmp_path / "pairs.parquet", pairs, six.names)
    assert list(read_pairs(tmp_path / "pairs.parquet", six.names)) == pairs


def test_a_damaged_or_foreign_bench_is_named(pairs, corpus, six, tmp_path):
    (tmp_path / "damaged.parquet").write_bytes(b"no parquet")
    with pytest.raises(BenchError, match="dvc repro bench"):
        read_pairs(tmp_path / "damaged.parquet", six.names)
    write_pairs(tmp_path / "pairs.parquet", pairs, six.names)
    with pytest.raises(BenchError, match="score_physics_adherence"):
        read_pairs(tmp_path / "pairs.parquet", six.names[:-1])
    with pytest.raises(BenchError, match="the sources lack"):
        Bench.open(tmp_path, corpus.filter(split="train"), six.names)


def test_ids_name_the_clip_and_not_its_label(pairs):
    assert all(len(pair.id) == 16 for pair in pairs)
    pair = pairs[0]
    same = replace(pair, scores=(0.0,) * 6, provenance="people", judged=False, origin="policy")
    assert pair_id(same, "scene") == pair_id(pair, "scene")
    for change in ({"start": pair.start + 1}, {"instruction": "wave"}, {"episode": "x"}, {"model": "final"}):
        assert pair_id(replace(pair, **change), "scene") != pair_id(pair, "scene")
    assert pair_id(pair, "another scene") != pair_id(pair, "scene")
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    assert pair_id(pair, "scene", frames) != pair_id(pair, "scene", frames + 1)
