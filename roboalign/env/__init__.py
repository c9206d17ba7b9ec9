"""Trained world models and the simulated robots as Gymnasium environments, with one observation and action space.

    import gymnasium, roboalign.env
    env = gymnasium.make("roboalign/WorldModel-v0", experiment=".", source="fetch", reward="student")
    envs = gymnasium.make_vec("roboalign/WorldModel-v0", 32, experiment=".", source="fetch")
    robot = gymnasium.make("roboalign/Fetch-v0", experiment=".")

Importing this package registers the environments; the id "roboalign.env:roboalign/WorldModel-v0" imports it first.
Since version 1, Gymnasium does not read the entry points of installed packages any more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from roboalign.env.register import register_envs

if TYPE_CHECKING:
    from roboalign.env.errors import EnvError
    from roboalign.env.robots import RobotEnv, RobotVectorEnv
    from roboalign.env.world_model import WorldModelEnv, WorldModelVectorEnv

__all__ = ["EnvError", "RobotEnv", "RobotVectorEnv", "WorldModelEnv", "WorldModelVectorEnv", "register_envs"]

# Only what is used loads torch or the simulators.
_HOMES = {
    "EnvError": "errors",
    "RobotEnv": "robots",
    "RobotVectorEnv": "robots",
    "WorldModelEnv": "world_model",
    "WorldModelVectorEnv": "world_model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


register_envs()
