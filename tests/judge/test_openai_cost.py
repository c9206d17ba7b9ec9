"""The response cache, the cost cap and the rate limit."""

import json
import time

import pytest
import torch

from roboalign.judge.chat_completions import JudgeServerError
from roboalign.judge.request_limits import BudgetExceededError, RateLimiter
from tests.judge.openai_judges import clips, controls, make_judge, texts

# The cache


def test_a_second_run_asks_nothing(server, tmp_path):
    spec = {"samples": 2, "cache": "a/cache", "api_key_env": None}
    first = make_judge(server, tmp_path, **spec).sample(clips(), texts(), controls())
    assert len(server.requests) == 4
    again = make_judge(server, tmp_path, **spec, base_url="http://127.0.0.1:9/v1")
    assert torch.equal(first, again.sample(clips(), texts(), controls()))
    assert (again.spending.requests, again.spending.cached_answers) == (0, 4)
    files = sorted((tmp_path / "a/cache").rglob("*"))
    assert len([file for file in files if file.is_file()]) == 4
    assert not [file for file in files if file.is_file() and file.suffix != ".json"]


def test_cached_answers_need_no_key(server, tmp_path, monkeypatch):
    first = make_judge(server, tmp_path, cache="c").sample(clips(), texts(), controls())
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    assert torch.equal(
        first, make_judge(server, tmp_path, cache="c", api_key_env="JUDGE_KEY").sample(clips(), texts(), controls())
    )


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.7}, {"seed": 1}, {"max_tokens": 99}, {"structured_output": "none"}, {"frames": 3},
        {"image_size": (8, 8)}, {"inputs": ("video", "actions")},
    ],
    ids=str,
)  # fmt: skip
def test_what_changes_the_request_is_asked_anew(server, tmp_path, change):
    make_judge(server, tmp_path, cache="c").sample(clips(1), texts(1), controls(1))
    make_judge(server, tmp_path, cache="c", **change).sample(clips(1), texts(1), controls(1))
    assert len(server.requests) == 2


def test_other_pixels_instructions_actions_and_samples_are_asked_anew(server, tmp_path):
    judge = make_judge(server, tmp_path, cache="c")
    video = clips(1)
    judge.sample(video, texts(1), controls(1))
    other = video.clone()
    other[0, 2, 0, 0, 0] ^= 1
    judge.sample(other, texts(1), controls(1))
    judge.sample(video, ["pull"], controls(1))
    judge.sample(video, texts(1), controls(1) * 0.5)
    judge.sample(video.flip(1), texts(1), controls(1))
    assert len(server.requests) == 5
    make_judge(server, tmp_path, cache="c", samples=2).sample(video, texts(1), controls(1))
    assert len(server.requests) == 6


@pytest.mark.parametrize("damage", ["empty", "cut", "bytes", "text", "score", "other", "list", "null"])
def test_damaged_entries_are_asked_again(server, tmp_path, damage):
    judge = make_judge(server, tmp_path, cache="c", samples=2)
    first = judge.sample(clips(1), texts(1), controls(1))
    file, other = sorted(tmp_path.rglob("*.json"))
    content = file.read_text()
    damaged = {
        "empty": b"",
        "cut": content[: len(content) // 2].encode(),
        "bytes": b"\xff\xfe\x00",
        "text": json.dumps(json.loads(content) | {"text": "nothing"}).encode(),
        "score": content.replace("0.", "1.", 1).encode(),
        "other": other.read_bytes(),
        "list": b"[1]",
        "null": json.dumps(json.loads(content) | {"text": None}).encode(),
    }[damage]
    assert damaged != content.encode()
    file.write_bytes(damaged)
    assert torch.equal(first, judge.sample(clips(1), texts(1), controls(1)))
    assert len(server.requests) == 3
    assert file.read_text() == content


def test_unusable_answers_are_not_cached(server, tmp_path):
    server.script.extend(["missing", ("finish_reason", "length"), ("score", 7)])
    with pytest.raises(JudgeServerError, match="0 answers are kept in c"):
        make_judge(server, tmp_path, cache="c").sample(clips(1), texts(1))
    assert not list(tmp_path.rglob("*.json"))


# Cost and rate


def test_the_cost_cap_stops_and_the_cache_goes_on(server, tmp_path):
    # 1000 input and 100 output tokens cost 0.004; the cap is reached with the third answer.
    prices = {"input_price": 2.0, "output_price": 20.0, "max_cost": 0.012, "cache": "c"}
    judge = make_judge(server, tmp_path, **prices)
    message = r"cost 0.012, which reaches the cap judge.max_cost \(0.012\); raise it.*; 3 answers are kept in c"
    with pytest.raises(BudgetExceededError, match=message):
        judge.sample(clips(5), texts(5))
    assert len(server.requests) == judge.spending.requests == 3
    assert judge.spending.cost == pytest.approx(0.012)
    assert (judge.spending.input_tokens, judge.spending.output_tokens) == (3000, 300)
    make_judge(server, tmp_path, **prices).sample(clips(5), texts(5))
    assert len(server.requests) == 5


def test_requests_at_once_exceed_the_cap_by_one_at_most(server):
    server.delay_s = 0.05
    judge = make_judge(server, input_price=4.0, max_cost=0.03, concurrency=8)
    with pytest.raises(BudgetExceededError):
        judge.sample(clips(20), texts(20))
    assert judge.spending.cost <= 0.034


def test_unusable_answers_cost_too(server):
    server.script.extend(["missing"] * 4)
    with pytest.raises(BudgetExceededError, match=r"cost 0.002"):
        make_judge(server, input_price=1.0, max_cost=0.002, retries=9).sample(clips(1), texts(1))


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": -5, "completion_tokens": 1}, {"prompt_tokens": True, "completion_tokens": 1}]
)
def test_a_cost_cap_needs_reported_tokens(server, usage):
    server.usage = usage
    with pytest.raises(JudgeServerError, match="reports no token usage"):
        make_judge(server, input_price=1.0, max_cost=1.0).sample(clips(1), texts(1))
    make_judge(server).sample(clips(1), texts(1))


def test_the_number_of_requests_is_capped(server):
    server.script.append(500)
    judge = make_judge(server, max_requests=3)
    with pytest.raises(BudgetExceededError, match=r"3 requests were made.*judge.max_requests \(3\)"):
        judge.sample(clips(9), texts(9))
    assert len(server.requests) == judge.spending.requests == 3


def test_starts_are_spaced_by_the_rate_limit(server):
    server.script.extend(["good", 500, "good"])
    judge = make_judge(server, requests_per_minute=1200.0, concurrency=8)
    started = time.monotonic()
    judge.sample(clips(4), texts(4))
    judge.sample(clips(3), texts(3))
    began = sorted(request.began for request in server.requests)
    assert len(began) == 8
    # Holds on a busy machine too: a request may start later than its turn, never earlier.
    assert all(moment - started >= number * 0.05 for number, moment in enumerate(began))


def test_the_limiter_takes_turns():
    limiter = RateLimiter(600.0)
    assert limiter.take() == 0
    assert 0.05 < limiter.take() <= 0.1
    limiter.pause(5)
    assert 4.9 < limiter.take() <= 5
    free = RateLimiter(None)
    assert [free.take() for _ in range(3)] == [0, 0, 0]
