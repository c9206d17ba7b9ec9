"""The floors of the package: imports go down only, and what answers at once never imports torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = (
    "sources", "reward", "bench", "tokenizer", "world_model", "probe", "judge", "student", "rl", "rollout",
    "evaluation", "policies", "report", "hardware",
)  # fmt: skip
BASE = ("roboalign.spec.base", "roboalign.spec.training", "roboalign.spec.weights")
SHARED = (
    "roboalign.types", "roboalign.io", "roboalign.store", "roboalign.checkpoint",
    "roboalign.initial_weights", "roboalign.run", "roboalign.training", "roboalign.trained_module",
    "roboalign.training_process", "roboalign.distributed", "roboalign.sharded_weights", "roboalign.executor",
    "roboalign.optimizer", "roboalign.video", "roboalign.loggers", "roboalign.progress", "roboalign.frame_sheets",
    "roboalign.machine",
)  # fmt: skip
LENT = (
    "roboalign.reward.dimensions",
    "roboalign.reward.text",
    "roboalign.evaluation.clips", "roboalign.probe.camera", "roboalign.probe.keypoints", "roboalign.tokenizer.layers",
)  # fmt: skip
"""Modules of parts that other parts may import: pure functions, measures, records and layers, no models."""
BELOW = {
    "reward": {"probe"},
    "bench": {"reward"},
    "judge": {"probe", "reward", "bench"},
    "student": {"probe", "reward", "bench"},
    "rl": {"reward", "student"},
    "policies": {"probe"},
}
"""Whose models a part may import beside its own.

One chain leads from pictures to rewards, and each link is built on those before it: the probe perceives states, reward
models and gold scores read them, the bench labels clips by the reward's rubric and plans sets for reward models, judge
and student are reward models that learn from the bench's clips, and alignment trains the student online on rollouts in
the form that rewards take. A policy may act on what a probe perceives. All else is passed in, by the stages and
`pipeline`.
"""
COMPOSITION = "roboalign.spec.experiment"
LIGHTNING = (".lit", "_lit")
COMMAND_LINE = ("roboalign.__main__", "roboalign.cli.", "roboalign.study.", "roboalign.comparison.")
"""What may know the whole experiment: the commands, studies, which queue runs of it, and comparisons of runs."""


def modules() -> dict[str, Path]:
    files = [path for folder in ("roboalign", "stages") for path in (ROOT / folder).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


MODULES = modules()


def imports(name: str, path: Path) -> set[str]:
    """The project's modules that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    return {module for module in found if module.split(".")[0] in ("roboalign", "stages")}


EDGES = {name: imports(name, path) for name, path in MODULES.items()}


def part_of(name: str) -> str | None:
    pieces = name.split(".")
    return pieces[1] if len(pieces) > 2 and pieces[0] == "roboalign" and pieces[1] in PARTS else None


def floor(name: str) -> int:
    """The floor a module stands on: base, part specs, composition, shared layers, parts, Lightning, wiring, stages."""
    if name in BASE or name in ("roboalign", "roboalign.types", "roboalign.errors", "roboalign.spec"):
        return 0
    if part_of(name) and name.endswith((".spec", "_spec")):
        return 1
    if name == "roboalign.store.spec" or (name.startswith("roboalign.metrics.") and name.endswith("_spec")):
        return 1
    if name.startswith("roboalign.spec."):
        return 2
    if name in SHARED or name.startswith(("roboalign.store.", "roboalign.metrics")):
        return 3
    if part_of(name):
        return 5 if name.endswith(LIGHTNING) else 4
    if name.split(".")[:2] == ["roboalign", "pipeline"]:
        return 6  # puts parts together for several stages; no part may import it
    return 7  # the stages and the command line


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down_only(name: str) -> None:
    above = {module for module in EDGES[name] if floor(module) > floor(name)}
    assert not above, f"{name} stands on floor {floor(name)} and imports what stands above it"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if part_of(name)))
def test_parts_do_not_import_a_siblings_models(name: str) -> None:
    siblings = {
        module
        for module in EDGES[name]
        if part_of(module) not in (None, part_of(name)) and not module.endswith(".spec") and module not in LENT
    }
    below = BELOW.get(str(part_of(name)), set())
    allowed = {module for module in siblings if part_of(module) in below}
    assert not siblings - allowed, f"{name} imports a sibling; let the stage pass it in"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("roboalign.")))
def test_nothing_below_the_stages_takes_the_whole_experiment(name: str) -> None:
    if floor(name) > 2 and not name.startswith(COMMAND_LINE):
        assert COMPOSITION not in EDGES[name]
        assert not any(module.startswith("roboalign.spec.") and module not in BASE for module in EDGES[name])


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("stages.")))
def test_stages_do_not_import_each_other(name: str) -> None:
    assert not {module for module in EDGES[name] if module.startswith("stages.")}


def test_models_are_plain_torch() -> None:
    for name, path in MODULES.items():
        if part_of(name) and not name.endswith(LIGHTNING):
            text = path.read_text(encoding="utf-8")
            assert "import lightning" not in text, name
            assert "from lightning" not in text, name


def test_no_import_goes_round_in_a_circle() -> None:
    seen: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path, name])
        if name not in seen:
            for module in EDGES.get(name, ()):
                visit(module, (*path, name))
            seen[name] = 1

    for name in MODULES:
        visit(name, ())


def loaded(code: str) -> set[str]:
    """The packages loaded after running `code` in a fresh Python."""
    script = f"import sys\n{code}\nprint('modules:', *{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("modules:")[2].split())


HEAVY = {"torch", "lightning", "dvc", "numpy", "pyarrow", "timm", "scipy", "ruamel"}


@pytest.mark.parametrize("part", [part for part in PARTS if part != "report"])
def test_specs_import_nothing_heavy(part: str) -> None:
    assert not loaded(f"import roboalign.{part}.spec") & HEAVY


@pytest.mark.parametrize("command", ["['check']", "['show', 'rollout']", "['plan']", "['schema', '--check']"])
def test_commands_import_nothing_heavy(command: str) -> None:
    assert not loaded(f"from roboalign.__main__ import main\nmain({command})") & HEAVY


def test_compose_imports_nothing_heavy() -> None:
    assert not loaded("import stages.compose") & HEAVY
