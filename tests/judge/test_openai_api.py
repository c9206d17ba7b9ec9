import asyncio
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from roboalign.judge.chat_completions import MAX_QUOTE, JudgeServerError, environment_proxy, parse_retry_after
from roboalign.judge.openai_api import OpenAIJudge, evenly_spaced_indices, sample_seed
from roboalign.judge.openai_api_spec import OpenAIJudgeSpec
from roboalign.judge.prompt import answer_schema
from roboalign.judge.request_limits import BudgetExceededError, RateLimiter
from roboalign.reward.dimensions import ABSOLUTE, FAITHFUL, Scorer
from roboalign.reward.spec import RewardSpec
from tests.judge.openai_server import http_date, scores, serve_openai

KEY = "sk-test-0123456789abcdef"
SIX = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture
def server():
    with serve_openai(list(SIX.names), list(SIX.max_scores)) as running:
        yield running


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


# Failures that pass


@pytest.mark.parametrize(
    "failure",
    [
        408, 409, 425, 429, 500, 503, "dropped", "cut_off", ("retry_after", "0.01"), ("body", b"{"), ("body", b"[]"),
        ("body", b"["  * 100_000), ("body", b'{"error": {"message": "upstream is down", "code": 502}}'),
        ("body", b'{"choices": [{"message": {"content": 5}}]}'),
    ],
    ids=str,
)  # fmt: skip
def test_passing_failures_are_tried_again_with_the_same_request(server, failure):
    server.script.extend([failure, failure])
    result = make_judge(server).sample(clips(1), texts(1), controls(1))
    assert torch.equal(result[0, 0], expected(clips(1)[0]))
    assert len(server.requests) == 3
    assert server.requests[0].body == server.requests[1].body == server.requests[2].body


@pytest.mark.parametrize(
    "failure",
    [
        "null", "missing", ("score", 3.001), ("score", -0.5), ("score", math.nan), ("score", math.inf), ("score", True),
        ("score", "3"), ("score", None), ("score", 10**400), ("text", "I cannot judge this."), ("text", "{"),
        ("text", "<think>hm"), ("text", "x" * 70_000), ("text", '{"a":' * 3000), ("text", "\ud800"),
        ("finish_reason", "length"), ("finish_reason", "content_filter"),
    ],
    ids=lambda failure: str(failure)[:40].encode("ascii", "replace").decode(),
)  # fmt: skip
def test_unusable_answers_are_drawn_anew(server, failure):
    server.script.append(failure)
    result = make_judge(server, seed=0).sample(clips(1), texts(1))
    assert torch.equal(result[0, 0, ABSOLUTE], expected(clips(1)[0])[ABSOLUTE])
    assert [r.body["seed"] for r in server.requests] == [sample_seed(0, 0, 0), sample_seed(0, 0, 1)]


@pytest.mark.parametrize("failure", [("slow", 60), "drip"], ids=str)
def test_slow_answers_time_out(server, failure):
    server.script.append(failure)
    started = time.monotonic()
    make_judge(server, timeout_s=0.6, retries=9).sample(clips(1), texts(1))
    assert time.monotonic() - started >= 0.6
    assert len(server.requests) >= 2


def test_retries_end(server):
    server.script.extend([500, "missing", ("slow", 60)])
    with pytest.raises(JudgeServerError, match=r"sample 0 of clip 0 in 3 requests.*no answer within 0.2 s"):
        make_judge(server, timeout_s=0.2).sample(clips(1), texts(1))
    assert len(server.requests) == 3


def test_the_last_problem_is_named(server):
    for failure, message in (
        ("missing", "'absolute' has no score for instruction_following"),
        (("score", 9), "'absolute.instruction_following' is outside 0 to 3"),
        (("finish_reason", "length"), "max_tokens"),
        (503, "answered status 503: failure 503"),
        ("cut_off", "broke off"),
    ):
        server.script.append(failure)
        with pytest.raises(JudgeServerError, match=message):
            make_judge(server, retries=0).sample(clips(1), texts(1))


def test_no_server_is_a_connection_error(server):
    with pytest.raises(JudgeServerError, match=r"127.0.0.1:9/v1 gave no usable answer.*connection failed"):
        make_judge(server, base_url="http://127.0.0.1:9/v1").sample(clips(1), texts(1))


def test_retry_after_holds_back_every_request(server):
    server.script.append(("retry_after", "0.4"))
    make_judge(server, concurrency=1).sample(clips(3), texts(3))
    began = [request.began for request in server.requests]
    assert began[1] - began[0] >= 0.39


def test_a_long_retry_after_ends_the_run(server):
    server.script.append(("retry_after", http_date(7200)))
    with pytest.raises(JudgeServerError, match=r"pause of (7200|7199) s, longer than judge.max_wait_s \(60\)"):
        make_judge(server).sample(clips(1), texts(1))
    assert len(server.requests) == 1


def test_retry_after_is_parsed():
    assert parse_retry_after("2.5") == 2.5
    assert parse_retry_after("-3") == 0
    assert parse_retry_after(http_date(-10)) == 0
    assert parse_retry_after(http_date(100)) == pytest.approx(100, abs=3)
    for value in (None, "", "soon", "nan", "inf"):
        assert parse_retry_after(value) is None


# Failures that do not


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (400, r"/v1 answered status 400: failure 400; check judge.model"),
        (401, "status 401.*environment variable"),
        (403, "status 403.*may use this model"),
        (404, "status 404.*usually ends in /v1"),
        (413, "status 413.*lower judge.frames"),
        (418, "status 418"),
        (202, "status 202"),
        ((429, "insufficient_quota"), "quota is used up"),
        ("html", "text/html instead of application/json.*usually ends in /v1"),
        (("huge", 6 * 2**20), "more than 4194304 bytes"),
    ],
    ids=str,
)
def test_lasting_failures_end_the_run_at_once(server, failure, message):
    server.script.append(failure)
    with pytest.raises(JudgeServerError, match=message):
        make_judge(server, concurrency=1).sample(clips(3), texts(3))
    assert len(server.requests) == 1


