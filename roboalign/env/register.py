"""The ids under which Gymnasium finds the environments."""

from gymnasium.envs.registration import register, registry

WORLD_MODEL = "roboalign/WorldModel-v0"
ROBOTS = {
    "roboalign/Metaworld-v0": "metaworld",
    "roboalign/Fetch-v0": "fetch",
    "roboalign/Panda-v0": "panda",
    "roboalign/Jaco-v0": "jaco",
}
"""The kind of simulated robot of each id."""


def register_envs() -> None:
    """Register the environments that are not yet registered."""
    if WORLD_MODEL not in registry:
        register(
            WORLD_MODEL,
            entry_point="roboalign.env.world_model:WorldModelEnv",
            vector_entry_point="roboalign.env.world_model:WorldModelVectorEnv",
        )
    for name, robot in ROBOTS.items():
        if name not in registry:
            register(
                name,
                entry_point="roboalign.env.robots:RobotEnv",
                vector_entry_point="roboalign.env.robots:RobotVectorEnv",
                kwargs={"robot": robot},
            )
