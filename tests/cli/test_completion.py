"""The completion script, in bash."""

import subprocess
from pathlib import Path

import pytest

from roboalign.__main__ import main
from roboalign.cli.completion import SHELLS

ROOT = Path(__file__).parents[2]
COMPLETE = """source /dev/stdin
while IFS=, read -ra COMP_WORDS <&3; do
  COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )) COMPREPLY=()
  _shtab_roboalign
  echo "${COMPREPLY[*]}"
done 3<"$1"
"""


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_commands_names_and_folders_are_completed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = {
        "roboalign,ini": "init", "roboalign,use,smo": "smoke", "roboalign,show,roll": "rollout",
        "roboalign,show,--experiment,align": "align_rt1", "roboalign,study,rq2": "rq2",
        "roboalign,inspect,met": "metaworld", "roboalign,export,held": "held_out", "roboalign,score,stag": "stages",
        "roboalign,init,dvc.ya": "", "roboalign,score,--json,dvc.ya": "dvc.yaml",
        "roboalign,score,--first-frames,stag": "stages",
    }  # fmt: skip
    (tmp_path / "lines").write_text("".join(f"{line}\n" for line in lines))
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", str(tmp_path / "lines")], input=script("bash", capsys), cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert dict(zip(lines, done.stdout.split("\n"), strict=False)) == lines


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "bash"])
def test_other_shells_get_the_commands_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "evaluate-policy" in script(shell, capsys)
