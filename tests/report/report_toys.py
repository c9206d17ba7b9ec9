"""Toy inputs that fill every section of the report, shaped as the stages write them."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from roboalign.report.inputs import CardFiles
from roboalign.report.showcases import ClipColumn, Showcase

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
    "supervised.best_of_4": 0.71,
    "aligned.ar.greedy": 0.72,
    "aligned.swr.greedy": 0.76,
}
SCORERS = tuple(
    f"{name}{variant}" for name in ("student", "judge", "held_out", "gold") for variant in ("", "_faithful")
)
COLUMNS = (
    ("ground_truth", "Ground truth"),
    ("supervised.ar.greedy", "Supervised AR"),
    ("supervised.swr.greedy", "Supervised SWR"),
    ("aligned.swr.greedy", "Aligned SWR"),
)


def toy_interval(mean: float, width: float, n: int = 24) -> dict[str, Any]:
    return {"mean": mean, "low": mean - width, "high": mean + width, "n": n}


def toy_evaluation() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    models: dict[str, Any] = {}
    for name, level in MODELS.items():
        for scorer in SCORERS:
            values = {d: m * float(np.clip(level + rng.normal(0, 0.04), 0, 1)) for d, m in DIMENSIONS}
            entry = {d: toy_interval(values[d], 0.05 * m) for d, m in DIMENSIONS}
            models.setdefault(name, {})[scorer] = entry | {"total": toy_interval(sum(values.values()), 0.3)}
    p = {"wilcoxon_p": 0.0004}
    difference = {d: toy_interval(0.05 * m, 0.04 * m) | p | {"holm_p": 0.02} for d, m in DIMENSIONS}
    difference["temporal_consistency"] = toy_interval(-0.06, 0.03) | p | {"holm_p": 0.3}
    gains = {"student": 0.9, "judge": 0.6, "held_out": 0.1, "gold": -0.1}
    by_scorer: dict[str, Any] = {
        s: difference | {"total": toy_interval(gains[s.removesuffix("_faithful")], 0.4) | p} for s in SCORERS
    }
    by_scorer["outcomes"] = {
        "psnr": toy_interval(0.4, 0.2), "position_error_cm": toy_interval(-0.3, 0.1),
        "false_success": toy_interval(0.08, 0.05, 15), "missed_success": toy_interval(-0.1, 0.2, 9),
    }  # fmt: skip
    return {
        "models": models,
        "strongest_baseline": "supervised.best_of_4",
        "differences": {"aligned.swr.greedy": {"supervised.swr.greedy": by_scorer, "supervised.best_of_4": by_scorer}},
        "outcomes": {
            name: {
                "position_error_cm": toy_interval(7 * (1 - level), 0.3), "psnr": toy_interval(20 + 5 * level, 0.4),
                "false_success": {"mean": 0.2, "low": 0.07, "high": 0.45, "n": 15},
                "missed_success": {"mean": 1 / 3, "low": 0.12, "high": 0.65, "n": 9},
            }
            for name, level in MODELS.items()
        },
        "agreement": {
            s: {f"gold{'_faithful' if s.endswith('_faithful') else ''}": {
                "spearman": 0.7, "low": 0.62, "high": 0.77, "clips": 240, "n": 24, "pair_accuracy": 0.64,
            }}
            for s in SCORERS if not s.startswith("gold")
        },
        "comparisons_not_measured": ["aligned.ar.sampled against supervised.ar.sampled"],
        "gates": {
            "codec_above_copy_context": {
                "passed": True,
                "rule": "PSNR above that of repeating the context frame",
                "figures": {"psnr": 27.1, "copy_context_psnr": 23.6, "difference": 3.5},
            },
            "student_gold_agreement": {
                "passed": True,
                "rule": "correlation within groups at least 0.35, and gold gained by best of 16: interval above 0",
                "figures": {
                    "mean 8 frames": 0.42, "low 8 frames": 0.36, "high 8 frames": 0.48, "n 8 frames": 48,
                    "best of 16 mean 8 frames": 0.4, "best of 16 low 8 frames": 0.2, "best of 16 high 8 frames": 0.6,
                },
            },
            "fidelity": {
                "passed": True,
                "rule": "PSNR not significantly lower and position error not significantly higher than supervised",
                "figures": {
                    "aligned.swr.greedy psnr mean": 0.1, "aligned.swr.greedy psnr low": -0.1,
                    "aligned.swr.greedy psnr high": 0.3,
                },
            },
            "swr_above_ar": {
                "passed": False,
                "rule": "SSIM and PSNR higher, perceptual distance lower, over the horizon",
                "figures": {"psnr SWR": 24.2, "psnr AR": 23.7, "perceptual SWR": 0.21, "perceptual AR": 0.2},
            },
        },
        "gates_not_measured": {"aligned_above_supervised_gold": "needs gold: scores from the simulator's state"},
    }  # fmt: skip


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
        "probe/judge": toy_state_probe(1.0) | {"outcome": toy_outcome(2.0)},
        "probe/gold": toy_state_probe(1.1),
        "probe/held_out": toy_state_probe(0.9) | {"outcome": toy_outcome(2.2)},
        "bench": {
            "pairs": 1200,
            "by_source": {"metaworld": 600, "fetch": 600},
            "by_origin": {"real": 200, "degraded": 700, "policy": 200, "generated": 100},
            "by_degradation": {"frame_shuffle": 70, "freeze": 70, "flicker": 70},
            "dimensions": {d: {"histogram": [300, 100, 50, 250, 500], "maximum": m} for d, m in DIMENSIONS},
            "by_provenance": {"rubric": 400, "rubric_declared": 700, "distance_rule": 100},
            "rubric": {"fetch": {"expert_total": 10.0, "experts": 20, "failure_total": 5.9, "failures": 60}},
        },
        "judge": toy_judge(agreement, total, 0.45),
        "held_out": toy_judge(agreement, total, 0.4),
        "student": {d: {"mae": 0.08, "spearman": 0.8} for d, _ in DIMENSIONS}
        | {"total": {"spearman": 0.85}, "parameters": 1_230_000, "scenes_known": 1.0, "n": 240}
        | {"faithful": agreement | {"total": total, "n": 240}, "labels": agreement | {"total": total, "n": 200}}
        | {"within_groups": {"judge": toy_groups(0.8), "gold": toy_groups(0.41)}},
        "rl": toy_rl(),
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
    return {
        "gripper_cm": toy_interval(0.5 * level, 0.1),
        "object_cm": toy_interval(level, 0.2),
        "goal_cm": toy_interval(0.8 * level, 0.1),
        "success_auc": toy_interval(0.97 - 0.02 * level, 0.01),
        "disagreement": {"object_cm": toy_interval(0.7 * level, 0.1)},
    }


def toy_state_probe(level: float) -> dict[str, Any]:
    """metrics/probe/<name>.json."""
    return {
        "sources": ["fetch"], "n": 24, "members": 2, "parameters": 210_000, "frames": 15,
        "true": toy_probe(level) | {"pixels": {"object": toy_interval(0.6 * level, 0.1)}},
        "reconstructed": toy_probe(1.6 * level), "generated": {"from_true_outcome": toy_probe(4 * level)},
        "baselines": {"mean_state": toy_probe(7.0), "first_state": toy_probe(6.0)},
        "by_source": {"fetch": {"true": toy_probe(level)}},
    }  # fmt: skip


def toy_outcome(level: float) -> dict[str, Any]:
    """The errors of an outcome model."""
    return {
        "gripper_cm": toy_interval(0.6 * level, 0.1), "gripper_cm_still": toy_interval(9.0, 0.8),
        "object_cm": toy_interval(level, 0.2), "object_cm_still": toy_interval(4.0, 0.6), "success_auc": 0.83,
    }  # fmt: skip


def toy_groups(level: float) -> dict[str, Any]:
    """The agreement of a reward with another one within groups, by variant and length."""
    return {
        variant: {
            frames: {
                "groups": 48, "size": 16, "correlation": toy_interval(value, 0.06, 48),
                "by_dimension": {d: toy_interval(value, 0.1, 48) for d, _ in DIMENSIONS[:-1]},
                "pair_accuracy": 0.5 + value / 3,
                "best_of": {str(n): toy_interval(0.1 * value * n**0.5, 0.05, 48) for n in (2, 4, 8, 16)},
            }
            for frames, value in (("8", level), ("30", level - 0.08 - (variant == "absolute") * 0.1))
        }
        for variant in ("absolute", "faithful")
    }  # fmt: skip


def toy_judge(agreement: dict[str, Any], total: dict[str, Any], level: float) -> dict[str, Any]:
    """metrics/judge.json and metrics/held_out.json."""
    part = agreement | {"total": total, "faithful": agreement | {"total": total, "n": 40}, "n": 40}
    return part | {
        "n": 240, "stability_sd": 0.12, "held_out_degradations": part, "generated": part,
        "within_groups": {
            "gold": toy_groups(level), "own_labels": toy_groups(level + 0.15), "ceiling": toy_groups(level + 0.2),
        },
    }  # fmt: skip


def toy_rl() -> dict[str, Any]:
    """metrics/rl.json."""

    def change(before: float, gain: float) -> dict[str, Any]:
        return {"before": before, "after": before + gain} | toy_interval(gain, 0.25, 64)

    gains = {"student": 0.8, "student_online": 0.5, "judge": 0.4, "held_out": 0.1, "gold": 0.05}
    reward = {f"{name}{kind}": change(6.1, gain) for name, gain in gains.items() for kind in ("", "_faithful")}
    rates = {"false_success": 0.2, "missed_success": 0.3, "true_successes": 24, "true_failures": 40}
    return {
        "reward": reward | {"proxy": change(0.6, 0.08)},
        "success": {"before": rates, "after": rates | {"false_success": 0.3}},
        "gradient_cosine": {"mean": 0.21, "low": 0.12, "high": 0.3, "n": 6, "batches": 4},
        "indicators": {"psnr": change(24.0, 0.3)},
        "kl": 0.04, "steps": 60, "repeated_frames": 0.08, "motion_ratio": 0.93, "prompts": 64,
    }  # fmt: skip


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
        if name.count(".") == 2
        for frame in range(1, 31)
    ]  # fmt: skip
    return {
        "tokenizer": toy_curve({"loss": 1.2}),
        "world_model": toy_curve({"loss": 6.0}),
        "judge": toy_curve({"loss": 0.4}),
        "held_out": toy_curve({"loss": 0.5}),
        **{f"probe/{name}": toy_curve({"loss": 0.9 + 0.1 * k}) for k, name in enumerate(("judge", "gold", "held_out"))},
        "rl": toy_curve({"reward": 5.0, "kl": 0.05}),
        "rl_checks": toy_checks(),
        "rollout": rollout,
        "drift": [{"age": str(age), "epsilon": f"{0.01 * age**0.5:.4f}"} for age in range(1, 13)],
    }


def toy_checks() -> list[dict[str, str]]:
    """plots/rl_checks.tsv: the proxy rises, the held-out score turns, PSNR falls at last."""
    confirmed, psnr = (6.0, 6.2, 6.35, 6.3, 6.4), (24.0, 24.1, 24.05, 23.9, 23.2)
    return [
        {
            "step": str(15 * n), "proxy": f"{0.6 + 0.03 * n:.3g}", "confirmed": str(confirmed[n]), "psnr": str(psnr[n]),
            "gold": f"{5.8 + 0.04 * n:.3g}", "kl": f"{0.002 * n * n:.3g}",
        }
        for n in range(5)
    ]  # fmt: skip


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
    """Three episodes of each source; the first is the best of its source in every dimension, the last the worst."""
    return [
        Showcase(
            f"{source}/{number:06d}",
            source,
            "push the orange block to the green goal",
            {"total": case, "physics_adherence": case},
            [
                ClipColumn(
                    name,
                    heading,
                    toy_clip(17 * number + column, length, size),
                    {"total": 9.6 - column * (number + 1) * 0.4, "physics_adherence": 1.9 - 0.1 * number},
                )
                for column, (name, heading) in enumerate(COLUMNS)
            ],
        )
        for source in ("metaworld", "fetch", "panda", "jaco")[:sources]
        for number, case in enumerate(("best", "median", "worst"))
    ]


def toy_scores() -> list[dict[str, str]]:
    """artifacts/evaluation/scores.tsv: three episodes by each faithful scorer, gold one point below the others."""
    return [
        {
            "model": "supervised.swr.greedy", "scorer": scorer, "episode": f"fetch/{number}", "sample": "0",
            "total": str(4 + number - scorer.startswith("gold")),
        }
        for scorer in SCORERS
        if scorer.endswith("_faithful")
        for number in range(3)
    ]  # fmt: skip


def toy_card() -> CardFiles:
    """The bench's data card with one table and one image."""
    buffer = io.BytesIO()
    Image.fromarray(toy_clip(0, 1, 32)[0]).save(buffer, "PNG")
    return CardFiles(
        {
            "tables": [{"title": "Labels", "note": "", "head": ["kind", "n"], "rows": [["freeze", "12"]]}],
            "pictures": [{"title": "freeze", "note": "Severity 0.7.", "file": "freeze.png"}],
            "limits": ["Declared losses are a judgement."],
        },
        {"freeze.png": buffer.getvalue()},
    )


SPEC_TEXT = {
    "rollout": "rollout:\n  horizon: 30\n  decodings:\n    swr:\n      window: 6\n",
    "evaluation": "evaluation:\n  draws: 1000\n  scorers:\n  - judge\n",
}
