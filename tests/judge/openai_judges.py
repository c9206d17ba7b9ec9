"""Judges that ask a local server, and what they are asked about."""

from pathlib import Path

import torch
import yaml

from roboalign.judge.openai_api import OpenAIJudge
from roboalign.judge.openai_api_spec import OpenAIJudgeSpec
from roboalign.reward.spec import RewardSpec
from tests.judge.openai_server import scores

KEY = "sk-test-0123456789abcdef"
SIX = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


def judge_spec(server, **changes) -> OpenAIJudgeSpec:
    values = {
        "kind": "openai_api", "base_url": server.base_url, "model": "judge-8b", "samples": 1, "backoff_s": 0.001,
        "timeout_s": 60.0, "retries": 2, "cache": None,
    }  # fmt: skip
    return OpenAIJudgeSpec.model_validate(values | changes)


def make_judge(server, root=Path(), progress=None, **changes) -> OpenAIJudge:
    return OpenAIJudge(judge_spec(server, **changes), SIX, root=root, progress=progress)


def clips(count: int = 2, frames: int = 5, size: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, 3, size, size), generator=generator).byte()


def controls(count: int = 2, frames: int = 5) -> torch.Tensor:
    return torch.linspace(-1, 1, count * (frames - 1) * 2).reshape(count, frames - 1, 2)


def texts(count: int = 2) -> list[str]:
    return [f"push block {number}" for number in range(count)]


def expected(video: torch.Tensor) -> torch.Tensor:
    """Scores (2, D) that the server gives to a clip (T, 3, H, W)."""
    return torch.tensor(scores([frame.permute(1, 2, 0).numpy() for frame in video], list(SIX.max_scores)))
