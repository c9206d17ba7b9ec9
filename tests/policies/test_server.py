"""The client of policy servers, against a real local server that also misbehaves."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from policy_fakes import ROBOT, DotsEnv
from websockets.sync.server import ServerConnection, serve

from roboalign.policies.checked_policy import CheckedPolicy, PolicyError
from roboalign.policies.closed_loop import run_closed_loop
from roboalign.policies.msgpack_numpy import pack, unpack
from roboalign.policies.server import ServerPolicy
from roboalign.policies.spec import PolicyServerSpec

CHUNK = np.tile(np.array([[0.5, 0.0]], np.float32), (4, 1))


@contextmanager
def server(behaviour: str = "good") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server of openpi's protocol, and the requests that it got. It misbehaves at the third request."""
    requests: list[dict[str, Any]] = []

    def handle(connection: ServerConnection) -> None:
        connection.send("no policy here" if behaviour == "refuses" else pack({"robot": "toy"}))
        for message in connection:
            assert isinstance(message, bytes)
            requests.append(unpack(message))
            third = len(requests) >= 3
            answers: dict[str, Any] = {
                "nan": {"actions": np.full((4, 2), np.nan, np.float32)},
                "wrong shape": {"actions": np.zeros((4, 7), np.float32)},
                "empty": {"actions": np.zeros((0, 2), np.float32)},
                "other key": {"action": CHUNK},
                "texts": {"actions": ["left", "right"]},
            }
            if third and behaviour == "slow":
                time.sleep(0.8)
            if third and behaviour == "closed":
                connection.close()
                return
            if third and behaviour == "error":
                connection.send("Traceback (most recent call last):\n  ...\nRuntimeError: out of memory")
            elif third and behaviour == "garbage":
                connection.send(b"\xc1\xff garbage")
            else:
                connection.send(pack(answers.get(behaviour, {"actions": CHUNK}) if third else {"actions": CHUNK}))

    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}", requests
        running.shutdown()
        thread.join()


def policy(url: str, execute: int = 1, limit: float = 0.4) -> CheckedPolicy:
    spec = PolicyServerSpec(kind="server", url=url, execute=execute)
    return CheckedPolicy("remote", ServerPolicy(spec, ROBOT, limit), ROBOT, 10.0)


def test_a_server_gets_images_and_instructions_and_moves_the_robots() -> None:
    with server() as (url, requests):
        loop = run_closed_loop(policy(url, execute=2), DotsEnv(2), ["toy/000000", "toy/000001"], [0, 1], 4)
    assert len(requests) == 2 * 2  # each copy, every second frame
    assert requests[0]["observation/image"].shape == (32, 32, 3)
    assert requests[0]["observation/image"].dtype == np.uint8
    assert requests[0]["prompt"] == "go right"
    assert (loop.actions == [0.5, 0.0]).all()


MESSAGES = {
    "nan": "action 0 is nan",
    "wrong shape": r"'actions' has the shape \(4, 7\), not \(steps, 2\)",
    "empty": r"shape \(0, 2\)",
    "other key": "did not answer 'actions' but action",
    "texts": "not an array of numbers",
    "slow": r"did not answer within 0.4 s",
    "closed": "closed the connection",
    "error": "reports an error: RuntimeError: out of memory",
    "garbage": "something else than the protocol's messages",
}


@pytest.mark.parametrize("behaviour", MESSAGES)
def test_a_server_that_misbehaves_is_named(behaviour: str) -> None:
    with server(behaviour) as (url, _), pytest.raises(PolicyError, match=MESSAGES[behaviour]) as caught:
        run_closed_loop(policy(url), DotsEnv(1), ["toy/000003"], [0], 5)
    assert str(caught.value).startswith("policy remote, episode toy/000003, step 2: ")
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_or_refuses_is_named() -> None:
    with pytest.raises(PolicyError, match=r"cannot be reached .* start the policy server"):
        run_closed_loop(policy("ws://127.0.0.1:9"), DotsEnv(1), ["toy/000003"], [0], 1)
    with server("refuses") as (url, _), pytest.raises(PolicyError, match="reports an error: no policy here"):
        run_closed_loop(policy(url), DotsEnv(1), ["toy/000003"], [0], 1)
