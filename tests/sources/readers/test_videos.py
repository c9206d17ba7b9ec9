"""Videos with a manifest: what PyAV and numpy wrote comes back, and ten kinds of damage are named."""

import io
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from reading import lose, only, read_all, served, survives

from roboalign.sources.errors import SourceError
from roboalign.sources.inspection.proposal import propose
from roboalign.sources.readers.files import Files
from roboalign.sources.readers.reader import Part
from roboalign.sources.readers.spec import VideosSpec
from roboalign.sources.readers.videos import Videos

LENGTH, HEIGHT, WIDTH, RATE = 9, 32, 48, 10
Line = dict[str, Any]


def spec(folder: Path | str, **changes: Any) -> VideosSpec:
    fields: dict[str, Any] = {
        "kind": "videos",
        "uri": str(folder),
        "actions": [{"key": "actions"}],
        "action_width": 3,
        "fps": 10.0,
        "image": {"height": HEIGHT, "width": WIDTH},
        "length": 2,
    }
    return VideosSpec.model_validate(fields | changes)


def frames(number: int, length: int = LENGTH) -> np.ndarray[Any, Any]:
    return np.random.default_rng(number).integers(0, 256, (length, HEIGHT, WIDTH, 3), np.uint8)


def actions(number: int, length: int = LENGTH) -> np.ndarray[Any, Any]:
    return np.random.default_rng(100 + number).normal(size=(length, 3)).astype(np.float32)


