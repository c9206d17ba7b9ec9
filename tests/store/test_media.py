"""Opening videos and images: what is refused, and which way up the others come."""

import io
import socket
import struct
import threading
import zlib
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from roboalign.store.media import MediaError, open_image, open_video, upright_frame, upright_image, video_stream

HIGH, WIDE = 32, 48
CORNERS = ((220, 30, 30), (30, 180, 60), (40, 60, 200), (230, 220, 40))
"""Colours of the quarters, row by row."""
MATRICES = {
    "upright": (1, 0, 0, 1), "clockwise": (0, 1, -1, 0), "half": (-1, 0, 0, -1), "counterclockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1), "upside down": (1, 0, 0, -1), "transposed": (0, 1, 1, 0), "anti": (0, -1, -1, 0),
}  # fmt: skip


def quarters() -> np.ndarray[Any, Any]:
    image = np.zeros((HIGH, WIDE, 3), np.uint8)
    for number, colour in enumerate(CORNERS):
        y, x = number // 2 * HIGH // 2, number % 2 * WIDE // 2
        image[y : y + HIGH // 2, x : x + WIDE // 2] = colour
    return image


def film(path: Path, matrix: tuple[int, int, int, int] = (1, 0, 0, 1), one: int = 65536) -> Path:
    """A video of the quarters; the header of an MP4's track holds the matrix."""
    with av.open(str(path), "w") as container:
        stream = cast(VideoStream, container.add_stream("libx264", rate=10, options={"crf": "4"}))
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    if path.suffix == ".mp4":
        place = content.index(b"tkhd") + 4 + 40
        a, b, c, d = (value * one for value in matrix)
        content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
    return path


def first_frame(path: Path) -> np.ndarray[Any, Any]:
    with open_video(path) as container:
        return upright_frame(next(container.decode(video_stream(container))))


def corners(image: np.ndarray[Any, Any]) -> list[tuple[int, ...]]:
    high, wide = image.shape[:2]
    places = ((y * high // 4, x * wide // 4) for y in (1, 3) for x in (1, 3))
    found = (image[place].astype(int) for place in places)
    return [min(CORNERS, key=lambda colour: abs(each - colour).sum()) for each in found]


@pytest.mark.parametrize("name", MATRICES)
def test_a_frame_comes_as_its_display_matrix_shows_it(tmp_path: Path, name: str) -> None:
    found = first_frame(film(tmp_path / "a.mp4", MATRICES[name]))
    a, b, c, d = MATRICES[name]
    moved = np.zeros((HIGH, WIDE, 3) if a else (WIDE, HIGH, 3), np.uint8)
    for y in range(HIGH):
        for x in range(WIDE):
            u, v = a * x + c * y, b * x + d * y
            moved[v if v >= 0 and b + d > 0 else v - 1, u if a + c > 0 else u - 1] = quarters()[y, x]
    assert found.shape == moved.shape
    assert corners(found) == corners(moved)


def test_a_matrix_that_scales_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is rotated by an angle that is not a multiple of 90°"):
        first_frame(film(tmp_path / "a.mp4", MATRICES["clockwise"], one=40000))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_image_and_a_video_follow_the_same_rule(tmp_path: Path, orientation: int) -> None:
    names = ("upright", "mirrored", "half", "upside down", "transposed", "clockwise", "anti", "counterclockwise")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(quarters()).save(stream, "PNG", exif=exif)
    with open_image(stream) as image:
        upright = upright_image(image)
    assert corners(upright) == corners(first_frame(film(tmp_path / "a.mp4", MATRICES[names[orientation - 1]])))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "m4v", "mkv", "webm", "avi", "gif"])
def test_containers_are_opened_by_their_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"concat:a|b.{suffix}"  # a name that FFmpeg would take for a protocol
    codec, colours = {"webm": ("libvpx-vp9", "yuv420p"), "gif": ("gif", "rgb8")}.get(suffix, ("libx264", "yuv420p"))
    with av.open(str(tmp_path / f"a.{suffix}"), "w") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=10))
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, colours
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        container.mux(stream.encode())
    (tmp_path / f"a.{suffix}").rename(path)
    with open_video(path) as container, path.open("rb") as file, open_video(file) as again:
        for each in (container, again):
            assert upright_frame(next(each.decode(video_stream(each)))).shape == (HIGH, WIDE, 3)


