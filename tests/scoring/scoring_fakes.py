"""A judge that reads brightness, and videos of one brightness each."""

import json
from pathlib import Path

import av
import numpy as np
import torch
import yaml

from roboalign.bench.calibration import Calibration, ScorerErrors
from roboalign.reward.spec import RewardSpec
from roboalign.reward.text import Vocabulary
from roboalign.scoring.judges import LoadedJudge

SIX = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


def fake_errors(pairs: int) -> ScorerErrors:
    """Errors of 0.1, 0.2, … in every dimension and in total."""
    sizes = tuple(round(0.1 * (number + 1), 6) for number in range(pairs))
    return ScorerErrors(pairs=pairs, episodes=pairs, sizes=dict.fromkeys((*SIX.names, "total"), sizes))


def fake_judge(generated: int = 9) -> LoadedJudge:
    """Gives the mean brightness, as a share of full marks, to every dimension; each scoring a little more."""

    def sample(videos: torch.Tensor, instructions: list[str]) -> torch.Tensor:
        assert videos.dtype == torch.uint8
        share = videos.float().mean((1, 2, 3, 4)) / 255
        steps = torch.arange(-2, 3) * 0.01
        shares = (share[None, :] + steps[:, None]).clamp(0, 1)
        return shares[..., None] * torch.tensor(SIX.max_scores)

    return LoadedJudge(
        scorer="judge",
        digest="0" * 32,
        reward=SIX,
        vocabulary=Vocabulary(("block", "push", "the"), 4),
        calibration=Calibration(
            height=16, width=16, frames=(4, 12), fps=(8.0, 20.0),
            errors={"all": fake_errors(19), "generated": fake_errors(generated)},
        ),
        sample=sample,
    )  # fmt: skip


def grey(level: int, frames: int = 6, height: int = 16, width: int = 16) -> np.ndarray:
    return np.full((frames, height, width, 3), level, np.uint8)


def counted(frames: int = 6, size: int = 16) -> np.ndarray:
    """Frame k has the brightness 20 k."""
    return np.stack([np.full((size, size, 3), 20 * number, np.uint8) for number in range(frames)])


def write_video(path: Path, frames: np.ndarray, rate: int = 10, codec: str = "libx264") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = {"gif": "rgb8"}.get(codec, "yuv420p")
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_instructions(path: Path, rows: dict[str, str]) -> Path:
    lines = [json.dumps({"video": video, "instruction": text}) for video, text in rows.items()]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
