"""`python -m roboalign rollout`: a rollout of the world model from a recorded frame and a list of actions."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from roboalign.checkpoint import CheckpointError
from roboalign.errors import StageError
from roboalign.io import find_output, read_json, replacing
from roboalign.pipeline.video_models import SOURCES
from roboalign.rollout.spec import ModelName
from roboalign.simulation.load import SimulationError, load
from roboalign.store import Corpus, EpisodeStore, StoreError
from roboalign.store.spec import StorageSpec
from roboalign.store.video import encode_clip
from roboalign.types import Float32, UInt8

GAP = 2
"""Pixels between recording and rollout."""
SMALLEST = 192
"""Minimum height in pixels to which videos are enlarged, by an integer factor."""


def run(
    root: Path,
    episode: str,
    actions: Path | None,
    out: Path,
    *,
    model: ModelName,
    decoding: str | None,
    start: int,
    frames: int,
    temperature: float,
    seed: int,
    device: str,
) -> int:
    """Sample a rollout and write it.

    Args:
        root: The checkout of the experiment.
        episode: The recorded episode whose frame is the context.
        actions: A file of actions; None for the recorded ones.
        out: The file to write: .mp4, .npy or .png.
        model: The world model.
        decoding: A name in `rollout.decodings`; None for the scored one.
        start: Number of the context frame.
        frames: Number of actions; 0 for all.
        temperature: Temperature of the sampling; 0 for greedy.
        seed: Seed of the sampling.
        device: `cpu` or `cuda`.

    Returns:
        The exit code: 0 on success, 1 if something is missing, 2 for wrong arguments.
    """
    if out.suffix not in (".mp4", ".npy", ".png"):
        return fail(f"{out}: a rollout is written as .mp4, .npy (frames, H, W, 3) or .png (a strip)", 2)
    try:
        corpus = Corpus.open(find_output(root, SOURCES))
        number = next((n for n, info in enumerate(corpus.infos) if info.id == episode), None)
        if number is None:
            examples = ", ".join(info.id for info in corpus.infos[:3])
            return fail(f"there is no episode '{episode}'; the {len(corpus)} episodes are {examples}, …", 2)
        info = corpus.infos[number]
        if not 0 <= start < info.length:
            return fail(f"--start {start}: {episode} has frames 0 to {info.length - 1}", 2)
        recorded = corpus.frames(number, start)
        steps = corpus.read(number).actions[start:-1] if actions is None else read_actions(actions)
        steps = steps[:frames] if frames else steps
        if len(steps) == 0:
            return fail("there are no actions to roll out; choose an earlier --start or other --actions", 2)
        simulation = load(root, model, decoding, temperature=temperature, device=device)
        world = simulation.reset(info.source, recorded[:1], [seed], len(steps))
        rows = simulation.actions(info.source, steps).unsqueeze(1)
        video = np.concatenate([recorded[:1], *(simulation.step(world, row) for row in rows)])
    except (StageError, StoreError, CheckpointError, ValueError) as error:
        return fail(str(error), 1)
    truth = recorded[: len(video)] if actions is None else None
    if truth is not None:
        squares = ((video[1:].astype(np.float64) - truth[1:]) ** 2).mean((1, 2, 3))
        quality = 10 * np.log10(255**2 / np.maximum(squares, 1e-9))
        print(f"PSNR against the recording: {quality.mean():.2f} dB over {len(quality)} frames, last {quality[-1]:.2f}")
    store = next((s for s in corpus.stores if isinstance(s, EpisodeStore) and s.infos[0].source == info.source), None)
    write(out, video, truth, store.fps if store else 10.0)
    layouts = {".mp4": ": recording left, rollout right", ".png": ": recording above, rollout below"}
    layout = layouts.get(out.suffix, "") if truth is not None else ""
    print(f"{len(video)} frames of '{info.instruction}' in {out}{layout}")
    return 0


def read_actions(path: Path) -> Float32:
    """Read actions (T, A) from `.npy` or a JSON list of rows. Raises SimulationError."""
    try:
        rows = np.load(path, allow_pickle=False) if path.suffix == ".npy" else read_json(path)
        values = np.asarray(rows, np.float32)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise SimulationError(f"{path} cannot be read as actions ({error}); it needs one row for each step") from None
    if values.ndim != 2:
        raise SimulationError(f"{path} has an array of shape {values.shape}; actions must be (steps, dimensions)")
    return values


def write(out: Path, video: UInt8, truth: UInt8 | None, fps: float) -> None:
    """Write a rollout to a file.

    Args:
        out: The file; .npy has the rollout only, .mp4 and .png also the recording.
        video: The rollout (T, H, W, 3).
        truth: The recording (T', H, W, 3); None for none.
        fps: Frames per second of an .mp4.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        if out.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, video)
            return
        panels = [video] if truth is None else [truth, video]
        gap = np.full((*video.shape[:2], GAP, 3), 255, np.uint8)
        wide = np.concatenate([piece for panel in panels for piece in (gap, panel)][1:], 2)
        if out.suffix == ".png":
            rows = [np.concatenate(list(panel), 1) for panel in panels]
            Image.fromarray(np.concatenate(rows, 0)).save(temporary, "PNG")
            return
        factor = -(-SMALLEST // video.shape[1])
        enlarged = wide.repeat(factor, 1).repeat(factor, 2)
        enlarged = enlarged[:, : enlarged.shape[1] // 2 * 2, : enlarged.shape[2] // 2 * 2]  # H.264 needs even sizes
        rate = Fraction(fps).limit_denominator(1000)
        temporary.write_bytes(encode_clip(enlarged, rate, "h264", StorageSpec(kind="h264", crf=16, gop=12)))


def fail(text: str, code: int) -> int:
    """Print an error on stderr, and return the exit code `code`."""
    print(f"error: {text}", file=sys.stderr)
    return code
