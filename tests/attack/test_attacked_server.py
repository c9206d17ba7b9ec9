"""The annotation server under raw bytes and kills: it goes on, and every answer that it called saved is in the file."""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from roboalign.annotate.answers import Answers
from roboalign.annotate.serve import Server
from roboalign.bench.annotations import read_annotations
from roboalign.reward.spec import RewardSpec
from tests.attack.conftest import SCALE, Tell

CLIPS = [f"{number:016x}" for number in range(40)]
PAGE = "<p>page</p>"
TEXTS = ["anna", "b\u2028c", "\u0085", "\ud83d\ude00", "é" * 50, "\x00", "a\nb", '"', "\\", "x" * 101, ""]


@pytest.fixture(scope="module")
def six() -> RewardSpec:
    return RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))


@pytest.fixture
def server(tmp_path: Path, six: RewardSpec) -> Iterator[Server]:
    with Answers(tmp_path / "answers.jsonl", six, CLIPS) as answers:
        server = Server(0, lambda: PAGE, answers)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        server.server_close()
        thread.join()


def answer(six: RewardSpec, draw: random.Random) -> bytes:
    """An answer, most often a valid one."""
    scores: dict[str, object] = {name: draw.randrange(2) for name in six.names}
    row: dict[str, object] = {
        "clip": draw.choice(CLIPS), "rater": draw.choice(TEXTS), "kind": "person", "scores": scores,
        "showing": draw.choice([1, 1, 1, 2]),
    }  # fmt: skip
    if draw.random() < 0.2:
        row[draw.choice([*row, "more"])] = draw.choice([None, [], {}, -1, 1e400, "x", True])
    data = json.dumps(row, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    if draw.random() < 0.15:
        at = draw.randrange(len(data))
        data = data[:at] + bytes([draw.randrange(256)]) + data[at + draw.randrange(2) :]
    if draw.random() < 0.03:
        data = draw.choice([b"[" * 60_000, b"", b"\xff\xfe", b"{" * 500, b"0" * 65_536])
    return data


def request(six: RewardSpec, port: int, draw: random.Random) -> bytes:
    """A request as bytes, most often nearly right."""
    host = f"127.0.0.1:{port}"
    if draw.random() < 0.1:
        return draw.choice([
            b"", b"\r\n\r\n", b"\x16\x03\x01\x02\x00" * 20, b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n", b"\x00" * 100,
            b"A" * 70_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"PUT / HTTP/1.1\r\n\r\n",
            f"GET /../../etc/passwd HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
            b"GET / HTTP/1.1\r\nHost: " + b"\xff" * 9 + b"\r\n\r\n",
        ])  # fmt: skip
    body = answer(six, draw)
    headers = {"Host": host, "Content-Type": "application/json", "Content-Length": str(len(body))}
    changes = [
        ("Host", "example.org"), ("Host", ""), ("Origin", "http://example.org"), ("Origin", f"http://{host}"),
        ("Content-Type", "text/plain"), ("Content-Type", ";" * 50), ("Content-Length", "\u00b2"),
        ("Content-Length", "-1"), ("Content-Length", "9" * 5000), ("Content-Length", str(len(body) + 5)),
        ("Content-Length", str(len(body) // 2)), ("Content-Length", "0x10"), ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"), ("Connection", "keep-alive"),
    ]  # fmt: skip
    for _ in range(draw.choice([0, 0, 0, 1, 2])):
        name, value = draw.choice(changes)
        headers[name] = value
    method, path = draw.choice(["POST"] * 8 + ["GET", "OPTIONS"]), draw.choice(["/answers"] * 9 + ["/elsewhere"])
    head = f"{method} {path} HTTP/1.{draw.randrange(2)}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return head.encode("latin-1", "replace") + b"\r\n" + body


def send(port: int, data: bytes) -> bytes:
    """What the server replies to some bytes."""
    reply = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while block := connection.recv(65_536):
                reply += block
        except TimeoutError:
            raise
        except OSError:  # the server has closed the connection already
            pass
    return reply


def attack_server(server: Server, six: RewardSpec, count: int, seed: int) -> Counter[str]:
    """Send requests; how many the server saved, refused and dropped, and how many saved answers were lost."""
    draw, figures = random.Random(seed), Counter[str](lost=0)
    saved: dict[tuple[str, str, int], dict[str, float]] = {}
    for _ in range(count):
        data = request(six, server.server_port, draw)
        reply = send(server.server_port, data)
        status = reply[9:12].decode("latin-1") if reply.startswith(b"HTTP/") else "dropped"
        if status == "200" and data.startswith(b"POST"):
            row = json.loads(data.partition(b"\r\n\r\n")[2][: 10**6])
            saved[row["clip"], row["rater"], row.get("showing", 1)] = row["scores"]
            figures["saved"] += 1
        else:
            assert status != "500", (data, reply)
            figures["dropped" if status == "dropped" else "refused"] += 1
    whole = send(server.server_port, f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
    assert whole.endswith(PAGE.encode())
    rows = read_annotations([str(server.answers.path)], six, CLIPS)
    found = {(row.clip, row.rater, row.showing): row.scores for row in rows}
    figures["lost"] = sum(found.get(key) != scores for key, scores in saved.items())
    assert figures["lost"] == 0
    assert found.keys() == saved.keys()
    return figures


CHILD = """
import json, sys, yaml
from pathlib import Path
from roboalign.annotate.answers import Answers
from roboalign.reward.spec import RewardSpec
six = RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text()))
clips = [f"{number:016x}" for number in range(100_000)]
answers = Answers(Path(sys.argv[1]), six, clips)
for clip in clips[len(answers):]:
    answers.add(json.dumps({"clip": clip, "rater": "anna", "kind": "person", "scores": dict.fromkeys(six.names, 1)}))
    print(clip, flush=True)
"""


def attack_by_kills(path: Path, six: RewardSpec, kills: int, seed: int) -> Counter[str]:
    """Kill a process that saves answers; how many it called saved, and how many of these are not in the file."""
    draw, figures = random.Random(seed), Counter[str](kills=kills, lost=0)
    told: set[str] = set()
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told.add(child.stdout.readline().strip())
        time.sleep(draw.uniform(0, 0.3))
        child.kill()
        told |= {line.strip() for line in child.stdout.read().split("\n") if len(line.strip()) == 16}
        child.stdout.close()
        child.wait()
        with Answers(path, six, told | {f"{len(told):016x}"}) as answers:
            figures["lost"] += len(told) - len([one for one in read_annotations([str(path)], six) if one.clip in told])
            assert len(told) <= len(answers) <= len(told) + kills
        told |= {one.clip for one in read_annotations([str(path)], six)}
    figures["saved"] = len(told)
    assert figures["lost"] == 0
    return figures


def test_raw_requests_short(server: Server, six: RewardSpec, capfd: pytest.CaptureFixture[str]) -> None:
    figures = attack_server(server, six, 250, seed=1)
    assert figures["saved"] > 30
    assert figures["refused"] > 30
    assert capfd.readouterr().err == ""


def test_a_killed_server_lost_nothing_short(tmp_path: Path, six: RewardSpec) -> None:
    assert attack_by_kills(tmp_path / "answers.jsonl", six, 1, seed=1)["saved"] > 0


@pytest.mark.attack
def test_raw_requests(server: Server, six: RewardSpec, tell: Tell) -> None:
    tell("annotation server, requests", **attack_server(server, six, 2000 * SCALE, seed=2))


@pytest.mark.attack
def test_a_killed_server_lost_nothing(tmp_path: Path, six: RewardSpec, tell: Tell) -> None:
    tell("annotation server, killed", **attack_by_kills(tmp_path / "answers.jsonl", six, 12 * SCALE, seed=2))
