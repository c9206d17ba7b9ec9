"""Mutated model files: each loader raises CheckpointError, or gives a model that is whole."""

import copy
import json
import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from roboalign import checkpoint
from roboalign.judge.model import load_regression_judge
from roboalign.probe.model import load_probe, save_probe
from roboalign.probe.outcome import load_outcome_model, save_outcome_model
from roboalign.reward.spec import RewardSpec
from roboalign.student.model import load_student, save_student
from roboalign.tokenizer.model import DualBranchTokenizer, load_tokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Episode
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel, load_world_model, save_world_model
from roboalign.world_model.spec import WorldModelSpec
from tests.attack.conftest import SCALE, Tell
from tests.reward.reward_fakes import toy_judge, toy_student

HOSTILE: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    -1,
    0,
    1,
    2**31,
    10**15,
    1e300,
    True,
    [[]],
    {"a": 1},
    "\ud7ff\x00",
    [1] * 50,
]
DTYPES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "X": 4,
}  # fmt: skip
"""Types by their names in safetensors, with their bytes; X is none."""


@dataclass(frozen=True)
class Kind:
    """A kind of model file: a whole one, and its loader."""

    content: bytes
    load: Callable[[Path], torch.nn.Module]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory, toy_episodes: list[Episode]) -> dict[str, Kind]:
    """A small model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    six = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))
    training = {"steps": 1, "batch_size": 1, "learning_rate": 1e-3}
    tokenizer = TokenizerSpec.model_validate({
        "height": 16, "width": 16, "patch": 4, "widths": [8], "blocks": 1, "context_grid": [4, 4],
        "dynamics_grid": [2, 2], "context_levels": [5, 5], "dynamics_levels": [4, 5, 3], "warps": 2,
        "attention": {"heads": 2, "max_height": 4}, "training": training,
    })  # fmt: skip
    world = WorldModelSpec.model_validate({
        "layers": 1, "hidden_size": 24, "heads": 3, "kv_heads": 3, "intermediate_size": 40,
        "max_position_embeddings": 128, "training": training,
    })  # fmt: skip
    judge, student = toy_judge(toy_episodes[:3], six), toy_student(toy_episodes[:3], six)
    checkpoint.save_model(folder / "tokenizer", DualBranchTokenizer(tokenizer), tokenizer, "x")
    save_world_model(folder / "world_model", WorldModel(world, TokenShape(6, 4, (4, 3), (3, 5), 3)), "x")
    save_probe(folder / "probe", judge.eyes, "x")
    save_outcome_model(folder / "outcome", judge.outcome, len(judge.eyes.tasks), "x")
    judge.save(folder / "judge", "x")
    save_student(folder / "student", student, "x")
    loaders: dict[str, Callable[[Path], torch.nn.Module]] = {
        "tokenizer": load_tokenizer, "world_model": load_world_model, "probe": load_probe,
        "outcome": load_outcome_model, "judge": load_regression_judge, "student": load_student,
    }  # fmt: skip
    return {name: Kind((folder / name).read_bytes(), load) for name, load in loaders.items()}


def take_apart(content: bytes) -> tuple[dict[str, Any], bytearray]:
    """Header and data of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])