def scripts(folder: Path, address: str) -> dict[str, bytes]:
    """Texts by which FFmpeg would open something else."""
    return {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}/a.ts\n#EXT-X-ENDLIST\n".encode(),
        "local.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{folder}/a.mp4\n#EXT-X-ENDLIST\n".encode(),
        "sdp.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        b"a=rtpmap:96 H264/90000\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{folder}/a.mp4'\n".encode(),
        "dash.mp4": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        f'profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f"<Representation><BaseURL>{address}/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>".encode(),
        "subtitle.mp4": b"[Script Info]\nTitle: x\n",
        "image.mp4": Path(folder / "a.png").read_bytes(),
    }


@pytest.mark.parametrize(
    "name", ["list.m3u8", "local.m3u8", "sdp.mp4", "concat.mp4", "dash.mp4", "subtitle.mp4", "image.mp4"]
)
def test_scripts_and_playlists_open_nothing(tmp_path: Path, name: str) -> None:
    film(tmp_path / "a.mp4")
    Image.fromarray(quarters()).save(tmp_path / "a.png")
    calls: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

        def listen() -> None:
            try:
                calls.append(server.accept())
            except TimeoutError:
                return

        thread = threading.Thread(target=listen)
        thread.start()
        (tmp_path / name).write_bytes(scripts(tmp_path, address)[name])
        with (tmp_path / name).open("rb") as file:
            for source in (tmp_path / name, file):
                with pytest.raises((MediaError, av.error.InvalidDataError), match=r"is not an AVI|Invalid data"):
                    open_video(source)
        thread.join()
    assert not calls


def test_sizes_are_not_believed(tmp_path: Path) -> None:
    content = bytearray(io.BytesIO(png_of(10, 10)).getvalue())
    content[16:24] = struct.pack(">II", 9000, 9000)  # 81 million pixels, in IHDR
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(MediaError, match="9000 x 9000 pixels, more than 67108864"), open_image(io.BytesIO(content)):
        pass
    content[16:24] = struct.pack(">II", 60000, 60000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(MediaError, match="declares a size that is far too large"), open_image(io.BytesIO(content)):
        pass
    film(tmp_path / "a.mkv")
    with av.open(str(tmp_path / "silent.mkv"), "w") as container:
        audio: Any = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        audio.layout = "mono"
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    with open_video(tmp_path / "silent.mkv") as container, pytest.raises(MediaError, match=r"^has no video stream$"):
        video_stream(container)


def png_of(high: int, wide: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((high, wide, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("space", ["ITU601", "ITU709"])
@pytest.mark.parametrize("value_range", ["MPEG", "JPEG"])
@pytest.mark.parametrize("tagged", [True, False])
def test_colours_come_back_whatever_the_video_keeps_them_as(
    tmp_path: Path, space: str, value_range: str, tagged: bool
) -> None:
    if not tagged and (space, value_range) != ("ITU601", "MPEG"):
        pytest.skip("a video without tags is of BT.601 in the limited range")
    full = value_range == "JPEG"
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = cast(VideoStream, container.add_stream("libx264", rate=10, options={"crf": "1"}))
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, "yuvj420p" if full else "yuv420p"
        image = av.VideoFrame.from_ndarray(quarters(), format="rgb24").reformat(
            format=stream.pix_fmt, dst_colorspace=Colorspace[space], dst_color_range=ColorRange[value_range]
        )
        if tagged:
            numbers = 1 if space == "ITU709" else 5, 2 if full else 1
            for target in (stream.codec_context, image):
                target.colorspace, target.color_range = numbers
        for _ in range(3):
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    found = np.asarray(corners(first_frame(tmp_path / "film.mp4")))
    assert np.abs(found - np.asarray(CORNERS)).max() <= 4
