from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rollout_fakes import PixelDistance

from roboalign.io import read_json
from roboalign.rollout.evaluation_episodes import EvaluationEpisodes, seeds, swap_actions
from roboalign.rollout.results import Results
from roboalign.rollout.spec import ArSpec, RolloutSpec, SwrSpec
from roboalign.rollout.suite import RolloutSuite, rollout_sets
from roboalign.spec.training import TrainingSpec
from roboalign.store import Corpus, EpisodeStore
from roboalign.tokenizer.interface import EncodedContext
from roboalign.tokenizer.model import DualBranchTokenizer
from roboalign.tokenizer.spec import TokenizerSpec
from roboalign.types import Episode
from roboalign.world_model.decode_state import DecodeState
from roboalign.world_model.layout import TokenShape
from roboalign.world_model.model import WorldModel
from roboalign.world_model.sampler import Sampler
from roboalign.world_model.spec import WorldModelSpec

TRAINING = TrainingSpec(steps=1, batch_size=1, learning_rate=0.1)


def spec(**changes: object) -> RolloutSpec:
    names = ["ar", "swr", "swr_anchored", "swr_drift", "swr_entropy", "kv_window"]
    fields: dict[str, object] = {
        "horizon": 6, "episodes": 3, "sweep": ["swr_w3"], "best_of": 2,
        "drift": {"ages": [1, 4], "starts": [2], "steps": 3},
        "decodings": {
            **{name: {"kind": name} for name in ("ar", "swr_drift", "swr_entropy")},
            **{name: {"kind": name, "window": 2} for name in ("swr", "swr_anchored", "carry_tokens", "true_refresh")},
            "kv_window": {"kind": "kv_window", "frames": 3},
            "swr_w3": {"kind": "swr", "window": 3},
        },
        "sampling": {"greedy": [*names, "carry_tokens", "true_refresh"], "sampled": names},
    }  # fmt: skip
    return RolloutSpec.model_validate(fields | changes)


def select_episodes(episodes: list[Episode], one: RolloutSpec, split: str = "test") -> EvaluationEpisodes:
    corpus = Corpus.of([episode for episode in episodes if episode.split == split])
    return EvaluationEpisodes.of(corpus, one.horizon, one.episodes, one.seed, torch.device("cpu"))


