"""The report: one HTML page with the results of all stages, and a folder of clips and images beside it.

The page contains its style, script and charts, and loads nothing but its own clips and images, when they are shown. It
is a hashed output of the pipeline, so it is deterministic. What differs between runs (times, hardware, revision) is in
`provenance.js`, which DVC ignores.
"""

import base64
import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from roboalign.report.alignment import alignment
from roboalign.report.blocks import ClipViewer, Gallery, Section
from roboalign.report.data_card import data_card
from roboalign.report.drift import drift
from roboalign.report.inputs import Inputs
from roboalign.report.not_measured import not_measured
from roboalign.report.overview import overview
from roboalign.report.paper import paper
from roboalign.report.policies import policies
from roboalign.report.provenance import provenance
from roboalign.report.scorers import scores
from roboalign.report.sliding_window import sliding_window
from roboalign.report.spec_listing import known_fields, spec_listing
from roboalign.report.state_probes import state_probes
from roboalign.report.training_sections import reward_quality, training
from roboalign.report.viewer import rollouts
from roboalign.report.within_groups import within_groups

SECTIONS: tuple[Callable[[Inputs], Section], ...] = (
    overview,
    rollouts,
    scores,
    sliding_window,
    drift,
    paper,
    alignment,
    policies,
    within_groups,
    reward_quality,
    state_probes,
    training,
    data_card,
    not_measured,
    spec_listing,
    provenance,
)
"""The sections in the order of the page; each is a function of the inputs in a module of its own. Those without blocks
are left out."""

SUBTITLE = (
    "Robot video world models, aligned by a distilled multimodal reward and decoded by sliding window re-encoding: "
    "the results of this run with intervals and sample sizes, and what was not measured."
)


@dataclass(frozen=True)
class Page:
    """The report: the page, and the files beside it by their path in its folder."""

    html: str
    files: Mapping[str, bytes]


def render(inputs: Inputs) -> Page:
    """Render the report; deterministic."""
    sections = [section for build in SECTIONS if (section := build(inputs)).blocks]
    return render_sections("RoboAlign report", SUBTITLE, sections, known_fields(inputs.spec_text))


def render_sections(title: str, subtitle: str, sections: Sequence[Section], fields: Collection[str] = ()) -> Page:
    """Render a page of sections; deterministic.

    Args:
        title: The title of the page.
        subtitle: The sentence below it.
        sections: The sections; none may be without blocks.
        fields: The spec fields that the page lists, to which tables and charts link.
    """
    beside: dict[str, bytes] = {}
    for block in (block for section in sections for block in section.blocks):
        if isinstance(block, ClipViewer):
            beside |= block.files
        elif isinstance(block, Gallery):
            beside |= {photo.file: photo.data for photo in block.photos}
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    folder = files("roboalign.report")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in ("clip_player.js", "page.js"))
    html = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        subtitle=subtitle,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode(),
        sections=sections,
        fields=fields,
    )
    return Page(html, beside)


def write_page(page: Page, folder: Path) -> None:
    """Write a page to a folder, which is emptied first, so that no older page's files stay."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in {"index.html": page.html.encode("utf-8"), **page.files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
