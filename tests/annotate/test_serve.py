import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from annotate_fakes import MAXIMA, fake_pairs

from roboalign.annotate.answers import Answers
from roboalign.annotate.serve import Server
from roboalign.bench.annotations import AnnotationError, read_annotations

PAIRS = fake_pairs(12)
CLIPS = {pair.id for pair in PAIRS}


def line(six, number=0, rater="anna", showing=1, points=0.5) -> str:
    scores = dict.fromkeys(six.names, points)
    return json.dumps(
        {"clip": PAIRS[number].id, "rater": rater, "kind": "person", "scores": scores, "showing": showing}
    )


@pytest.fixture
def server(tmp_path, six):
    with Answers(tmp_path / "out/answers.jsonl", six, CLIPS) as answers:
        server = Server(0, lambda: "<p>page</p>", answers)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        server.server_close()
        thread.join()


def ask(server, method="GET", path="/", body=None, **headers):
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_an_answer_is_in_the_file_when_the_reply_comes(server, six):
    assert ask(server) == (200, "<p>page</p>")
    for number in range(3):
        assert ask(server, "POST", "/answers", line(six, number), Content_Type="application/json")[0] == 200
        rows = read_annotations([str(server.answers.path)], six, CLIPS)
        assert [row.clip for row in rows] == [pair.id for pair in PAIRS[: number + 1]]


def test_a_changed_answer_replaces_the_one_before_and_showings_stand_beside_each_other(server, six):
    for body in (line(six), line(six, 1), line(six, points=1), line(six, showing=2), line(six, rater="ben"), line(six)):
        assert ask(server, "POST", "/answers", body, Content_Type="application/json")[0] == 200
    rows = read_annotations([str(server.answers.path)], six, CLIPS)
    assert [(row.clip, row.rater, row.showing) for row in rows] == [
        (PAIRS[0].id, "anna", 1), (PAIRS[1].id, "anna", 1), (PAIRS[0].id, "anna", 2), (PAIRS[0].id, "ben", 1),
    ]  # fmt: skip


def test_what_is_no_answer_is_refused_with_its_reason(server, six):
    def post(body, kind="application/json"):
        return ask(server, "POST", "/answers", body, Content_Type=kind)

    assert post("{")[0] == 400
    status, text = post(line(six, points=1.5))
    assert (status, "above the maximum" in text) == (400, True)
    status, text = post(line(six).replace(PAIRS[0].id, "f" * 16))
    assert (status, "no clip" in text) == (400, True)
    assert post(line(six), "text/plain")[0] == 415
    assert post("x" * 70_000)[0] == 413
    assert ask(server, "POST", "/elsewhere", "{}", Content_Type="application/json")[0] == 404
    assert ask(server, path="/etc/passwd")[0] == 404
    assert not server.answers.path.exists()


def test_names_that_only_resolve_here_read_nothing(server, six):
    assert ask(server, Host="example.org:80")[0] == 403
    assert ask(server, "POST", "/answers", line(six), Host="example.org", Content_Type="application/json")[0] == 403
    assert ask(server, Host=f"localhost:{server.server_port}")[0] == 200