def suite(episodes: list[Episode], one: RolloutSpec) -> RolloutSuite[EncodedContext, DecodeState]:
    """Untrained models, large enough weights to make rows differ."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = DualBranchTokenizer(
        TokenizerSpec(
            height=32, width=32, patch=4, widths=(16, 32), blocks=1, context_grid=(4, 4), dynamics_grid=(2, 2),
            context_levels=(5, 5), dynamics_levels=(5, 5), training=TRAINING,
        )
    ).eval()  # fmt: skip
    world = WorldModelSpec(
        layers=1,
        hidden_size=32,
        heads=4,
        kv_heads=4,
        intermediate_size=32,
        max_position_embeddings=128,
        training=TRAINING,
    )
    models = [WorldModel(world, TokenShape(16, 4, (5, 5), (5, 5), 4)).eval() for _ in range(2)]
    for parameter in (*models[0].parameters(), *models[1].parameters()):
        torch.nn.init.normal_(parameter, std=0.3)
    samplers = {
        (name, sampling): Sampler(model, temperature=temperature)
        for name, model in zip(("supervised", "aligned"), models, strict=True)
        for sampling, temperature in (("greedy", 0.0), ("sampled", 1.0))
    }
    validation = select_episodes(episodes, one, "validation")
    return RolloutSuite(one, tokenizer, samplers, select_episodes(episodes, one), validation)  # type: ignore[arg-type]


def test_the_batch_changes_no_token(toy_episodes: list[Episode]) -> None:
    small, large = (suite(toy_episodes, spec(batch_size=batch)) for batch in (2, 32))
    for one in rollout_sets(spec()):
        assert torch.equal(small.roll_out_set(one).tokens, large.roll_out_set(one).tokens), one.name


def test_samples_differ_and_the_first_is_the_sampled_rollout(toy_episodes: list[Episode]) -> None:
    made = suite(toy_episodes, spec())
    [one] = [one for one in rollout_sets(spec()) if one.name == "supervised.swr.sampled"]
    first, second = made.samples("supervised")
    assert torch.equal(first, made.roll_out_set(one).frames)
    assert not torch.equal(first, second)
    again = list(made.samples("supervised", first))
    assert again[0] is first
    assert torch.equal(again[1], second)
    assert not torch.equal(second, list(made.samples("aligned"))[1])


def test_seeds_are_a_function_of_episode_and_sample_alone() -> None:
    assert seeds(0, [5, 7]).tolist() == [seeds(0, [5])[0], seeds(0, [7])[0]]
    assert len({int(seeds(a, [b], c)[0]) for a in (0, 1) for b in (0, 1) for c in (0, 1)}) == 8


def test_the_widest_window_of_the_sweep_is_plain_autoregression(toy_episodes: list[Episode]) -> None:
    made = suite(toy_episodes, spec())
    sets = {one.name: made.roll_out_set(one) for one in rollout_sets(spec()) if one.sampling == "greedy"}
    swept = made.sweep("greedy")
    assert list(swept) == [2, 3, 6]
    assert swept[6] is sets["supervised.ar.greedy"]
    assert swept[2] is sets["supervised.swr.greedy"]


def test_drift_has_the_keys_of_the_contract_and_adds_up(toy_episodes: list[Episode]) -> None:
    figures, rows = suite(toy_episodes, spec()).drift("greedy")
    assert {"epsilon", "delta", "swept_window", "swept", "n"} <= set(figures)
    assert figures["n"] == 3
    assert list(figures["swept"]) == ["2", "3", "6"]
    assert figures["swept_window"] in (2, 3, 6)
    if "alpha" in figures:
        assert len(rows) == 6 * (1 + 3)
        assert ("bound" in figures) == (figures["alpha"] < 1)


def test_the_drift_of_the_validation_scenes_chooses_the_window_of_swr_drift(toy_episodes: list[Episode]) -> None:
    made = suite(toy_episodes, spec())
    [one] = [each for each in rollout_sets(spec()) if each.name == "supervised.swr_drift.sampled"]
    drawn = made.roll_out_set(one)
    window = made.windows["supervised", "sampled"]
    validation = replace(made, episodes=select_episodes(toy_episodes, spec(), "validation"), windows={}, _swept={})
    plain = validation.sweep("sampled")[6].frames[:, 1:]
    assert window == validation.measure_error_growth("supervised", "sampled", plain).window()
    decoding = ArSpec() if window == 6 else SwrSpec(window=window)
    assert torch.equal(drawn.tokens, made.roll(decoding, "supervised", "sampled").tokens)
    assert made.drift("sampled")[0]["validation_window"] == window
    with pytest.raises(ValueError, match="swr_drift measures its window on validation episodes"):
        replace(made, validation=None, windows={}).roll_out_set(one)


def test_the_other_way_of_sampling_knows_only_its_window_and_the_horizon(toy_episodes: list[Episode]) -> None:
    figures, _ = suite(toy_episodes, spec()).drift("sampled")
    assert list(figures["swept"]) == ["2", "6"]
    assert "rank_correlation" not in figures


def test_clips_index_and_metrics(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    def write(folder: Path) -> Results:
        one = spec()
        made = suite(toy_episodes, one)
        results = Results(folder, made.episodes, PixelDistance(), 2, one.batch_size)
        for clips in rollout_sets(one)[:2]:
            results.add(clips, made.roll_out_set(clips))
        results.keep("supervised.best_of_2", list(made.samples("supervised")), "supervised", "swr", "sampled")
        results.write_index()
        return results

    results = write(tmp_path / "a")
    index = read_json(tmp_path / "a/index.json")
    assert [entry["name"] for entry in index] == [
        "supervised.ar.greedy",
        "supervised.swr.greedy",
        "supervised.best_of_2",
    ]
    best = index[2]
    test = [episode for episode in toy_episodes if episode.split == "test"]
    assert best["episodes"] == [episode.id for episode in test] * 2
    assert best["samples"] == [0, 0, 0, 1, 1, 1]
    store = EpisodeStore(tmp_path / "a" / best["folder"])
    assert len(store) == 6
    assert store.frames(4).shape == (7, 32, 32, 3)
    assert (store.frames(4)[0] == test[1].frames[0]).all()
    assert store.infos[4].instruction == test[1].instruction
    assert set(results.metrics["supervised.swr.greedy"]) == {
        "psnr", "ssim", "perceptual", "roi_perceptual", "flicker", "repeated_frames", "motion_ratio", "peak_sequence",
        "cache_bytes", "n", "less_ar",
    }  # fmt: skip
    assert set(results.metrics["ground_truth"]) == {"flicker", "repeated_frames", "n"}
    assert results.metrics["supervised.ar.greedy"]["peak_sequence"] == 16 + 6 * 5
    assert results.metrics["supervised.swr.greedy"]["peak_sequence"] == 16 + 2 * 5
    write(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_scenes_are_taken_apart_and_put_together(toy_episodes: list[Episode]) -> None:
    all_three = select_episodes(toy_episodes, spec())
    first = select_episodes(toy_episodes, spec(episodes=2))
    rest = all_three.without(first)
    assert (len(first), len(rest)) == (2, 1)
    assert {info.id for info in rest.infos} == {info.id for info in all_three.infos} - {i.id for i in first.infos}
    both = first.join(rest)
    assert both.infos == first.infos + rest.infos
    for name in ("frames", "actions", "action_mask", "seeds"):
        parts = [getattr(one.prompt, name) for one in (first, rest)]
        assert torch.equal(getattr(both.prompt, name), torch.cat(parts)), name
    assert torch.equal(both.frames, torch.cat([first.frames, rest.frames]))
    assert len(all_three.without(all_three)) == 0
    assert all_three.without(rest).infos == first.infos


def test_only_swr_is_made_of_more_scenes_and_as_if_they_were_its_own(toy_episodes: list[Episode]) -> None:
    one, whole = spec(episodes=2), suite(toy_episodes, spec())
    made = suite(toy_episodes, one)
    more = whole.episodes.without(made.episodes)
    for each in rollout_sets(one):
        found = made.roll_out_more(each, more)
        assert (found is not None) == (each.decoding == "swr"), each.name
        if found is not None and each.model == "supervised":
            rows = [whole.episodes.infos.index(info) for info in more.infos]
            assert found[0] is more
            assert torch.equal(found[1].tokens, whole.roll_out_set(each).tokens[rows]), each.name
            assert made.roll_out_more(each, more.without(more)) is None


def test_clips_of_more_scenes_are_stored_and_not_measured(tmp_path: Path, toy_episodes: list[Episode]) -> None:
    one, whole = spec(episodes=2), select_episodes(toy_episodes, spec())
    made = suite(toy_episodes, one)
    more = whole.without(made.episodes)
    results = Results(tmp_path, made.episodes, PixelDistance(), 2, one.batch_size)
    ar, swr = rollout_sets(one)[:2]
    assert swr.decoding == "swr"
    for each in (ar, swr):
        results.add(each, made.roll_out_set(each), made.roll_out_more(each, more))
    results.write_index()
    assert results.metrics[swr.name]["psnr"]["n"] == 2
    index = {entry["name"]: entry for entry in read_json(tmp_path / "index.json")}
    assert index[ar.name]["episodes"] == [info.id for info in made.episodes.infos]
    assert index[swr.name]["episodes"] == [info.id for info in (*made.episodes.infos, *more.infos)]
    store = EpisodeStore(tmp_path / index[swr.name]["folder"])
    assert len(store) == 3
    assert store.infos[2].instruction == more.infos[0].instruction


def test_other_actions_are_those_of_another_episode_of_the_source(toy_episodes: list[Episode]) -> None:
    one = spec()
    made, corpus = suite(toy_episodes, one), Corpus.of(toy_episodes)
    swapped = swap_actions(made.episodes, corpus)
    numbers = {info.id: number for number, info in enumerate(corpus.infos)}
    assert swapped.infos == made.episodes.infos
    assert torch.equal(swapped.frames, made.episodes.frames)
    for row, info in enumerate(swapped.infos):
        donors = [
            other.id
            for number, other in enumerate(corpus.infos)
            if other.source == info.source
            and other.id != info.id
            and torch.equal(torch.from_numpy(corpus.actions(number)[: one.horizon]), swapped.prompt.actions[row])
        ]
        assert donors
        own = torch.from_numpy(corpus.actions(numbers[info.id])[: one.horizon])
        assert not torch.equal(own, swapped.prompt.actions[row])
    shown = made.other_actions(swapped).frames
    assert torch.equal(shown[:, 0], made.episodes.frames[:, 0])
    [swr] = [each for each in rollout_sets(one) if each.name == "supervised.swr.greedy"]
    assert not torch.equal(shown, made.roll_out_set(swr).frames)


def test_scenes_without_a_donor_are_left_out(toy_episodes: list[Episode]) -> None:
    made = suite(toy_episodes, spec())
    alone = Corpus.of([episode for episode in toy_episodes if episode.id == made.episodes.infos[0].id])
    found = swap_actions(made.episodes, alone)
    same = {info.id for info in made.episodes.infos if info.source == made.episodes.infos[0].source}
    assert {info.id for info in found.infos} == same - {made.episodes.infos[0].id}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_too_few_long_episodes_are_an_error_that_names_the_remedy(toy_episodes: list[Episode]) -> None:
    with pytest.raises(ValueError, match=r"rollout\.horizon = 12"):
        select_episodes(toy_episodes, spec(horizon=12))
