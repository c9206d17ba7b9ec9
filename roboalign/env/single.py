"""One copy of a vector environment as a plain Gymnasium environment."""

from typing import Any

import numpy as np
from gymnasium import Env

from roboalign.env.episodes import VECTOR_OPTIONS
from roboalign.env.errors import EnvError
from roboalign.env.vector import EpisodeVectorEnv, Observation
from roboalign.types import UInt8

_OF_ONE = {"episode": "episodes", "image": "images", "instruction": "instructions", "task": "tasks"}
"""The option of a vector environment's reset for each option here, whose value is the only item of it."""

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"]}


class SingleEnv(Env[Observation, Any]):
    """Adapts a vector environment of one copy."""

    metadata = METADATA

    def __init__(self, vector: EpisodeVectorEnv) -> None:
        self.vector = vector
        self.observation_space, self.action_space = vector.single_observation_space, vector.single_action_space
        self.render_mode = vector.render_mode
        self.metadata = {**type(self).metadata, "render_fps": vector.metadata["render_fps"]}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: The seed of the sampling, which also draws the episode; None continues the random stream.
            options: `episode`, the id of a recorded one; or `image`, uint8 (H, W, 3), `instruction` and optionally
                `task`. None draws a held-out episode.

        Raises EnvError if an argument is not valid.
        """
        super().reset(seed=seed)
        given = {}
        for key, value in (options or {}).items():
            if key not in _OF_ONE:
                plural = f"; did you mean '{key[:-1]}'?" if key in VECTOR_OPTIONS and key[:-1] in _OF_ONE else ""
                raise EnvError(f"unknown option '{key}' of reset{plural or '; there are ' + ', '.join(_OF_ONE)}")
            given[_OF_ONE[key]] = [value]
        observations, infos = self.vector.reset(seed=[seed], options=given)
        return self._observation(observations), _first(infos)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply an action (A,); see `EpisodeVectorEnv.step`. Raises EnvError if it is not valid."""
        values = self.vector.scale.check(action, (self.vector.scale.width,))
        observations, rewards, terminated, truncated, infos = self.vector.step(values[None])
        return (
            self._observation(observations), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), _first(infos)
        )  # fmt: skip

    def render(self) -> UInt8 | None:
        """The present frame (H, W, 3); None if `render_mode` is None."""
        frames = self.vector.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Free what the environment holds."""
        self.vector.close()

    @staticmethod
    def _observation(observations: Observation) -> Observation:
        return {"image": observations["image"][0], "instruction": observations["instruction"][0]}


def _first(infos: dict[str, Any]) -> dict[str, Any]:
    """The info of the only copy, without what is not known of it."""
    result: dict[str, Any] = {}
    for key, values in infos.items():
        if not key.startswith("_") and infos.get(f"_{key}", [True])[0]:
            value = values[0]
            result[key] = bool(value) if isinstance(value, np.bool_) else value
    return result
