"""The worlds that policies act in, as environments whose copies all run to the horizon."""

from pathlib import Path
from typing import Any, cast, get_args

from gymnasium.vector import VectorEnv

from roboalign.env import RobotVectorEnv, WorldModelVectorEnv
from roboalign.errors import StageError
from roboalign.io import find_output
from roboalign.policies.results import SIMULATOR
from roboalign.rollout.spec import FixedDecodingSpec, ModelName
from roboalign.run import read_section
from roboalign.sources.simulators.spec import SimulatedSpec
from roboalign.sources.spec import SourceSpec

WORLDS = (SIMULATOR, *get_args(ModelName))


def make_world(
    root: Path,
    world: str,
    source: str,
    copies: int,
    horizon: int | None,
    *,
    decoding: str | FixedDecodingSpec | None = None,
    temperature: float = 0.0,
    device: str = "cpu",
) -> "VectorEnv[Any, Any, Any]":
    """Make the environment of a world.

    Args:
        root: The folder of a finished experiment.
        world: `simulator`, `supervised` or `aligned`.
        source: The source of the robots.
        copies: Number of robots.
        horizon: Frames of an episode; None for the experiment's `rollout.horizon`.
        decoding: Of a world model: a spec, or a name in `rollout.decodings`; None for the scored one.
        temperature: Of a world model; 0 is greedy.
        device: Device of the models.

    Raises:
        StageError: A file is missing, or the source is not a simulated robot.
        EnvError: Another argument is not valid.
    """
    if world == SIMULATOR:
        sources: dict[str, SourceSpec] = read_section(
            find_output(root, "build/spec/sources.yaml"), "sources", dict[str, SourceSpec]
        )
        spec = sources.get(source)
        if not isinstance(spec, SimulatedSpec):
            known = ", ".join(name for name, each in sources.items() if isinstance(each, SimulatedSpec))
            raise StageError(f"{source} is not a simulated robot of the experiment; those are: {known or 'none'}")
        return RobotVectorEnv(
            copies, robot=spec.kind, source=source, experiment=root, reward="none", horizon=horizon,
            terminate_on_success=False,
        )  # fmt: skip
    return WorldModelVectorEnv(
        copies, source=source, experiment=root, model=cast(ModelName, world), decoding=decoding, reward="none",
        temperature=temperature, horizon=horizon, terminate_on_success=False, device=device,
    )  # fmt: skip
