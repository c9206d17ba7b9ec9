"""Draw rollouts of an experiment beside the recordings, as docs/rollouts.png.

    python -m examples.draw_rollouts . docs/rollouts.png

One block for each source: the episode whose aligned rollout has the median total score, frames from left to right.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from roboalign.evaluation.clips import read_clip_sets, true_clips
from roboalign.io import read_tsv
from roboalign.store import Corpus
from roboalign.types import UInt8

ROWS = {
    "ground_truth": "recording",
    "supervised.ar.greedy": "autoregressive",
    "supervised.swr.greedy": "SWR",
    "aligned.swr.greedy": "SWR, aligned",
}
"""The clip sets from top to bottom, with their labels."""
SCORER = "gold_faithful"
SCALE, GAP, MARGIN, LABEL, TITLE = 2, 2, 24, 130, 44
"""Magnification of frames; pixels between frames, between blocks, for labels on the left, and for a block's title."""


def median_episode(scores: list[dict[str, str]], episodes: set[str]) -> str:
    """The one of `episodes` whose aligned rollout has the median total score; of two, the lower one."""
    totals = sorted(
        (float(row["total"]), row["episode"])
        for row in scores
        if (row["model"], row["scorer"]) == ("aligned.swr.greedy", SCORER) and row["episode"] in episodes
    )
    return totals[(len(totals) - 1) // 2][1]


def draw_block(title: str, rows: dict[str, UInt8], times: list[int], *, labels: bool) -> Image.Image:
    """An image with a title and one row of frames for each of `rows`: the frames `times` of (T, H, W, 3)."""
    height, width = (size * SCALE + GAP for size in next(iter(rows.values())).shape[1:3])
    left = LABEL if labels else 0
    block = Image.new("RGB", (left + width * len(times), TITLE + height * len(rows)), "white")
    draw = ImageDraw.Draw(block)
    draw.text((left, 0), title, fill="black", font=ImageFont.load_default(17))
    for column, time in enumerate(times):
        draw.text((left + column * width, 23), f"frame {time}", fill="#555", font=ImageFont.load_default(14))
    for row, (label, frames) in enumerate(rows.items()):
        top = TITLE + row * height
        if labels:
            draw.text((0, top + height // 2 - 9), label, fill="black", font=ImageFont.load_default(17))
        for column, time in enumerate(times):
            tile = Image.fromarray(np.ascontiguousarray(frames[time]))
            block.paste(
                tile.resize((width - GAP, height - GAP), Image.Resampling.NEAREST), (left + column * width, top)
            )
    return block


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("experiment", type=Path, help="a folder with artifacts/rollout and artifacts/evaluation")
    parser.add_argument("out", type=Path, metavar="OUT.png", help="the image to write")
    parser.add_argument("--sources", nargs="+", default=["fetch", "metaworld"], metavar="NAME", help="its blocks")
    parser.add_argument("--frames", type=int, nargs="+", default=[0, 10, 20, 30], metavar="N", help="frames to draw")
    arguments = parser.parse_args()
    artifacts = arguments.experiment / "artifacts"
    scores = read_tsv(artifacts / "evaluation/scores.tsv")
    corpus = Corpus.open(artifacts / "sources/index.json")
    sets = read_clip_sets(artifacts / "rollout")
    truth = {clip.episode: clip for clip in true_clips(corpus, sets["aligned.swr.greedy"])}
    shared = set[str].intersection(*(set(sets[name].episodes) for name in ROWS if name in sets))
    blocks = []
    for source in arguments.sources:
        episode = median_episode(scores, {each for each in shared if each.startswith(f"{source}/")})
        rows = {
            label: truth[episode].frames if name == "ground_truth" else sets[name].frames(episode, 0)
            for name, label in ROWS.items()
        }
        title = f"{source}: {truth[episode].instruction}"
        blocks.append(draw_block(title, rows, arguments.frames, labels=not blocks))
    picture = Image.new(
        "RGB", (sum(block.width for block in blocks) + 24 * (len(blocks) - 1), blocks[0].height), "white"
    )
    left = 0
    for block in blocks:
        picture.paste(block, (left, 0))
        left += block.width + 24
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(256, dither=Image.Dither.NONE).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
