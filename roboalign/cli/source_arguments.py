"""Arguments that `inspect` and `convert` share: the spec or data set that is named, and options of its place."""

import re
from pathlib import Path


def parse_options(texts: list[str]) -> tuple[dict[str, bool | int | str], list[str]]:
    """fsspec's options by name, and what is wrong with the arguments that give them."""
    pairs = [text.partition("=") for text in texts]
    wrong = [f"--option {name} has no value; write KEY=VALUE" for name, equals, _ in pairs if not (name and equals)]
    values = {"true": True, "false": False}
    options = {
        name: values.get(text, int(text) if re.fullmatch(r"-?\d{1,18}", text) else text) for name, _, text in pairs
    }
    return options, wrong


def spec_path(root: Path, target: str) -> Path:
    """The file of a source's spec that `target` names, or `target` itself."""
    path = Path(target)
    if "/" not in target and not path.exists():
        return root / "specs/sources" / f"{target.removesuffix('.yaml')}.yaml"
    return path


def cache_folder(root: Path) -> Path:
    """The cache folder of remote files: that of the current experiment, or the default."""
    from roboalign.hardware.spec import HardwareSpec
    from roboalign.spec.compose import compose_params
    from roboalign.spec.library import Library

    experiment = compose_params(Library(root)).experiment
    return root / (experiment.hardware.cache if experiment else str(HardwareSpec.model_fields["cache"].default))