def test_a_study_goes_on_where_it_was_killed(tmp_path, six):
    path = tmp_path / "answers.jsonl"
    with Answers(path, six, CLIPS) as first:
        first.add(line(six, 0))
        first.add(line(six, 1, showing=2, points=1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[0][:40])
    with Answers(path, six, CLIPS) as second:
        assert second.dropped
        assert len(second) == 2
        assert path.read_bytes() == whole
        places = {(PAIRS[0].id, 1): 4, (PAIRS[1].id, 2): 7}
        assert second.by_place(places) == {"anna": {4: dict.fromkeys(six.names, 0.5), 7: dict.fromkeys(six.names, 1.0)}}
    path.write_bytes(whole[:-1])  # only the end of the last line was lost
    with Answers(path, six, CLIPS) as third:
        assert len(third) == 2
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["answers.jsonl"]


def test_a_foreign_file_is_never_written_to(tmp_path, six):
    path = tmp_path / "answers.jsonl"
    for content in (b"name,score\nanna,3\n", b"name,score\nanna,3", b"\xff\xfe", b'{"clip":"0', b"notes"):
        foreign = content != b'{"clip":"0'
        path.write_bytes(content)
        if foreign:
            with pytest.raises(AnnotationError, match=r"answers\.jsonl(:1| cannot be read)"):
                Answers(path, six, CLIPS)
            assert path.read_bytes() == content
        else:
            Answers(path, six, CLIPS).close()
            assert path.read_bytes() == b""


def test_full_marks_can_be_given(tmp_path, six):
    body = json.loads(line(six))
    body["scores"] = dict(zip(six.names, MAXIMA, strict=True))
    with Answers(tmp_path / "a.jsonl", six, CLIPS) as answers:
        answers.add(json.dumps(body))
        assert len(answers) == 1


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """Writes fail with ENOSPC once `after` bytes more were written, as on a full disk."""
    write, left = os.write, after

    def limited(file: int, data: bytes) -> int:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(file, bytes(data)[:left])
        left -= done
        return done

    with monkeypatch.context() as patched:
        patched.setattr("roboalign.annotate.answers.os.write", limited)
        yield


@pytest.mark.parametrize("after", [0, 1, 60])
def test_a_full_disk_loses_nothing_and_is_never_called_saved(server, six, monkeypatch, after):
    def post(number: int) -> tuple[int, str]:
        return ask(server, "POST", "/answers", line(six, number), Content_Type="application/json")

    assert post(0)[0] == 200
    whole = server.answers.path.read_bytes()
    with full_disk(monkeypatch, after):
        for _ in range(2):  # the page sends it again
            status, text = post(1)
            assert (status, "No space left" in text) == (500, True)
            assert server.answers.path.read_bytes() == whole
    assert post(1)[0] == 200
    assert len(read_annotations([str(server.answers.path)], six, CLIPS)) == 2


def test_a_changed_answer_that_cannot_be_written_stays_the_one_before(server, six, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert ask(server, "POST", "/answers", line(six), Content_Type="application/json")[0] == 200
    whole = server.answers.path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("roboalign.annotate.answers.write_text", refuse)
        for _ in range(2):
            assert ask(server, "POST", "/answers", line(six, points=1), Content_Type="application/json")[0] == 500
    assert server.answers.path.read_bytes() == whole
    assert ask(server, "POST", "/answers", line(six, points=1), Content_Type="application/json")[0] == 200
    assert read_annotations([str(server.answers.path)], six, CLIPS)[0].scores == dict.fromkeys(six.names, 1.0)


SECOND_SERVER = """
import sys, yaml
from pathlib import Path
from roboalign.annotate.answers import Answers
from roboalign.reward.spec import RewardSpec
Answers(Path(sys.argv[1]), RewardSpec.model_validate(yaml.safe_load(Path("specs/reward/six.yaml").read_text())), ())
"""


def test_a_second_server_is_refused_by_name(server, tmp_path, six):
    path = server.answers.path
    (tmp_path / "link.jsonl").symlink_to(path)
    for name in (path, tmp_path / "link.jsonl"):
        done = subprocess.run([sys.executable, "-c", SECOND_SERVER, name], capture_output=True, text=True, check=False)
        assert f"{name}: another server (process {os.getpid()}) saves to it" in done.stderr
    server.answers.close()
    Answers(path, six, CLIPS).close()


def test_a_file_that_another_program_changed_is_not_overwritten(server, six):
    assert ask(server, "POST", "/answers", line(six), Content_Type="application/json")[0] == 200
    with server.answers.path.open("a") as file:
        file.write(line(six, 5) + "\n")
    content = server.answers.path.read_bytes()
    for body in (line(six, 1), line(six, points=1)):
        status, text = ask(server, "POST", "/answers", body, Content_Type="application/json")
        assert (status, "another program changed" in text) == (500, True)
    assert server.answers.path.read_bytes() == content


def test_an_answer_whose_file_is_gone_is_not_called_saved(server, six):
    assert ask(server, "POST", "/answers", line(six), Content_Type="application/json")[0] == 200
    server.answers.path.unlink()
    assert ask(server, "POST", "/answers", line(six), Content_Type="application/json")[0] == 500


@pytest.mark.parametrize("text", ["anna\u2028b", "a\u0085b", "a\u2029", "a\x0b\x0cb", "a\x1c\x1e", 'a"\\'])
def test_any_text_in_an_answer_can_be_read_again(server, six, text):
    body = json.dumps(json.loads(line(six, rater=text)) | {"comment": text}, ensure_ascii=False)
    assert ask(server, "POST", "/answers", body.encode(), Content_Type="application/json")[0] == 200
    path: Path = server.answers.path
    row = read_annotations([str(path)], six, CLIPS)[0]
    assert (row.rater, row.comment) == (text, text)
    server.answers.close()
    with Answers(path, six, CLIPS) as again:
        assert len(again) == 1


@pytest.mark.parametrize("length", ["\u00b2", "-1", "+5", "1_0", " ", "9" * 5000, "0x10"])
def test_a_length_that_is_no_number_is_refused(server, capfd, length):
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest("POST", "/answers")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", length.encode("latin-1"))
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()
    assert capfd.readouterr().err == ""


def test_other_sites_pages_cannot_write(server, six):
    here = f"127.0.0.1:{server.server_port}"
    for origin, status in (
        (f"http://{here}", 200),
        ("http://example.org", 403),
        ("null", 403),
        (f"https://{here}", 403),
    ):
        headers = {"Origin": origin, "Content_Type": "application/json"}
        assert ask(server, "POST", "/answers", line(six), **headers)[0] == status, origin