def put_together(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def mutate_value(value: Any, draw: random.Random) -> Any:
    """`value` with something within it replaced by a hostile value."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value))
        if draw.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: mutate_value(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        number = draw.randrange(len(value))
        return [*value[:number], mutate_value(value[number], draw), *value[number + 1 :]]
    return draw.choice(HOSTILE)


def mutate(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """A name for what was done to a model file, and its bytes."""
    header, data = take_apart(content)
    names = sorted(name for name in header if name != "__metadata__")
    name = draw.choice(names)
    entry = header[name]
    start, end = entry["data_offsets"]
    match draw.randrange(13):
        case 0:
            return "cut", content[: draw.randrange(len(content))]
        case 1:
            at = draw.randrange(len(content) - len(data))
            return "header bit", content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
        case 2:
            at = draw.randrange(8)
            return "header length", content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]
        case 3:
            entry["dtype"] = draw.choice(sorted(DTYPES))
            return "type", put_together(header, data)
        case 4:
            new = draw.choice(
                [t for t in DTYPES if DTYPES[t] == DTYPES[entry["dtype"]] and t != entry["dtype"]] or ["X"]
            )
            entry["dtype"] = new
            return "type of the same width", put_together(header, data)
        case 5:
            entry["shape"] = draw.choice([[], [0], [2**62, 4], [-1], [*entry["shape"][::-1], 1], [2**63], "x", None])
            return "shape", put_together(header, data)
        case 6:
            wrong = [[end + 4, start], [0, 2**63], [start, end + 4], [start + 1, end], [1], None]
            entry["data_offsets"] = draw.choice(wrong)
            return "offsets", put_together(header, data)
        case 7:
            header[draw.choice(["extra", "", "x" * 10_000, name.upper()])] = header.pop(name)
            return "name", put_together(header, data)
        case 8:
            wide = entry["dtype"] == "F32" and end > start
            special = struct.pack("<f", draw.choice([float("nan"), float("inf"), -float("inf")]))
            at = start + 4 * draw.randrange((end - start) // 4) if wide else 0
            data[at : at + 4] = special if wide else data[at : at + 4]
            return "not finite" if wide else "nothing", put_together(header, data)
        case 9:
            return "cut header", struct.pack("<Q", 20) + json.dumps(header).encode()[:20] + bytes(data)
        case 10:
            metadata = draw.choice(
                [None, {}, {"roboalign": "["}, {"roboalign": "[" * 50_000}, {"roboalign": "3"}, {"a": "b"}]
            )
            return "no metadata", put_together(header | {"__metadata__": metadata}, data)
        case 11:
            at = draw.randrange(len(data))
            data[at] ^= 1 << draw.randrange(8)
            return "data bit", put_together(header, data)
        case _:
            metadata = json.loads(header["__metadata__"]["roboalign"])
            header["__metadata__"]["roboalign"] = json.dumps(mutate_value(metadata, draw))
            return "metadata", put_together(header, data)


REFUSED = {"type of the same width", "offsets", "name", "not finite", "cut header", "no metadata"}
"""Changes after which no file can be whole."""


def attack_models(kinds: dict[str, Kind], folder: Path, count: int, seed: int) -> Counter[str]:
    """Load mutated files; how many were refused, taken unharmed, and how long the slowest took in milliseconds."""
    draw, figures, path = random.Random(seed), Counter[str](), folder / "mutant"
    for number in range(count):
        kind = kinds[sorted(kinds)[number % len(kinds)]]
        what, content = mutate(kind.content, draw)
        path.write_bytes(content)
        started = time.process_time()
        model = refused = None
        try:
            model = kind.load(path)
        except checkpoint.CheckpointError as error:
            refused = str(error)
        if model is None:
            assert refused is not None
            assert refused.startswith(str(path)), refused
            figures["refused"] += 1
        else:
            assert what not in REFUSED, what
            path.write_bytes(kind.content)
            whole = kind.load(path).state_dict()
            for name, tensor in model.state_dict().items():
                assert torch.isfinite(tensor).all(), (what, name)
                assert what in ("data bit", "metadata") or torch.equal(tensor, whole[name]), (what, name)
            figures["taken"] += 1
        figures["slowest_ms"] = max(figures["slowest_ms"], round(1000 * (time.process_time() - started)))
    return figures


def attack_scratch(folder: Path, count: int, seed: int) -> Counter[str]:
    """Read mutated scratch checkpoints: each is refused, or holds what was written to the last bit."""
    draw, figures, path = random.Random(seed), Counter[str](), folder / "scratch"
    tensors = {"model.a": torch.randn(40), "optimizer.0.0.step": torch.tensor(3), "model.b": torch.zeros(2, 3)}
    checkpoint.save_scratch(path, tensors, step=3, rows=[{"step": 3.0, "loss": 0.5}])
    whole = path.read_bytes()
    for _ in range(count):
        path.write_bytes(mutate(whole, draw)[1])
        try:
            found, metadata = checkpoint.load_scratch(path)
        except checkpoint.CheckpointError:
            figures["refused"] += 1
            continue
        assert metadata == {"step": 3, "rows": [{"step": 3.0, "loss": 0.5}]}
        assert found.keys() == tensors.keys()
        assert all(torch.equal(tensor, found[name]) for name, tensor in tensors.items())
        figures["unharmed"] += 1
    return figures


def test_whole_files_are_taken(kinds: dict[str, Kind], tmp_path: Path) -> None:
    for kind in kinds.values():
        header, data = take_apart(kind.content)
        (tmp_path / "model").write_bytes(put_together(copy.deepcopy(header), data))
        kind.load(tmp_path / "model")


def test_mutated_models_short(kinds: dict[str, Kind], tmp_path: Path) -> None:
    attack_models(kinds, tmp_path, 36, seed=1)


def test_mutated_scratch_short(tmp_path: Path) -> None:
    assert attack_scratch(tmp_path, 100, seed=1)["refused"] > 60


@pytest.mark.attack
def test_mutated_models(kinds: dict[str, Kind], tmp_path: Path, tell: Tell) -> None:
    tell("model files", **attack_models(kinds, tmp_path, 600 * SCALE, seed=2))


@pytest.mark.attack
def test_mutated_scratch(tmp_path: Path, tell: Tell) -> None:
    tell("scratch checkpoints", **attack_scratch(tmp_path, 1000 * SCALE, seed=2))
