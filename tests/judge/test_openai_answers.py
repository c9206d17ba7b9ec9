"""Answers of an OpenAI-compatible server: what a request shows, and the scores that come back."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from roboalign.judge.openai_api import evenly_spaced_indices, sample_seed
from roboalign.judge.prompt import answer_schema
from roboalign.reward.dimensions import ABSOLUTE, FAITHFUL, Scorer
from tests.judge.openai_judges import KEY, SIX, clips, controls, expected, judge_spec, make_judge, texts

# Good answers


@pytest.mark.parametrize("structured_output", ["json_schema", "json_object", "none"])
def test_scores_come_back_exactly(server, structured_output):
    judge: Scorer = make_judge(server, samples=3, structured_output=structured_output)
    videos = clips()
    result = judge.sample(videos, texts(), controls())
    assert result.shape == (3, 2, 2, 6)
    assert result.dtype == torch.float32
    for number in range(2):
        assert torch.equal(result[:, number], expected(videos[number]).expand(3, 2, 6))
    assert len(server.requests) == 6


def test_the_request_shows_rubric_instruction_frames_and_actions(server):
    videos = clips(1)
    make_judge(server, temperature=0.5, max_tokens=99).sample(videos, ["push block 7"], controls(1))
    (request,) = server.requests
    assert "push block 7" in request.text
    assert "(4 steps)" in request.text
    assert all(dimension.rubric in request.body["messages"][0]["content"] for dimension in SIX.dimensions.values())
    assert np.array_equal(np.stack(request.frames), videos[0].permute(0, 2, 3, 1).numpy())
    assert (request.body["temperature"], request.body["max_tokens"]) == (0.5, 99)
    assert request.body["response_format"]["json_schema"]["schema"] == answer_schema(SIX, actions=True)
    assert "Authorization" not in request.headers


def test_optional_parameters_can_be_left_out(server):
    judge = make_judge(
        server, temperature=None, seed=None, structured_output="none", max_tokens_parameter="max_completion_tokens"
    )
    judge.sample(clips(1), texts(1))
    assert set(server.requests[0].body) == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize("inputs", [("text", "video"), ("video", "actions"), ("video",)])
def test_inputs_decide_what_is_shown(server, inputs):
    result = make_judge(server, inputs=inputs).sample(clips(1), ["push block 7"], controls(1))
    text = server.requests[0].text
    assert ("push block 7" in text) == ("text" in inputs)
    assert ("Actions of the robot" in text) == ("actions" in inputs)
    assert torch.isfinite(result[:, :, ABSOLUTE]).all()
    assert torch.isfinite(result[:, :, FAITHFUL]).all() == ("actions" in inputs)


def test_faithful_scores_are_nan_without_actions(server):
    result = make_judge(server).sample(clips(1), texts(1))
    assert result[:, :, FAITHFUL].isnan().all()
    assert torch.equal(result[0, 0, ABSOLUTE], expected(clips(1)[0])[ABSOLUTE])


def test_frames_are_chosen_evenly_and_resized(server):
    judge = make_judge(server, frames=4, image_size=(16, 24))
    judge.sample(clips(1, 10), texts(1))
    assert [frame.shape for frame in server.requests[0].frames] == [(16, 24, 3)] * 4
    assert evenly_spaced_indices(10, 4) == [0, 3, 6, 9]
    assert evenly_spaced_indices(3, 16) == [0, 1, 2]
    assert evenly_spaced_indices(1, 2) == [0]
    for length in range(2, 40):
        indices = evenly_spaced_indices(length, 7)
        assert len(set(indices)) == len(indices) == min(length, 7)
        assert (indices[0], indices[-1]) == (0, length - 1)


def test_floats_and_bytes_score_alike(server):
    judge = make_judge(server)
    assert torch.equal(judge.sample(clips(), texts())[:, :, 0], judge.sample(clips() / 255, texts())[:, :, 0])


def test_large_clips_arrive_whole(server):
    videos = clips(2, 8, 256)
    result = make_judge(server, frames=8).sample(videos, texts(), controls(2, 8))
    assert torch.equal(result[0], torch.stack([expected(video) for video in videos]))
    assert int(server.requests[0].headers["Content-Length"]) > 2 * 2**20


def test_no_clips_no_requests(server):
    assert make_judge(server, samples=3).sample(clips(0), []).shape == (3, 0, 2, 6)
    assert not server.requests


def test_results_keep_their_order_whatever_the_concurrency(server):
    server.script.extend([("slow", 0.3), "good", ("slow", 0.15), 500, "good", ("slow", 0.05)])
    videos = clips(12)
    seen = []
    judge = make_judge(server, concurrency=6, progress=lambda done, total: seen.append((done, total)))
    result = judge.sample(videos, texts(12), controls(12))
    assert torch.equal(result[0], torch.stack([expected(video) for video in videos]))
    assert seen == [(done, 12) for done in range(1, 13)]
    assert judge.spending.requests == len(server.requests) == 13


def test_requests_run_at_once_up_to_the_limit(server):
    server.delay_s = 0.05
    make_judge(server, concurrency=4).sample(clips(12), texts(12))
    marks = [(r.began, 1) for r in server.requests] + [(r.ended, -1) for r in server.requests]
    levels = np.cumsum([step for _, step in sorted(marks)])
    assert 2 <= levels.max() <= 4


def test_samples_have_their_own_seeds(server):
    make_judge(server, samples=4, seed=3, concurrency=1).sample(clips(1), texts(1))
    assert [r.body["seed"] for r in server.requests] == [sample_seed(3, number, 0) for number in range(4)]
    assert (
        len({sample_seed(seed, sample, draw) for seed in range(9) for sample in range(9) for draw in range(9)}) == 729
    )


def test_a_running_event_loop_is_no_obstacle(server):
    async def notebook() -> torch.Tensor:
        return make_judge(server).sample(clips(1), texts(1))

    assert asyncio.run(notebook()).shape == (1, 1, 2, 6)


# The spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_url": "ftp://host/v1"}, "begin with http"),
        ({"base_url": "localhost:8000/v1"}, "begin with http"),
        ({"base_url": "https://user:secret@host/v1"}, "must not hold a user name"),
        ({"base_url": "https://host/v1?key=secret"}, "query"),
        ({"base_url": "https://host:99999/v1"}, "not a valid URL"),
        ({"base_url": "https://host/v1\r\nX: 1"}, "outside ASCII"),
        ({"base_url": "https://host/v1/chat/completions"}, "before /chat"),
        ({"api_key_env": KEY}, "api_key_env"),
        ({"api_key_env": "sk_0123abc"}, "api_key_env"),
        ({"cache": "/tmp/cache"}, "relative path"),
        ({"cache": "../cache"}, "relative path"),
        ({"cache": "."}, "relative path"),
        ({"inputs": ["text"]}, "lacks video"),
        ({"inputs": ["video", "video"]}, "twice"),
        ({"samples": 5, "temperature": 0.0}, "at temperature 0"),
        ({"max_cost": 1.0}, "needs prices"),
        ({"frames": 1}, "frames"),
        ({"api_key": KEY}, "api_key"),
    ],
    ids=str,
)
def test_specs_that_cannot_work_are_refused(server, change, message):
    with pytest.raises(ValidationError, match=message) as caught:
        judge_spec(server, **change)
    assert "secret" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_the_spec_imports_no_torch():
    code = "import sys, roboalign.judge.openai_api_spec; sys.exit('torch' in sys.modules or 'aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
