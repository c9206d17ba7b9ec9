"""Validate params.yaml with specs/ and write the resolved sections: `python -m stages.compose`."""

import sys
from pathlib import Path

import roboalign
from roboalign.spec.check import describe_uncommitted_params
from roboalign.spec.compose import FOLDER, compose_params, write
from roboalign.spec.diagnostics import SpecError, render, summary
from roboalign.spec.library import Library


def main() -> int:
    """Write build/spec, or print every error and leave it as it was; the exit code.

    This stage runs first and often. It does without `roboalign.run`, which imports torch.
    """
    if not Path(roboalign.__file__).resolve().is_relative_to(Path.cwd().resolve()):
        print(f"[compose] error: roboalign was imported from {roboalign.__file__}, not from here", file=sys.stderr)
        return 1
    try:
        composition = compose_params(Library())
        changed = write(composition)
    except SpecError as error:
        print("\n".join(render(item) for item in error.diagnostics), file=sys.stderr)
        print(f"[compose] {summary(error.diagnostics)}; {FOLDER} is as it was", file=sys.stderr)
        if hint := describe_uncommitted_params(Library()):
            print(f"[compose] {hint}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"[compose] error: {error}", file=sys.stderr)
        return 1
    for note in composition.diagnostics:
        print(render(note), file=sys.stderr)
    print(f"[compose] {', '.join(changed) if changed else 'nothing'} changed in {FOLDER}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
