"""Metrics of a world model: rollouts of test episodes against their true futures, with intervals over episodes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roboalign.metrics.statistics import bootstrap, paired_difference
from roboalign.metrics.video import psnr, ssim
from roboalign.store import Corpus
from roboalign.types import Json
from roboalign.video import frames_to_video
from roboalign.world_model.segments import Codec, ContextT, Segment, leading_actions
from roboalign.world_model.spec import WorldModelMeasureSpec

Distance = Callable[[Tensor, Tensor], Tensor]
"""A perceptual distance of videos (B, T, 3, H, W), one number a frame (B, T)."""

RolloutFn = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Context frames (B, 3, H, W), actions (B, F, A), action masks (B, A), seeds (B,) and proprioception (B, P) to
predicted frames (B, F, 3, H, W) and their tokens (B, F, Nd)."""

Values = dict[str, NDArray[np.float64]]
"""Metrics by name, one number for each rollout."""


def select_segments(corpus: Corpus, spec: WorldModelMeasureSpec) -> list[Segment]:
    """The rollouts to measure: `spec.starts` from each of at most `spec.episodes` episodes, the sources in turn.

    Episodes too short for the horizon are left out.
    """
    by_source: dict[str, list[int]] = {}
    for number, info in enumerate(corpus.infos):
        if info.length > spec.horizon:
            by_source.setdefault(info.source, []).append(number)
    deepest = max((len(numbers) for numbers in by_source.values()), default=0)
    turns = [numbers[turn] for turn in range(deepest) for numbers in by_source.values() if turn < len(numbers)]
    segments = []
    for number in sorted(turns[: spec.episodes]):
        last = corpus.infos[number].length - 1 - spec.horizon
        starts = sorted({round(last * k / max(1, spec.starts - 1)) for k in range(spec.starts)})
        segments += [Segment(number, start, spec.horizon) for start in starts]
    return segments


def actions_of_other_episodes(corpus: Corpus, segments: Sequence[Segment], donors: Corpus) -> list[Tensor | None]:
    """For each segment the actions of another episode of its source at the same time; None if no other is long enough.

    The episodes of a source take those of `donors` in turn. Only actions are taken, so any split may give them.
    """
    given: dict[str, list[int]] = {}
    for number, info in enumerate(donors.infos):
        given.setdefault(info.source, []).append(number)
    turns: dict[str, dict[int, int]] = {}
    found: list[Tensor | None] = []
    for segment in segments:
        info = corpus.infos[segment.episode]
        fitting = [
            number
            for number in given.get(info.source, [])
            if donors.infos[number].id != info.id and donors.infos[number].length >= segment.frames
        ]
        order = turns.setdefault(info.source, {})
        turn = order.setdefault(segment.episode, len(order))
        if not fitting:
            found.append(None)
            continue
        number = fitting[turn % len(fitting)]
        start = min(segment.start, donors.infos[number].length - segment.frames)
        found.append(leading_actions(donors.actions(number), Segment(number, start, segment.frames)))
    return found


def measure(
    rollout_at: Callable[[float], RolloutFn],
    tokenizer: Codec[ContextT],
    corpus: Corpus,
    spec: WorldModelMeasureSpec,
    *,
    donors: Corpus,
    seed: int,
    distance: Distance | None = None,
    device: str = "cpu",
    log: Callable[[str], None] = lambda text: None,
) -> Json:
    """The figures of metrics/world_model.json: greedy rollouts, baselines, the action gap, sampled rollouts, sources.

    `rollout_at` gives the rollout function of a temperature; temperature 0 is greedy.
    The action gap is the PSNR under the true actions less that under those of another episode of the source, from
    `donors`, greedy, paired; episodes without a donor have none.
    Raises ValueError if no test episode is long enough.
    """
    segments = select_segments(corpus, spec)
    if not segments:
        raise ValueError(f"no test episode is longer than world_model.measure.horizon, {spec.horizon} frames")
    greedy, sampled = rollout_at(0.0), rollout_at(spec.temperature)
    others, parts, batch = actions_of_other_episodes(corpus, segments, donors), [], spec.batch_size
    for first in range(0, len(segments), batch):
        rows = slice(first, first + batch)
        parts.append(
            _rollouts(greedy, sampled, tokenizer, corpus, segments[rows], others[rows], seed, distance, device)
        )
        log(f"measured {min(first + batch, len(segments))} of {len(segments)} rollouts")
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    led = np.array([other is not None for other in others])
    return _summary(values, segments, corpus, led) | {"horizon": spec.horizon}


