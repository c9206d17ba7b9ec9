import numpy as np
import pytest
from PIL import Image
from scoring_fakes import counted, write_video

from roboalign.scoring.videos import VideoError, find, read
from roboalign.sources.readers.spec import ImageTransformSpec

SIZE = ImageTransformSpec(height=16, width=16)


def images(folder, frames, name="frame_{}.png"):
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(number))
    return folder


def test_every_kind_of_file_gives_its_frames(tmp_path):
    frames = counted(12)
    np.save(tmp_path / "a.npy", frames)
    np.savez(tmp_path / "b.npz", frames=(frames / 255).astype(np.float32), other=np.zeros(3))
    np.savez(tmp_path / "c.npz", anything=frames)
    images(tmp_path / "d", frames)  # frame_10 comes after frame_9
    exact = {name: tmp_path / name for name in ("a.npy", "b.npz", "c.npz", "d")}
    lossy = {
        "e.mp4": write_video(tmp_path / "e.mp4", frames),
        "f.webm": write_video(tmp_path / "f.webm", frames, codec="libvpx-vp9"),
        "g.gif": write_video(tmp_path / "g.gif", frames, codec="gif"),
        "h.avi": write_video(tmp_path / "h.avi", frames, codec="mpeg4"),
    }
    for path in exact.values():
        video = read(path, SIZE)
        np.testing.assert_array_equal(video.frames, frames)
        assert (video.size, video.fps) == ((16, 16), None)
    for path in lossy.values():
        video = read(path, SIZE)
        assert video.fps == pytest.approx(10)
        means = video.frames.mean((1, 2, 3))
        np.testing.assert_allclose(means, frames.mean((1, 2, 3)), atol=20)
        assert (np.diff(means) >= 0).all()
        assert video.palette == (path.suffix == ".gif")
    assert find(tmp_path) == exact | lossy


def test_the_fit_decides_what_a_wide_image_becomes(tmp_path):
    wide = np.zeros((4, 16, 32, 3), np.uint8)
    wide[:, :, :8] = 200
    np.save(tmp_path / "a.npy", wide)

    def row(fit):
        frames = read(tmp_path / "a.npy", ImageTransformSpec(height=16, width=16, fit=fit)).frames
        assert frames.shape == (4, 16, 16, 3)
        return frames[0, 8, :, 0]

    assert row("crop").max() == 0  # the outer quarters are cut off
    np.testing.assert_array_equal(row("stretch"), [200] * 4 + [0] * 12)
    np.testing.assert_array_equal(row("pad"), [200] * 4 + [0] * 12)
    padded = read(tmp_path / "a.npy", ImageTransformSpec(height=16, width=16, fit="pad")).frames
    assert padded[0, :4].max() == padded[0, 12:].max() == 0
    assert padded[0, 4:12, 0].min() == 200


def test_stride_and_first_frame(tmp_path):
    write_video(tmp_path / "a.mp4", counted(9), rate=30)
    Image.fromarray(np.full((16, 16, 3), 255, np.uint8)).save(tmp_path / "first.png")
    video = read(tmp_path / "a.mp4", SIZE, stride=3, first=tmp_path / "first.png")
    np.testing.assert_allclose(video.frames.mean((1, 2, 3)), [255, 0, 60, 120], atol=5)
    assert video.fps == pytest.approx(10)


def truncated(path, source, share):
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def noise(frames=40, size=64):
    return np.random.default_rng(0).integers(0, 255, (frames, size, size, 3), np.uint8)


def damaged(tmp_path, kind):
    rng, path = np.random.default_rng(0), tmp_path / f"{kind}.npy"
    match kind:
        case "text":
            path = tmp_path / "text.mp4"
            path.write_text("no video")
        case "empty":
            path = tmp_path / "empty.mp4"
            path.write_bytes(b"")
        case "cut mp4":
            path = truncated(tmp_path / "cut.mp4", write_video(tmp_path / "whole.mp4", noise()), 0.6)
        case "cut webm":
            whole = write_video(tmp_path / "whole.webm", noise(), codec="libvpx-vp9")
            path = truncated(tmp_path / "cut.webm", whole, 0.5)
        case "one frame":
            np.save(path, counted(1))
        case "no colours":
            np.save(path, counted(4)[..., 0])
        case "out of range":
            np.save(path, rng.normal(size=(4, 16, 16, 3)))
        case "nan":
            np.save(path, np.full((4, 16, 16, 3), np.nan))
        case "whole numbers":
            np.save(path, counted(4).astype(np.int64))
        case "objects":
            np.save(path, np.array([{}, []], dtype=object), allow_pickle=True)
        case "no array":
            path = tmp_path / "no.npz"
            path.write_bytes(b"PK not a zip")
        case "two arrays":
            path = tmp_path / "two.npz"
            np.savez(path, a=counted(4), b=counted(4))
        case "torn image":
            path = images(tmp_path / "folder", counted(4))
            truncated(path / "frame_2.png", path / "frame_2.png", 0.5)
        case "sizes":
            path = images(tmp_path / "folder", counted(4))
            Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(path / "frame_4.png")
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "cannot be opened"),
        ("empty", "cannot be opened"),
        ("cut mp4", "cannot be opened"),
        ("cut webm", "the file is truncated|cannot be decoded|damaged"),
        ("one frame", "1 frame, too few"),
        ("no colours", r"shape \(4, 16, 16\)"),
        ("out of range", "outside"),
        ("nan", "outside"),
        ("whole numbers", "int64"),
        ("objects", "cannot be read as an array"),
        ("no array", "cannot be read as an array"),
        ("two arrays", "2 arrays"),
        ("torn image", r"frame_2\.png cannot be read as an image"),
        ("sizes", "8 x 16, 16 x 16"),
    ],
)
def test_damage_is_named_and_nothing_is_read_by_half(tmp_path, kind, reason):
    with pytest.raises(VideoError, match=reason):
        read(damaged(tmp_path, kind), SIZE)


def test_hidden_files_and_others_are_no_videos(tmp_path):
    (tmp_path / ".cache").mkdir()
    np.save(tmp_path / ".cache/a.npy", counted(4))
    (tmp_path / "notes.txt").write_text("x")
    images(tmp_path / "deep/er/clip", counted(4))
    assert list(find(tmp_path)) == ["deep/er/clip"]
