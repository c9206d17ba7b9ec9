import json
import threading
from http.client import HTTPConnection

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
    server = Server(0, lambda: "<p>page</p>", Answers(tmp_path / "out/answers.jsonl", six, CLIPS))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
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
    first = Answers(path, six, CLIPS)
    first.add(line(six, 0))
    first.add(line(six, 1, showing=2, points=1))
    whole = path.read_bytes()
    path.write_bytes(whole + line(six, 2)[:40].encode())
    second = Answers(path, six, CLIPS)
    assert second.dropped
    assert len(second) == 2
    assert path.read_bytes() == whole
    places = {(PAIRS[0].id, 1): 4, (PAIRS[1].id, 2): 7}
    assert second.by_place(places) == {"anna": {4: dict.fromkeys(six.names, 0.5), 7: dict.fromkeys(six.names, 1.0)}}
    path.write_bytes(whole[:-1])  # only the end of the last line was lost
    assert len(Answers(path, six, CLIPS)) == 2
    assert path.read_bytes() == whole


def test_a_foreign_file_is_never_written_to(tmp_path, six):
    path = tmp_path / "answers.jsonl"
    path.write_text("name,score\nanna,3\n")
    with pytest.raises(AnnotationError, match=r"answers\.jsonl:1"):
        Answers(path, six, CLIPS)
    assert path.read_text() == "name,score\nanna,3\n"


def test_full_marks_can_be_given(tmp_path, six):
    body = json.loads(line(six))
    body["scores"] = dict(zip(six.names, MAXIMA, strict=True))
    answers = Answers(tmp_path / "a.jsonl", six, CLIPS)
    answers.add(json.dumps(body))
    assert len(answers) == 1