def test_unknown_models_are_refused_by_the_server(server):
    with pytest.raises(JudgeServerError, match=r"The model `other` does not exist; check judge.base_url"):
        make_judge(server, model="other").sample(clips(1), texts(1))


def test_redirects_are_not_followed(server):
    with serve_openai(list(SIX.names), list(SIX.max_scores)) as elsewhere:
        for target in (f"{elsewhere.base_url}/chat/completions", f"{server.base_url}/chat/completions", "", "/x"):
            server.script.append(("redirect", target))
            with pytest.raises(JudgeServerError, match=r"redirect to .*, which is not followed"):
                make_judge(server).sample(clips(1), texts(1))
        assert not elsewhere.requests
    assert len(server.requests) == 4


def test_one_failure_stops_the_others_without_waiting_for_their_turn(server):
    # The turn of the second request comes after an hour: only a judge that does not wait for it ends.
    server.script.append(401)
    with pytest.raises(JudgeServerError, match="401"):
        make_judge(server, requests_per_minute=1 / 60, concurrency=8).sample(clips(12), texts(12))
    assert len(server.requests) == 1


def test_inputs_of_other_shapes_are_refused(server):
    judge = make_judge(server)
    for videos, instructions, actions, message in (
        (clips()[0], texts(), None, "videos must"),
        (clips(), texts(3), None, "2 clips need as many instructions, not 3"),
        (clips(), texts(), controls(2, 4), r"T - 1, A\) with B = 2 and T = 5"),
        (clips(), texts(), controls() * torch.nan, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            judge.sample(videos, instructions, actions)
    assert not server.requests


# The key


def test_the_key_is_sent_and_never_shown(tmp_path, monkeypatch):
    with serve_openai(list(SIX.names), list(SIX.max_scores), api_key=KEY) as server:
        monkeypatch.setenv("JUDGE_KEY", KEY)
        judge = make_judge(server, tmp_path, api_key_env="JUDGE_KEY", cache="cache")
        judge.sample(clips(1), texts(1))
        assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(judge) + repr(judge.spec) + repr(vars(judge))
        assert not any(KEY in file.read_text() for file in tmp_path.rglob("*.json"))

        wrong = "sk-wrong-9876543210fedcba"
        monkeypatch.setenv("JUDGE_KEY", wrong)
        with pytest.raises(JudgeServerError, match=r"Incorrect API key provided: Bearer \[API key\]\?\[31m") as caught:
            judge.sample(clips(2), texts(2))
        error: BaseException | None = caught.value
        while error is not None:
            assert wrong not in repr(error)
            error = error.__cause__ or error.__context__


def test_an_answer_that_holds_the_key_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with serve_openai(list(SIX.names), list(SIX.max_scores), api_key=KEY) as server:
        server.script.append(("text", json.dumps({"rationale": KEY, "absolute": dict.fromkeys(SIX.names, 0)})))
        make_judge(server, tmp_path, api_key_env="JUDGE_KEY", cache="cache").sample(clips(1), texts(1))
        assert len(server.requests) == 2
        assert not any(KEY in file.read_text() for file in tmp_path.rglob("*.json"))


def test_a_missing_or_broken_key_names_its_variable(server, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(JudgeServerError, match=r"JUDGE_KEY .* is not set"):
        make_judge(server, api_key_env="JUDGE_KEY").sample(clips(1), texts(1))
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\r\nX-Other: 1")
    with pytest.raises(JudgeServerError, match="line break") as caught:
        make_judge(server, api_key_env="JUDGE_KEY").sample(clips(1), texts(1))
    assert KEY not in str(caught.value)
    assert not server.requests


def test_a_key_at_the_end_of_a_quote_is_not_shown_in_part(server, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server.script.append(("body", json.dumps({"error": {"message": "x" * (MAX_QUOTE - 8) + KEY}}).encode()))
    with pytest.raises(JudgeServerError, match="is not a chat completion: x") as caught:
        make_judge(server, api_key_env="JUDGE_KEY", retries=0).sample(clips(1), texts(1))
    assert KEY[:4] not in str(caught.value)


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


# Proxies


def test_no_proxy_for_this_machine(server, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    make_judge(server, retries=0).sample(clips(1), texts(1))
    for host in ("localhost", "127.0.0.1:80", "127.3.2.1", "[::1]:8000", "vllm.localhost"):
        assert environment_proxy(f"http://{host}/v1") is None


def test_vendors_are_reached_through_the_environments_proxy(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "node17,.cluster.example")
    assert environment_proxy("https://api.vendor.example/v1") == "http://proxy.example:3128"
    assert environment_proxy("https://a.cluster.example/v1") is None
    assert environment_proxy("http://api.vendor.example/v1") is None
    monkeypatch.setenv("http_proxy", server.base_url.removesuffix("/v1"))
    with pytest.raises(JudgeServerError, match="status 404: Not Found"):  # the server is no proxy
        make_judge(server, base_url="http://vendor.example/v1").sample(clips(1), texts(1))
    assert len(server.requests) == 1
    monkeypatch.setenv("https_proxy", "socks5://user:secret@proxy.example")
    with pytest.raises(JudgeServerError, match="neither http nor https") as caught:
        environment_proxy("https://api.vendor.example/v1")
    assert "secret" not in str(caught.value)


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
