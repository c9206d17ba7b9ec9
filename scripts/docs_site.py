"""MkDocs hooks: the pages that are not in docs/, and links between files of the repository.

README.md is the home page. Other files that a page links to are copied into the site under their own path, so that
the same links work in the repository and in the site. Run `python -m mkdocs`, which finds this package, in the root.
"""

import argparse
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from roboalign.cli.parser import COMMANDS
from scripts.field_reference import write_reference

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent

LINK = re.compile(r"""(\]\(\s*|(?:src|srcset|href)=")([^)\s#"]+)([^)\s"]*(?:\s*\)|"))""")
"""A link or image in Markdown or HTML: what precedes its target, the target without its anchor, and the rest."""

FLOWCHART = re.compile(r"^```mermaid\nflowchart \w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A diagram in Mermaid. Its script is not part of the site and would be loaded from another host."""

REFERENCE = "reference"
"""The folder of the generated pages."""


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the generated pages, and the files that the pages link to."""
    from mkdocs.structure.files import File

    for name, text in generated_pages().items():
        files.append(File.generated(config, name, content=text))
    for path in sorted(linked_files()):
        content = (ROOT / path).read_bytes()
        if path.suffix == ".md":
            content = site_markdown(content.decode(), path).encode()
        files.append(File.generated(config, site_path(path), content=content))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Point the links of a page of docs/ to pages of the site."""
    source = Path("docs") / page.file.src_uri
    return site_markdown(markdown, source) if (ROOT / source).is_file() else markdown


def generated_pages() -> dict[str, str]:
    """The fields of all specs, and the commands."""
    pages = {f"{REFERENCE}/{name}.md": text for name, text in write_reference(ROOT).items()}
    return pages | {f"{REFERENCE}/commands.md": commands_page()}


def commands_page() -> str:
    """The help of every command."""
    lines = ["# Commands", "", "`python -m roboalign COMMAND --help` prints the same.", ""]
    for name, command in COMMANDS.items():
        parser = argparse.ArgumentParser(
            prog=f"python -m roboalign {name}",
            description=f"{command.HELP.capitalize()}.",
            formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
        )
        command.add_arguments(parser)
        lines += [f"## {name}", "", "```text", parser.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def site_path(path: Path) -> str:
    """The path in the site's sources of a file of the repository."""
    if path == Path("README.md"):
        return "index.md"
    return path.relative_to("docs").as_posix() if path.parts[0] == "docs" else path.as_posix()


def link_target(source: Path, target: str) -> Path | None:
    """The file of the repository that a link in `source` names; None if it names none."""
    if ":" in target:
        return None
    path = Path(posixpath.normpath((source.parent / target).as_posix()))
    return path if not path.is_absolute() and ".." not in path.parts and (ROOT / path).is_file() else None


def links(source: Path) -> Iterator[str]:
    """The targets of a file's links, without anchors."""
    return (match[2] for match in LINK.finditer((ROOT / source).read_text(encoding="utf-8")))


def linked_files() -> set[Path]:
    """README.md, and all files outside of docs/ that it or a page of docs/ links to, directly or not."""
    found: set[Path] = set()
    todo = [Path("README.md"), *(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))]
    while todo:
        source = todo.pop()
        if source.parts[0] != "docs":
            found.add(source)
        if source.suffix == ".md":
            targets = {target for link in links(source) if (target := link_target(source, link))}
            todo += [target for target in targets if target.parts[0] != "docs" and target not in found]
    return found


def site_markdown(text: str, source: Path) -> str:
    """The Markdown of a file of the repository with links as the site needs them."""

    def replace(match: re.Match[str]) -> str:
        target = link_target(source, match[2])
        if target is None:
            return match[0]
        return match[1] + posixpath.relpath(site_path(target), posixpath.dirname(site_path(source)) or ".") + match[3]

    return LINK.sub(replace, FLOWCHART.sub(lambda match: flowchart_text(match[1]), text))


def flowchart_text(lines: str) -> str:
    """The lines of a flowchart as a block of text: `a --> b["c"]` becomes `a → c`."""
    named = re.sub(r'\w+\["([^"]*)"\]', r"\1", lines)
    chains = "\n".join(line.strip() for line in named.replace("-->", "→").splitlines())
    return f"```text\n{chains}\n```"