def film(path: Path, images: np.ndarray[Any, Any], times: Sequence[int] | None = None, rate: int = RATE) -> None:
    """A lossless video: H.264 in RGB. `times` are in frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=rate, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[number] if times else number
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write(folder: Path, edit: Callable[[Path, list[Line]], None] | None = None) -> None:
    """Three videos and their manifest, changed by `edit`."""
    lines: list[Line] = []
    for number in range(3):
        film(folder / f"clips/{number}.mp4", frames(number))
        lines.append(
            {
                "video": f"clips/{number}.mp4",
                "instruction": f"push block {number}",
                "actions": actions(number).tolist(),
                "operator": {"name": "ada", "years": 3},
                "success": True,
            }
        )
    if edit:
        edit(folder, lines)
    (folder / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_videos_come_back_as_written(tmp_path: Path) -> None:
    write(tmp_path)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert not damaged
    for number, episode in enumerate(episodes):
        np.testing.assert_array_equal(episode.frames, frames(number))
        np.testing.assert_array_equal(episode.actions, actions(number))
        assert (episode.id, episode.instruction) == (f"source/episodes.jsonl:{number + 1}", f"push block {number}")


def test_actions_beside_the_video_stride_and_attributes(tmp_path: Path) -> None:
    def edit(folder: Path, lines: list[Line]) -> None:
        for number, line in enumerate(lines):
            np.save(folder / f"clips/{number}.npy", actions(number).astype(np.float64))
            line["actions"] = f"clips/{number}.npy"
            line["operator"]["name"] = "eve" if number == 1 else "ada"

    write(tmp_path, edit)
    chosen = spec(tmp_path, stride=4, filter={"attributes": {"operator/name": "ada", "success": "True"}})
    episodes, damaged, left_out = read_all(chosen, tmp_path)
    assert not damaged
    assert [each.reason for each in left_out] == ["filter.attributes.operator/name"]
    for episode, number in zip(episodes, (0, 2), strict=True):
        np.testing.assert_array_equal(episode.frames, frames(number)[[0, 4, 8]])
        np.testing.assert_allclose(episode.actions[1], actions(number)[4:8].sum(0), rtol=1e-5)


@pytest.mark.parametrize("arrays", [{"actions": 0}, {"other": 0}, {"actions": 0, "states": 1}])
def test_actions_in_an_npz_file_beside_the_video(tmp_path: Path, arrays: dict[str, int]) -> None:
    def edit(folder: Path, lines: list[Line]) -> None:
        for number, line in enumerate(lines):
            tables: dict[str, Any] = {key: actions(number) + add for key, add in arrays.items()}
            np.savez(folder / f"clips/{number}.npz", **tables)
            line["actions"] = f"clips/{number}.npz"

    write(tmp_path / "data", edit)
    episodes, damaged, _ = read_all(spec(tmp_path / "data"), tmp_path)
    assert not damaged
    for number, episode in enumerate(episodes):
        np.testing.assert_array_equal(episode.actions, actions(number))
    assert propose(str(tmp_path / "data"), {}, tmp_path).fields["action_width"] == 3


def test_an_npz_file_with_other_arrays_is_named(tmp_path: Path) -> None:
    def edit(folder: Path, lines: list[Line]) -> None:
        np.savez(folder / "clips/1.npz", a=actions(1), b=actions(1))
        lines[1]["actions"] = "clips/1.npz"

    write(tmp_path, edit)
    _, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert only(damaged).reason == (
        "its 'actions' is the file clips/1.npz, which is not an .npz file with numbers: it has no array 'actions'; "
        "available: a, b"
    )


def test_a_lossy_video_at_the_rate_of_television(tmp_path: Path) -> None:
    def edit(folder: Path, lines: list[Line]) -> None:
        smooth = np.linspace(0, 255, LENGTH * HEIGHT * WIDTH * 3).reshape(LENGTH, HEIGHT, WIDTH, 3).astype(np.uint8)
        with av.open(str(folder / "clips/0.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for image in smooth:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        del lines[1:]

    write(tmp_path, edit)
    episodes, damaged, _ = read_all(spec(tmp_path, fps=30.0), tmp_path)
    assert not damaged
    assert episodes[0].frames.shape == (LENGTH, HEIGHT, WIDTH, 3)


def test_parts_are_some_lines_each_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, lambda _, lines: lines.extend([*lines, *lines] * 7))
    path = tmp_path / "episodes.jsonl"
    path.write_text("\n" + path.read_text().replace("\n", "\n\n"))
    reader = Videos(spec(tmp_path), Files.at(str(tmp_path), {}, tmp_path))
    assert [(part.first, part.stop) for part in reader.parts()] == [(0, 20), (20, 40), (40, 60)]
    names = [each.name for part in reader.parts() for each in reader.read(part)]
    assert names == [f"episodes.jsonl:{2 * number + 2}" for number in range(45)]


def test_remote_videos(tmp_path: Path) -> None:
    write(tmp_path / "data")
    with served(tmp_path) as address:
        episodes, damaged, _ = read_all(spec(f"{address}/data"), tmp_path / "cache")
    assert not damaged
    np.testing.assert_array_equal(episodes[2].frames, frames(2))


def test_a_missing_or_empty_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no episodes\.jsonl; correct `uri` or `manifest`"):
        read_all(spec(tmp_path), tmp_path)
    (tmp_path / "episodes.jsonl").write_text("\n")
    with pytest.raises(SourceError, match="is empty"):
        read_all(spec(tmp_path), tmp_path)


def change(**values: Any) -> Callable[[Path, list[Line]], None]:
    """Give the second line other values; None takes the key out."""

    def edit(_: Path, lines: list[Line]) -> None:
        lines[1] = {key: value for key, value in (lines[1] | values).items() if value is not None}

    return edit


def file(name: str, content: bytes) -> Callable[[Path, list[Line]], None]:
    """Put a file beside the videos, and name it as the actions where it is an array."""

    def edit(folder: Path, lines: list[Line]) -> None:
        (folder / name).write_bytes(content)
        if name.endswith(".npy"):
            lines[1]["actions"] = name

    return edit


def truncated(folder: Path, _: list[Line]) -> None:
    path = folder / "clips/1.mp4"
    # In fragments, as cameras record, so that the first half of the file still is a video.
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(path)) as source, av.open(str(folder / "fragments.mp4"), "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = (folder / "fragments.mp4").read_bytes()
    path.write_bytes(content[: len(content) // 2])


def scrambled(folder: Path, _: list[Line]) -> None:
    path = folder / "clips/1.mp4"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(content)


def uneven(folder: Path, _: list[Line]) -> None:
    film(folder / "clips/1.mp4", frames(1), [0, 1, 2, 3, 5, 6, 7, 8, 9][:LENGTH])


def uneven_on_average(folder: Path, _: list[Line]) -> None:
    film(folder / "clips/1.mp4", frames(1), [0, 5, 10, 15, 18, 25, 30, 35, 40], rate=50)


def faster(folder: Path, _: list[Line]) -> None:
    film(folder / "clips/1.mp4", frames(1), rate=15)


def sound_alone(folder: Path, _: list[Line]) -> None:
    with av.open(str(folder / "clips/1.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def unknown(folder: Path, _: list[Line]) -> None:
    path = folder / "clips/1.mp4"
    path.write_bytes(path.read_bytes().replace(b"avc1", b"what"))


def nan() -> list[list[float]]:
    values = actions(1)
    values[4, 1] = np.nan
    return values.tolist()


def ragged() -> list[list[float]]:
    values: list[list[float]] = actions(1).tolist()
    values[3] = values[3][:2]
    return values


def single() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.float32(3))
    return stream.getvalue()


DAMAGE = {
    "no video key": (change(video=None), "no key 'video'; available: actions, instruction, operator, success"),
    "missing video": (change(video="clips/none.mp4"), "the video clips/none.mp4 is missing"),
    "outside": (change(video="../0.mp4"), "'../0.mp4', which is outside of the data set"),
    "absolute": (change(video="/etc/passwd"), "'/etc/passwd', which is outside of the data set"),
    "elsewhere": (change(video="http://host/0.mp4"), "'http://host/0.mp4', which is outside"),
    "no path": (change(video=7), "its 'video' is not the path of a file"),
    "truncated video": (truncated, "the video clips/1.mp4"),
    "scrambled video": (scrambled, "the video clips/1.mp4"),
    "no video at all": (file("clips/1.mp4", b"not a video" * 90), "the video clips/1.mp4 cannot be decoded after 0"),
    "empty video": (file("clips/1.mp4", b""), "the video clips/1.mp4 cannot be decoded after 0"),
    "sound alone": (sound_alone, "the video clips/1.mp4 has no video stream"),
    "unknown codec": (unknown, "the video clips/1.mp4 has a codec that cannot be decoded"),
    "a gap": (uneven, "frame 4 of the video clips/1.mp4 comes 0.2 s after the previous one, not 0.1 s"),
    "a variable rate": (uneven_on_average, "its frame rate is variable"),
    "another rate": (faster, "the video clips/1.mp4 shows a rate of 15 frames per second, but fps is 10"),
    "no instruction": (change(instruction=None), "its instruction 'instruction' is missing or empty"),
    "no actions": (
        change(actions=None),
        "no action column 'actions'; available: instruction, operator, success, video",
    ),
    "more actions": (change(actions=actions(1, 12).tolist()), "has 9 frames, but there are 12 actions"),
    "no steps": (change(actions=[]), "it is empty: it has no steps"),
    "NaN": (change(actions=nan()), "is NaN or infinite at step 4"),
    "ragged": (change(actions=ragged()), "its rows differ in length"),
    "text": (change(actions=[["a", "b", "c"]] * LENGTH), "contains text, not numbers"),
    "null": (change(actions=[[0, None, 0]] * LENGTH), "contains values of type object, not numbers"),
    "narrow": (change(actions=actions(1)[:, :2].tolist()), "have width 2, but action_width is 3"),
    "a single action": (file("clips/1.npy", single()), "its 'actions' is a single value, not one row for each step"),
    "missing actions": (change(actions="clips/1.npy"), "the file clips/1.npy, which is missing"),
    "actions outside": (change(actions="../1.npy"), "which is outside of the data set"),
    "no array": (file("clips/1.npy", b"hello"), "clips/1.npy, which is not an .npy file with numbers"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_episode_is_named_and_the_others_are_read(tmp_path: Path, kind: str) -> None:
    edit, reason = DAMAGE[kind]
    write(tmp_path, edit)
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert only(damaged).name == "episodes.jsonl:2"
    assert reason in only(damaged).reason
    assert [episode.id for episode in episodes] == ["source/episodes.jsonl:1", "source/episodes.jsonl:3"]


def test_a_pickled_array_is_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    def edit(folder: Path, lines: list[Line]) -> None:
        np.save(folder / "clips/1.npy", np.array([Evil()], object), allow_pickle=True)
        lines[1]["actions"] = "clips/1.npy"

    write(tmp_path, edit)
    _, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert "clips/1.npy, which is not an .npy file with numbers" in only(damaged).reason
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"video": "a.mp4", ', "the line is not JSON"),
        ("[1, 2]", "the line is not a JSON object"),
        ("[" * 100_000, "the line is not JSON"),
        ('"\xff"', "the line is not a JSON object"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, reason: str) -> None:
    write(tmp_path)
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(path.read_bytes() + line.encode("latin1") + b"\n")
    episodes, damaged, _ = read_all(spec(tmp_path), tmp_path)
    assert len(episodes) == 3
    assert only(damaged).name == "episodes.jsonl:4"
    assert reason in only(damaged).reason


def test_a_part_ends_where_it_should(tmp_path: Path) -> None:
    write(tmp_path)
    reader = Videos(spec(tmp_path), Files.at(str(tmp_path), {}, tmp_path))
    assert [each.name for each in reader.read(Part("episodes.jsonl", 1, 2))] == ["episodes.jsonl:2"]


def test_no_mutilated_file_ends_the_reading(tmp_path: Path) -> None:
    write(tmp_path)
    survives(tmp_path / "clips/1.mp4", lambda: read_all(spec(tmp_path), tmp_path))


def test_a_lost_connection_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    lose(monkeypatch, ".mp4")
    with pytest.raises(SourceError, match="cannot be fetched: the server does not answer; run it again"):
        read_all(spec(tmp_path), tmp_path)