def _rollouts(
    greedy: RolloutFn,
    sampled: RolloutFn,
    tokenizer: Codec[ContextT],
    corpus: Corpus,
    segments: Sequence[Segment],
    others: Sequence[Tensor | None],
    seed: int,
    distance: Distance | None,
    device: str,
) -> Values:
    """Measures of a few rollouts, each the mean over its frames."""
    clips = torch.stack(
        [frames_to_video(corpus.frames(s.episode, s.start, s.start + s.frames + 1), device) for s in segments]
    )
    first, truth = clips[:, :1], clips[:, 1:]
    actions = torch.stack([leading_actions(corpus.actions(s.episode), s) for s in segments]).to(device)
    wrong = torch.stack([a if other is None else other.to(device) for a, other in zip(actions, others, strict=True)])
    mask = torch.stack([torch.from_numpy(corpus.action_mask(s.episode)) for s in segments]).to(device)
    measured_states = [torch.from_numpy(corpus.proprioception(s.episode)[s.start]) for s in segments]
    proprioception = torch.stack(measured_states).to(device)
    # A seed for each rollout by its place in the corpus, so that batches do not matter.
    seeds = torch.tensor([(seed << 32) + (s.episode << 12) + s.start for s in segments], device=device)
    with torch.inference_mode():
        context = tokenizer.encode_context(first[:, 0])
        videos = {
            "": greedy(first[:, 0], actions, mask, seeds, proprioception)[0],
            "sampled_": sampled(first[:, 0], actions, mask, seeds, proprioception)[0],
            "other_actions_": greedy(first[:, 0], wrong, mask, seeds, proprioception)[0],
            "codec_": tokenizer.decode(context, tokenizer.encode(context, truth)),
            "copy_context_": first.expand_as(truth),
            "copy_last_": clips[:, :-1],
        }
        measured = {f"{name}psnr": psnr(video, truth) for name, video in videos.items()}
        measured |= {f"{name}ssim": ssim(video, truth) for name, video in videos.items()}
        if distance is not None:
            measured |= {
                f"{name}perceptual": distance(videos[name], truth) for name in ("", "sampled_", "copy_context_")
            }
    return {name: value.mean(1).double().cpu().numpy() for name, value in measured.items()}


def _summary(values: Values, segments: Sequence[Segment], corpus: Corpus, led: NDArray[np.bool_]) -> Json:
    """Means over episodes, each the mean of its rollouts, with the intervals of the two gates.

    `led` tells which rollouts had other actions.
    """
    episodes = sorted({segment.episode for segment in segments})
    of = np.array([segment.episode for segment in segments])
    by_episode = {name: np.array([value[of == e].mean() for e in episodes]) for name, value in values.items()}
    sources = np.array([corpus.infos[e].source for e in episodes])

    def figures(rows: NDArray[np.bool_]) -> dict[str, Json]:
        found: dict[str, Json] = {
            name: float(value[rows].mean()) for name, value in by_episode.items() if not name.startswith("other_")
        }
        found["n"] = int(rows.sum())
        found["gain_over_copy_context_psnr"] = paired_difference(
            by_episode["psnr"][rows], by_episode["copy_context_psnr"][rows]
        ).json()
        gap = (by_episode["psnr"] - by_episode["other_actions_psnr"])[rows & compared]
        if len(gap):
            found["action_gap_psnr"] = bootstrap(gap).json()
        return found

    compared = np.array([led[of == e].all() for e in episodes])
    everything = figures(np.ones(len(episodes), dtype=bool))
    return everything | {"by_source": {str(source): figures(sources == source) for source in np.unique(sources)}}
