"""The command line: `roboalign COMMAND` or `python -m roboalign COMMAND`; `--help` lists the commands, each a file of
roboalign/cli/.

Commands import their modules when they run, so those that read only specs and data do not import torch.
"""

import os
import sys

from roboalign.cli.parser import COMMANDS, make_parser
from roboalign.spec.diagnostics import SpecError, nearest, render, summary


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        suggestion = nearest(words[0], COMMANDS)
        hint = f"did you mean '{suggestion}'?" if suggestion else f"available: {', '.join(COMMANDS)}"
        print(f"error: unknown command '{words[0]}'; {hint}", file=sys.stderr)
        return 2
    arguments = make_parser().parse_args(words)
    try:
        code: int = COMMANDS[arguments.command].run(arguments)
        return code
    except SpecError as error:
        print("\n".join(render(item) for item in error.diagnostics), file=sys.stderr)
        print(summary(error.diagnostics), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may only be read
        if os.environ.get("ROBOALIGN_TRACEBACK"):
            raise
        print(f"error: {error} (ROBOALIGN_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
