"""Toy inputs that fill every section of the report, shaped as the stages write them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from roboalign.report.clips import Lane, Showcase
from roboalign.report.inputs import Inputs

DIMENSIONS = (
    ("instruction_following", 3.0),
    ("manipulation_success", 2.0),
    ("action_outcome_consistency", 1.0),
    ("temporal_consistency", 1.0),
    ("contact_realism", 1.0),
    ("physics_adherence", 2.0),
)
MODELS = {
    "ground_truth": 0.96,
    "reconstruction": 0.9,
    "copy_context": 0.45,
    "copy_last": 0.5,
    "supervised.ar.greedy": 0.66,
    "supervised.swr.greedy": 0.7,
    "supervised.kv_window.greedy": 0.67,
    "supervised.swr.sampled": 0.64,
    "best_of_4": 0.71,
    "aligned.ar.greedy": 0.72,
    "aligned.swr.greedy": 0.76,
}
LANES = ("Ground truth", "Reconstruction", "Supervised AR", "Supervised SWR", "Aligned SWR")


def toy_interval(mean: float, width: float, n: int = 24) -> dict[str, Any]:
    return {"mean": mean, "low": mean - width, "high": mean + width, "n": n}


def toy_evaluation() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    models: dict[str, Any] = {}
    for name, level in MODELS.items():
        for scorer in ("student", "teacher"):
            values = {d: m * float(np.clip(level + rng.normal(0, 0.04), 0, 1)) for d, m in DIMENSIONS}
            entry = {d: toy_interval(values[d], 0.05 * m) for d, m in DIMENSIONS}
            models.setdefault(name, {})[scorer] = entry | {"total": toy_interval(sum(values.values()), 0.3)}
    p = {"wilcoxon_p": 0.0004}
    difference = {d: toy_interval(0.05 * m, 0.04 * m) | p | {"holm_p": 0.02} for d, m in DIMENSIONS}
    difference["temporal_consistency"] = toy_interval(-0.06, 0.03) | p | {"holm_p": 0.3}
    by_scorer = {s: difference | {"total": toy_interval(0.6, 0.4) | p} for s in ("student", "teacher")}
    return {
        "models": models,
        "strongest_baseline": "best_of_4",
        "differences": {"aligned.swr.greedy": {"supervised.swr.greedy": by_scorer, "best_of_4": by_scorer}},
        "comparisons_not_measured": ["aligned.ar.sampled against supervised.ar.sampled"],
        "gates": {
            "codec_above_copy_context": {
                "passed": True,
                "rule": "PSNR above that of repeating the context frame",
                "figures": {"psnr": 27.1, "copy_context_psnr": 23.6, "difference": 3.5},
            },
            "swr_above_ar": {
                "passed": False,
                "rule": "SSIM and PSNR higher, perceptual distance lower, over the horizon",
                "figures": {"psnr SWR": 24.2, "psnr AR": 23.7, "perceptual SWR": 0.21, "perceptual AR": 0.2},
            },
        },
        "gates_not_measured": {"student_gold_agreement": "needs gold: scores from the simulator's state"},
    }


def toy_metrics() -> dict[str, Any]:
    decodings = {
        name: {
            "psnr": toy_interval(23 + 4 * level, 0.4),
            "ssim": toy_interval(0.8 + 0.1 * level, 0.01),
            "perceptual": toy_interval(0.3 - 0.1 * level, 0.01),
            "peak_sequence": 574,
            "motion_ratio": toy_interval(0.6 + 0.1 * level, 0.1),
            "flicker": toy_interval(0.012, 0.002),
            "repeated_frames": toy_interval(0.2, 0.1),
            "frechet": 0.0012 - 0.0002 * level,
            "frechet_motion": 0.002,
            "less_ar": {"psnr": toy_interval(0.4, 0.2), "ssim": toy_interval(0.005, 0.006)},
        }
        for name, level in MODELS.items()
        if "." in name
    }
    agreement = {
        d: {
            "mae": 0.1 * m,
            "mae_low": 0.08 * m,
            "mae_high": 0.12 * m,
            "constant_mae": 0.3 * m,
            "spearman": 0.7,
            "qwk": 0.6,
        }
        for d, m in DIMENSIONS
    }
    total = {"mae": 0.8, "spearman": 0.74, "kendall": 0.55}
    return {
        "sources": {
            "metaworld": {"episodes": 96, "frames": 3072, "by_policy": {"expert": 24, "random": 24}},
            "fetch": {"episodes": 80, "frames": 2560, "by_policy": {"expert": 20, "random": 20}},
        },
        "tokenizer": {
            "psnr": toy_interval(27.1, 0.3), "ssim": 0.92, "perceptual": 0.11, "copy_context_psnr": 23.6,
            "by_source": {"fetch": {"psnr": toy_interval(26.4, 0.2), "n": 20}}, "codes_used_fraction": 0.85, "n": 40,
        },
        "world_model": {
            "psnr": 25.8, "copy_context_psnr": 23.6, "action_gap_psnr": toy_interval(1.57, 0.3), "horizon": 8, "n": 40,
        },
        "probe": {
            "sources": ["fetch"], "n": 24, "members": 2,
            "true": toy_probe(1.0) | {"pixels": {"object": toy_interval(0.6, 0.1)}},
            "reconstructed": toy_probe(1.6), "generated": {"from_true_outcome": toy_probe(4.0)},
            "baselines": {"mean_state": toy_probe(7.0), "first_state": toy_probe(6.0)},
            "by_source": {"fetch": {"true": toy_probe(1.0)}},
        },
        "bench": {
            "pairs": 1200,
            "by_source": {"metaworld": 600, "fetch": 600},
            "by_origin": {"real": 200, "degraded": 700, "policy": 200, "generated": 100},
            "by_degradation": {"frame_shuffle": 70, "freeze": 70, "flicker": 70},
            "dimensions": {d: {"histogram": [300, 100, 50, 250, 500], "maximum": m} for d, m in DIMENSIONS},
            "by_provenance": {"rubric": 400, "rubric_declared": 700, "distance_rule": 100},
            "rubric": {"fetch": {"expert_total": 10.0, "experts": 20, "failure_total": 5.9, "failures": 60}},
        },
        "judge": agreement
        | {"total": total, "stability_sd": 0.12, "n": 240}
        | {"held_out_degradations": agreement | {"total": total, "n": 40}},
        "student": {d: {"mae": 0.08, "spearman": 0.8} for d, _ in DIMENSIONS}
        | {"total": {"spearman": 0.85}, "within_group_accuracy": 0.71, "parameters": 1_230_000, "n": 240},
        "rl": {
            "reward": {
                "student": {"before": 6.1, "after": 6.9, "low": 0.4, "high": 1.2},
                "teacher": {"before": 6.0, "after": 6.2, "low": -0.1, "high": 0.5},
            },
            "indicators": {"psnr": {"before": 24.0, "after": 24.3} | toy_interval(0.3, 0.2)},
            "kl": 0.04, "steps": 60, "repeated_frames": 0.08, "motion_ratio": 0.93,
        },
        "rollout": decodings
        | {"ground_truth": {"flicker": toy_interval(0.0123, 0.001), "repeated_frames": toy_interval(0.1, 0.1), "n": 24}}
        | {"episodes": 24, "horizon": 30, "perceptual_name": "ST-LPIPS"}
        | {"frechet_name": "Fréchet distance on resnet10t features"},
        "drift": {
            "delta": 0.02, "alpha": 0.94, "predicted_window": 7, "swept_window": 6, "rank_correlation": 0.6,
            "predicted": {"2": 0.04, "6": 0.03}, "swept": {"2": 0.05, "6": 0.04},
            "epsilon": {"1": 0.01, "8": 0.02}, "n": 24,
        },
        "evaluation": toy_evaluation(),
    }  # fmt: skip


def toy_probe(level: float) -> dict[str, Any]:
    return {"object_cm": toy_interval(level, 0.2), "disagreement": {"object_cm": toy_interval(0.7 * level, 0.1)}}


def toy_curve(columns: Mapping[str, float], steps: int = 40) -> list[dict[str, str]]:
    rng = np.random.default_rng(len(columns))
    return [
        {"step": str(20 * n + 20)}
        | {
            name: f"{level * (0.3 + np.exp(-n / 9)) + rng.normal(0, 0.01 * level):.5g}"
            for name, level in columns.items()
        }
        for n in range(steps)
    ]


def toy_curves() -> dict[str, list[dict[str, str]]]:
    rollout = [
        {
            "model": name.split(".")[0], "decoding": name.split(".")[1], "sampling": name.split(".")[2],
            "frame": str(frame), "psnr": f"{30 - 0.2 * frame + 5 * level:.4f}", "ssim": f"{0.95 - 0.003 * frame:.4f}",
            "perceptual": f"{0.05 + 0.004 * frame:.4f}", "psnr_low": f"{29.4 - 0.2 * frame + 5 * level:.4f}",
            "psnr_high": f"{30.6 - 0.2 * frame + 5 * level:.4f}",
        }
        for name, level in MODELS.items()
        if "." in name
        for frame in range(1, 31)
    ]  # fmt: skip
    return {
        "tokenizer": toy_curve({"loss": 1.2}),
        "world_model": toy_curve({"loss": 6.0}),
        "judge": toy_curve({"loss": 0.4}),
        "rl": toy_curve({"reward": 5.0, "kl": 0.05}),
        "rollout": rollout,
        "drift": [{"age": str(age), "epsilon": f"{0.01 * age**0.5:.4f}"} for age in range(1, 13)],
    }


def toy_clip(seed: int, length: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    start, speed = rng.uniform(0.2, 0.5, 2), rng.uniform(-0.01, 0.015, 2)
    frames = []
    for t in range(length):
        image = np.stack([90 + 60 * y, 95 + 40 * x, 110 - 20 * y], -1)
        for offset, colour in ((0.0, (60, 70, 220)), (0.2, (240, 170, 40))):
            u, v = start + offset + speed * t * (1 if not offset else 0.6)
            image[(x - u) ** 2 + (y - v) ** 2 < 0.006] = colour
        frames.append(image + rng.normal(0, 1.5, image.shape))
    return np.clip(np.stack(frames), 0, 255).astype(np.uint8)


def toy_showcases(sources: int = 1, length: int = 5, size: int = 32) -> list[Showcase]:
    return [
        Showcase(
            f"{source}/{number:06d}",
            source,
            "push the orange block to the green goal",
            pick,
            [
                Lane(title, toy_clip(17 * number + lane, length, size), f"{9.6 - lane * (number + 1) * 0.4:.2f}")
                for lane, title in enumerate(LANES)
            ],
        )
        for source in ("metaworld", "fetch", "panda", "jaco")[:sources]
        for number, pick in enumerate(("best", "median", "worst"))
    ]


@pytest.fixture(scope="session")
def full_inputs() -> Inputs:
    """Everything measured."""
    spec = {
        "reward": {"dimensions": [{"name": name, "maximum": maximum} for name, maximum in DIMENSIONS]},
        "sources": {"metaworld": {}, "fetch": {}},
        "tokenizer": {"height": 64, "width": 64, "training": {"steps": 600}},
        "rollout": {"horizon": 30, "episodes": 24, "swr": {"window": 6}},
    }
    return Inputs(spec, {"rollout": "rollout:\n  horizon: 30\n"}, toy_metrics(), toy_curves(), toy_showcases())
