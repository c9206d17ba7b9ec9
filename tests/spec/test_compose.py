"""Composition: layers, positions that survive merging, checks across parts, and what is written."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from roboalign.reward.spec import RewardSpec
from roboalign.spec.compose import FOLDER, HEADER, Composition, compose, compose_params, write
from roboalign.spec.diagnostics import SpecError, render, sort_diagnostics
from roboalign.spec.document import COMMAND_LINE
from roboalign.spec.experiment import KINDS
from roboalign.spec.library import Library

Edit = Callable[[str, str, str], None]


def composed(root: Path) -> Composition:
    result = compose_params(Library(root))
    result.require()
    return result


def errors(root: Path) -> list[str]:
    return [render(item) for item in sort_diagnostics(compose_params(Library(root)).diagnostics)]


def test_every_section_is_whole(tree: Path) -> None:
    sections = composed(tree).sections
    assert list(sections) == list(KINDS)
    assert sections["rollout"]["decodings"]["swr"]["window"] == 6
    # A default that no file names.
    assert sections["hardware"]["device"]["nodes"] == 1


def test_later_layers_win(tree: Path, edit: Edit) -> None:
    edit("specs/experiments/tiny.yaml", "sources:", "set: {rollout.episodes: 10, rollout.batch_size: 10}\nsources:")
    assert composed(tree).sections["rollout"]["episodes"] == 10
    edit("params.yaml", "set: {}", "set: {rollout.episodes: 11}")
    sections = composed(tree).sections
    assert (sections["rollout"]["episodes"], sections["rollout"]["batch_size"]) == (11, 10)


@pytest.mark.parametrize(
    "values",
    [
        "{rollout.decodings.swr.window: 9}",
        "{rollout: {decodings: {swr: {window: 9}}}}",
        "{rollout.decodings.swr: {window: 9}}",
        "{rollout: {decodings: {swr: {window: 3}}}, rollout.decodings.swr.window: 9}",
    ],
)
def test_dotted_and_nested_values_are_the_same(tree: Path, edit: Edit, values: str) -> None:
    edit("params.yaml", "set: {}", f"set: {values}")
    assert composed(tree).sections["rollout"]["decodings"]["swr"]["window"] == 9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("probe.judge.outcome.training.seed", 7),
        ("probe.judge.outcome.hidden_size", 48),
        ("rl.distillation.every", 3),
        ("rl.measure.prompts", 8),
        ("evaluation.frechet.seed", 5),
    ],
)
def test_a_field_of_a_default_object_is_set_alone(tree: Path, edit: Edit, key: str, value: int) -> None:
    part, *path = key.split(".")
    expected = composed(tree).sections[part]
    below = expected
    for name in path[:-1]:
        below = below[name]
    assert below[path[-1]] != value
    below[path[-1]] = value
    edit("params.yaml", "set: {}", f"set: {{{key}: {value}}}")
    assert composed(tree).sections[part] == expected


def test_an_error_in_a_default_object_points_at_the_key_that_set_it(tree: Path, edit: Edit) -> None:
    edit("params.yaml", "set: {}", "set: {probe.judge.outcome.hiden_size: 48}")
    (error,) = errors(tree)
    assert "unknown key 'hiden_size'; did you mean 'hidden_size'?" in error
    assert error.startswith("params.yaml:")


def test_a_dimension_is_set_by_its_name_and_weights_are_no_part_of_the_rubric(tree: Path, edit: Edit) -> None:
    before = composed(tree).section_files
    edit("params.yaml", "set: {}", "set: {reward.dimensions.manipulation_success.weight: 2.5}")
    after = composed(tree).section_files
    weights = {name: dimension["weight"] for name, dimension in after["reward"]["dimensions"].items()}
    assert weights["manipulation_success"] == 2.5
    assert sum(weights.values()) == 7.5
    assert after["rubric"] == before["rubric"]
    assert list(after["rubric"]["dimensions"]) == list(weights)
    assert RewardSpec.model_validate(after["rubric"]).weights == (1,) * 6


def test_an_item_of_a_list_is_set_by_its_number(tree: Path, edit: Edit) -> None:
    edit("params.yaml", "set: {}", "set: {bench.groups.1.prompts: 40}")
    groups = composed(tree).sections["bench"]["groups"]
    assert [group["prompts"] for group in groups[:3]] == [240, 40, 24]


def test_another_variant_of_one_part(tree: Path, edit: Edit) -> None:
    edit("params.yaml", "rollout: null", "rollout: w12")
    assert composed(tree).sections["rollout"]["decodings"]["swr"]["window"] == 12


def test_another_kind_replaces_the_fields_of_the_first(tree: Path, edit: Edit) -> None:
    judge = "{kind: qwen3_vl, inputs: [text, video, actions], training: {steps: 5, batch_size: 2, learning_rate: 1e-4}}"
    edit("params.yaml", "set: {}", f"set: {{judge: {judge}}}")
    section = composed(tree).sections["judge"]
    assert section["kind"] == "qwen3_vl"
    assert "encoder" not in section


def test_a_variant_extends_another(tree: Path) -> None:
    (tree / "specs/rollout/mine.yaml").write_text("extends: w12\nepisodes: 5\n")
    text = (tree / "params.yaml").read_text().replace("rollout: null", "rollout: mine")
    (tree / "params.yaml").write_text(text)
    rollout = composed(tree).sections["rollout"]
    assert (rollout["episodes"], rollout["decodings"]["swr"]["window"]) == (5, 12)


def test_an_experiment_extends_another(tree: Path) -> None:
    (tree / "specs/experiments/mine.yaml").write_text("extends: tiny\nuse: {rollout: w12}\n")
    result = compose(Library(tree), "mine", COMMAND_LINE)
    result.require()
    assert result.sections["rollout"]["decodings"]["swr"]["window"] == 12
    assert list(result.sections["sources"]) == ["metaworld", "fetch", "panda", "jaco"]


def test_extending_in_a_circle_is_refused(tree: Path) -> None:
    (tree / "specs/rollout/w6.yaml").write_text("extends: w12\n")
    (tree / "specs/rollout/w12.yaml").write_text("extends: w6\n")
    assert errors(tree) == [
        "specs/rollout/w12.yaml:1:10: error: 'extends' forms a cycle: w6 → w12 → w6\n 1 | extends: w6\n   |          ^~"
    ]


def test_fewer_sources_are_a_note_and_no_error(tree: Path, edit: Edit) -> None:
    edit("params.yaml", "[metaworld, fetch, panda, jaco]", "[metaworld, fetch]")
    result = composed(tree)
    assert list(result.sections["sources"]) == ["metaworld", "fetch"]
    assert [item.severity for item in result.diagnostics] == ["note"]
    assert "lists other sources: metaworld, fetch, panda, jaco" in result.diagnostics[0].message


def test_values_for_all_sources_and_for_one(tree: Path, edit: Edit) -> None:
    edit("params.yaml", "set: {}", "set: {sources.*.episodes: 7, sources.panda.episodes: 8}")
    sources = composed(tree).sections["sources"]
    assert {name: source["episodes"] for name, source in sources.items()} == {
        "metaworld": 7, "fetch": 7, "panda": 8, "jaco": 7,
    }  # fmt: skip


def test_an_experiments_values_for_sources_left_out_are_dropped(tree: Path, edit: Edit) -> None:
    edit("specs/experiments/tiny.yaml", "sources:", "set: {sources.panda.episodes: 9}\nsources:")
    edit("params.yaml", "[metaworld, fetch, panda, jaco]", "[metaworld]")
    assert list(composed(tree).sections["sources"]) == ["metaworld"]


PLACES = [
    ("params.yaml", "rollout: null", "rollout: w13", "there is no specs/rollout/w13.yaml; did you mean 'w12'?", "w13"),
    ("params.yaml", "experiment: tiny", "experiment: tniy", "did you mean 'tiny'?", "tniy"),
    ("params.yaml", "panda", "pnda", "there is no specs/sources/pnda.yaml; did you mean 'panda'?", "pnda"),
    ("params.yaml", "panda, jaco", "panda, panda", "the source 'panda' is listed twice", "panda]"),
    ("params.yaml", "  rollout: null", "  rolout: null", "unknown key 'rolout'; did you mean 'rollout'?", "rolout"),
    ("params.yaml", "set: {}", "set: {rollot.swr.window: 9}", "no part is called 'rollot'; did you mean", "rollot"),
    ("params.yaml", "set: {}", "set: {rollout.decodings.swr.windw: 9}", "did you mean 'window'?", "windw"),
    ("params.yaml", "set: {}", "set: {rollout: {decodings: {swr: {windw: 9}}}}", "did you mean 'window'?", "windw"),
    ("params.yaml", "set: {}", "set: {rollout.decodings.swr.window: 0}", "'window' must be at least 1, not 0", "0}"),
    ("params.yaml", "set: {}", "set: {rollout.decodings.swr.window: '9'}", "remove the quotes", "'9'"),
    ("params.yaml", "set: {}", "set: {rollout: 9}", "name a field of 'rollout'", "rollout: 9"),
    ("params.yaml", "set: {}", "set: {sources.pand.seed: 1}", "'pand' is not listed; did you mean 'panda'?", "pand."),
    ("specs/experiments/tiny.yaml", "rollout: w6", "rollout: w", "there is no specs/rollout/w.yaml", "w\n"),
    ("specs/experiments/tiny.yaml", "  rollout: w6\n", "", "names no variant of 'rollout'", ""),
    ("specs/experiments/tiny.yaml", "sources:", "set: {judge.kind: regresion}\nsources:", "'regression'?", "regresion"),
    ("specs/rollout/w6.yaml", "window: 6", "windw: 6", "unknown key 'windw'; did you mean 'window'?", "windw"),
    ("specs/rollout/w6.yaml", "window: 6", "window: 31", "31", "window: 31"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "words", "at"), PLACES, ids=[case[2] or case[1] for case in PLACES])
def test_errors_point_at_the_file_they_came_from(
    tree: Path, edit: Edit, name: str, old: str, new: str, words: str, at: str
) -> None:
    edit(name, old, new)
    found = [item for item in compose_params(Library(tree)).diagnostics if words in item.text]
    assert len({(item.mark, item.text) for item in found}) == 1, errors(tree)
    mark = found[0].mark
    assert mark.source.name == name
    lines = (tree / name).read_text().split("\n")
    assert f"{lines[mark.line]}\n"[mark.column :].startswith(at) or at == "window: 31"


CROSS = [
    ("tokenizer.height: 128", "sources.metaworld.image.height: images are 64 pixels in height"),
    ("sources.fetch.image.width: 48", "sources.fetch.image.width: images are 48 pixels in width, but tokenizer"),
    ("rollout.horizon: 40", "rollout.horizon: sources.metaworld has episodes of 32 frames, 9 fewer than needed"),
    ("rl.horizon: 40", "rl.horizon: sources.metaworld has episodes of 32 frames"),
    ("world_model.segment.frames: 32", "world_model.segment.frames: sources.metaworld has"),
    ("sources.jaco.length: 20", "rollout.horizon: sources.jaco has episodes of 20 frames, 11 fewer than needed"),
    (
        "world_model.max_position_embeddings: 500",
        "world_model.max_position_embeddings: a sequence of 1054 tokens (rollout.horizon) does not fit",
    ),
    ("world_model.actions: {kind: tokens, width: 4}", "world_model.actions.width: sources.jaco has 7 action"),
    ("sources.panda.split: {train: 0.9, validation: 0.1, test: 0}", "sources.panda.split.test: the test split"),
    ("tokenizer.dynamics_levels: [64, 64, 64]", "tokenizer.dynamics_levels: their product is 262,144 codes"),
    ("hardware.device.devices: 3", "tokenizer.training.batch_size: 8 must be divisible by the number of devices (3)"),
    (
        "hardware.micro_batches.world_model: 3",
        "hardware.micro_batches.world_model: world_model.training.batch_size (16) must be divisible by 3 micro-batches",
    ),
    (
        "hardware.micro_batches.policies: 7\n  policies.policies: {clone: {kind: behavior_cloning, model: {kind: "
        "perceived, training: {steps: 1, batch_size: 8, learning_rate: 0.001}}}}",
        "policies.policies.clone.model.training.batch_size (8) must be divisible by 7 micro-batches",
    ),
    ("hardware.micro_batches.probe: 16", "training.batch_size (8) must be divisible by 16 micro-batches x 1 devices"),
    (
        "hardware.device: {strategy: fsdp, precision: 16-mixed}",
        "'strategy': fsdp does not scale gradients of 16-mixed; set precision to bf16-mixed",
    ),
    ("hardware.device: {strategy: fsdp, compile: true}", "'strategy': fsdp gathers layers, which compiled graphs do"),
    ("hardware.device: {precision: 16-mixed, fused_adamw: true}", "'fused_adamw': must be false with precision 16-"),
    ("hardware.limits.memory_gb: 0.5", "rollout.batch_size: the stage rollout needs about"),
    ("hardware.limits.memory_gb: 0.5", "micro_batches.tokenizer: the stage tokenizer needs about"),
    ("hardware: {device: {accelerator: cuda}, limits: {ram_gb: 0.5}}", "limits.ram_gb: the stage tokenizer needs"),
    ("world_model.segment: null", "is null, but training needs segments; give them, or set training.steps to 0"),
    ("evaluation.frechet.dimension: 160", "evaluation.frechet.dimension: 160 dimensions of features and as many of"),
    ("rollout.episodes: 2", "the rollouts have at most 12 (episodes x horizon / measured_every); lower this to 5"),
    (
        "student.encoder.appearance: {backbone: vit_tiny_patch16_224, level: 0, frames: 2, image_size: [32, 32]}",
        "student.encoder.appearance.image_size: must equal the tokenizer's image size [64, 64]",
    ),
    ("rl.optimizer: {kind: grpo}\n  rl.group_size: 1", "grpo compares rollouts of one prompt; set it to 2 or more"),
    ("bench.groups.0.frames: 40", "bench.groups.0.frames: sources.metaworld has episodes of 32 frames"),
    ("probe.gold.frames: 40", "probe.gold.frames: sources.metaworld has episodes of 32 frames"),
    ("rollout.decodings.swr.window: 31", "window 31 is above the horizon of 30 frames"),
    ("bench.min_frames: 33", "min_frames (33) is above max_frames (32); lower it"),
    (
        "rollout.decodings.both: {kind: swr_two_contexts}\n  rollout.sampling.greedy: [ar, both]",
        "world_model.contexts: rollout uses the decoding both, which needs a world model with 2 contexts",
    ),
    ("rollout.sampling.greedy: [ar, sw]", "'sw' is not a name in decodings"),
    ("sources.*.split: {train: 0.8, validation: 0, test: 0.2}", "rl.guard: the guard measures the policy"),
    (
        "sources.*.split: {train: 0.8, validation: 0, test: 0.2}\n  rollout.decodings.best: {kind: swr_drift}"
        "\n  rollout.sampling.greedy: [ar, best]",
        "rollout.decodings.best: the decoding best measures its window on validation episodes",
    ),
    ("bench.held_out_sources: [rt9]", "bench.held_out_sources.0: the experiment has no source rt9; it has"),
    ("bench.held_out_sources: [metaworld, fetch, panda, jaco]", "every source is held out"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "words"), CROSS, ids=[case[0] for case in CROSS])
def test_parts_that_do_not_fit_together_are_refused(tree: Path, edit: Edit, value: str, words: str) -> None:
    edit("params.yaml", "set: {}", f"set:\n  {value}")
    found = errors(tree)
    assert any(words in text for text in found), found


def test_visual_servoing_needs_a_robot_with_a_scripted_controller(tree: Path, edit: Edit) -> None:
    words = "policies.policies.servo.kind: no source has a scripted controller of gripper displacements"
    edit("params.yaml", "policies: null", "policies: tiny")
    assert not any(words in text for text in errors(tree))
    edit("params.yaml", "sources: [metaworld, fetch, panda, jaco]", "sources: [metaworld, jaco]")
    assert any(words in text for text in errors(tree))


def test_a_violation_points_at_the_value_to_change(tree: Path, edit: Edit) -> None:
    edit("params.yaml", "set: {}", "set:\n  rollout.horizon: 40")
    line = (tree / "params.yaml").read_text().split("\n").index("  rollout.horizon: 40") + 1
    found = [text for text in errors(tree) if "rollout.horizon:" in text.split("\n")[0]]
    assert [text.split(" error")[0] for text in found] == [f"params.yaml:{line}:20:"]


def test_what_is_written_is_what_the_stages_read(tree: Path) -> None:
    folder = tree / FOLDER
    assert write(composed(tree), folder) == sorted(f"{section}.yaml" for section in (*KINDS, "rubric"))
    for section, value in composed(tree).section_files.items():
        text = (folder / f"{section}.yaml").read_text(encoding="utf-8")
        assert text.startswith(HEADER)
        assert yaml.safe_load(text) == {section: value}


def test_unchanged_files_are_not_rewritten_and_strays_are_removed(tree: Path, edit: Edit) -> None:
    folder = tree / FOLDER
    write(composed(tree), folder)
    (folder / "old.yaml").write_text("old: 1\n")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    edit("params.yaml", "set: {}", "set: {rollout.decodings.swr.window: 9}")
    assert write(composed(tree), folder) == ["old.yaml", "rollout.yaml"]
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {name for name in before if before[name] != after.get(name)} == {"old.yaml", "rollout.yaml"}
    assert write(composed(tree), folder) == []


def test_an_error_leaves_everything_as_it_was(tree: Path, edit: Edit) -> None:
    folder = tree / FOLDER
    write(composed(tree), folder)
    (folder / "old.yaml").write_text("old: 1\n")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    edit("params.yaml", "set: {}", "set: {rollout.decodings.swr.window: 9, judge.kind: none}")
    with pytest.raises(SpecError):
        write(compose_params(Library(tree)), folder)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_a_comment_changes_nothing(tree: Path, edit: Edit) -> None:
    before = composed(tree).sections
    edit("specs/rollout/w6.yaml", "horizon:", "# a comment\nhorizon:")
    assert composed(tree).sections == before


def test_a_judge_without_actions_has_no_faithful_scores_to_distil(tree: Path, edit: Edit) -> None:
    edit(
        "params.yaml", "set: {}", "set: {judge: {kind: openai_api, base_url: 'http://h/v1', model: m, inputs: [video]}}"
    )
    with pytest.raises(SpecError, match=r"add actions, or set rl\.reward\.variant to absolute"):
        composed(tree)


def test_proprioception_that_no_source_reads_is_refused(tree: Path, edit: Edit) -> None:
    edit("params.yaml", "set: {}", "set: {world_model.proprioception: {}, sources.*.episodes: 20}")
    assert errors(tree) == []  # a simulated robot measures its gripper
    edit("params.yaml", "sources: [metaworld, fetch, panda, jaco]", "sources: [bridge]")
    assert any("world_model.proprioception: no source reads proprioception" in text for text in errors(tree))
