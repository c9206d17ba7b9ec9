"""Documents that people and tools read: their commands exist, their links lead somewhere, their formats are right."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from roboalign import __version__
from roboalign.cli.parser import COMMANDS, make_parser

ROOT = Path(__file__).parent.parent
PATTERNS = ("*.md", "docs/**/*.md", "*/README.md", "roboalign/project/README.md")
PAGES = sorted({path.relative_to(ROOT).as_posix() for pattern in PATTERNS for path in ROOT.glob(pattern)})
COMMAND = re.compile(r"^\s*(?:\$ )?(?:python -m )?roboalign (?!-)([^#\n]+)", re.MULTILINE)
PLACEHOLDER = {"PART": "judge", "N": "1", "…": "x"}


def commands(text: str) -> list[list[str]]:
    """The arguments of each command `roboalign …` in the shell code of a page; alternatives and chains apart."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace(" && ", "\n").split("\n"):
            if match := COMMAND.match(line):
                found.append([PLACEHOLDER.get(word, word) for word in shlex.split(match[1])])
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if "CHANGELOG" not in page])
def test_the_commands_of_a_page_parse(page: str) -> None:
    for words in commands((ROOT / page).read_text(encoding="utf-8")):
        assert words[0] in COMMANDS
        make_parser().parse_args(words)


def test_the_readme_has_commands() -> None:
    assert len(commands((ROOT / "README.md").read_text(encoding="utf-8"))) > 20


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(\s*([^)#\s]+)", text):
        if not link.startswith(("http://", "https://", "mailto:")):
            assert (ROOT / page).parent.joinpath(link).exists(), link


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", __version__)
    assert {"message", "title", "authors"} <= citation.keys()
    assert "2605.03821" in citation["references"][0]["url"]


def test_the_devcontainer_installs_what_ci_installs() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    install = re.compile(r"apt-get install ([^>\n&]*)")
    found, expected = (install.search(text) for text in (container["onCreateCommand"], (ROOT / ".ci/run").read_text()))
    assert found
    assert expected
    assert found[1].split() == expected[1].split()
    tool, target = container["updateContentCommand"].split()
    assert tool == "make"
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert container["remoteEnv"]["PATH"].startswith("${containerWorkspaceFolder}/.venv/bin:")
    assert container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith(
        "/.venv/bin/python"
    )
