"""A server that misbehaves: failures that pass and failures that last, keys and proxies."""

import json
import math
import time

import pytest
import torch

from roboalign.judge.chat_completions import MAX_QUOTE, JudgeServerError, environment_proxy, parse_retry_after
from roboalign.judge.openai_api import sample_seed
from roboalign.reward.dimensions import ABSOLUTE
from tests.judge.openai_judges import KEY, SIX, clips, controls, expected, make_judge, texts
from tests.judge.openai_server import http_date, serve_openai

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
