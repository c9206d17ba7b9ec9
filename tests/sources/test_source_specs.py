from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from roboalign.sources.spec import SourceSpec
from roboalign.spec.single import single

SPECS = Path(__file__).parents[2] / "specs/sources"
ADAPTER = TypeAdapter(SourceSpec)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sources_are_valid(path: Path) -> None:
    spec = single(SPECS.parents[1], path, "sources")
    assert spec.action_width >= 4
    assert spec.image_size[0] % 4 == 0


def test_a_spec_survives_being_written_and_read() -> None:
    for kind in ("metaworld", "fetch", "panda", "jaco"):
        spec = ADAPTER.validate_python({"kind": kind, "episodes": 7})
        assert ADAPTER.validate_python(spec.model_dump(mode="json")) == spec
        assert ADAPTER.validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"policies": {"expert": 0.9}}, "random"),
        ({"split": {"train": 0.5}}, "train"),
        ({"noise": {"low": 0.8, "high": 0.1}}, "low"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": {"fly": {}}}, "fly"),
        ({"image": {"height": 63}}, "height"),
        ({"length": 1}, "length"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ADAPTER.validate_python({"kind": "metaworld", **change})
