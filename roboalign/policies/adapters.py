"""Adapters of policies that others wrote: a Python function, and LeRobot's policies.

Both run code of the user's choice, so they are named on the command line or in Python, never in YAML.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from roboalign.policies.checked_policy import PolicyError
from roboalign.policies.policy import Policy, Robot
from roboalign.types import Float32, UInt8
from roboalign.video import frames_to_video

ActFunction = Callable[[UInt8, Sequence[str]], Float32]
"""Images (N, H, W, 3) and instructions to actions (N, A), in the source's units."""


class FunctionPolicy:
    """A function of images and instructions as a policy without memory."""

    def __init__(self, function: ActFunction) -> None:
        self._function = function
        self._instructions: Sequence[str] = ()

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Keep the instructions."""
        self._instructions = instructions

    def act(self, images: UInt8) -> Float32:
        """The function's actions."""
        return self._function(images, self._instructions)


def load_callable(name: str, robot: Robot) -> Policy:
    """Load the policy that `module:function` names.

    The object is called with the `Robot` if it is a class or takes one argument, and must then return a policy with
    `reset` and `act`; a function of two arguments, images and instructions, is a policy by itself.

    Raises PolicyError if there is no such object, or it is neither of these.
    """
    module, separator, attribute = name.partition(":")
    if not separator or not module or not attribute:
        raise PolicyError(f"'{name}' does not name a policy; write module:function")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PolicyError(f"the policy {name} cannot be imported ({error}); check the name and PYTHONPATH") from error
    if not callable(made):
        raise PolicyError(f"{name} is a {type(made).__name__}; name a function or a class")
    try:
        required = [
            each for each in inspect.signature(made).parameters.values() if each.default is each.empty
            and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]  # fmt: skip
    except ValueError:
        required = []
    if len(required) == 2 and not inspect.isclass(made):
        return FunctionPolicy(made)
    policy = made(robot)
    if not (callable(getattr(policy, "act", None)) and callable(getattr(policy, "reset", None))):
        raise PolicyError(
            f"{name} returned a {type(policy).__name__} without `reset` and `act`; return a policy, or name a function "
            "of images and instructions"
        )
    result: Policy = policy
    return result


class SelectsActions(Protocol):
    """The methods of a LeRobot policy that are used."""

    def reset(self) -> None:
        """Forget the episode."""
        ...

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        """The actions (N, A) for a batch."""
        ...


class LeRobotPolicy:
    """A policy of LeRobot, by its `select_action(batch)`.

    The batch has `image_key`, float32 (N, 3, H, W) in [0, 1], and `task`, a list of N instructions. Normalisation, if
    the policy does not do it itself, is up to `preprocess` and `postprocess`.
    """

    def __init__(
        self,
        policy: SelectsActions,
        *,
        image_key: str = "observation.images.main",
        device: torch.device | str = "cpu",
        preprocess: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch,
        postprocess: Callable[[torch.Tensor], torch.Tensor] = lambda actions: actions,
    ) -> None:
        """Wrap a policy.

        Args:
            policy: The policy, in evaluation mode.
            image_key: Key of the image in the batch.
            device: Device of the batch.
            preprocess: LeRobot's preprocessor, from the batch to the policy's inputs.
            postprocess: LeRobot's postprocessor, from the policy's actions to the source's units.
        """
        self._policy, self._image_key, self._device = policy, image_key, device
        self._preprocess, self._postprocess = preprocess, postprocess
        self._instructions: Sequence[str] = ()

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Begin N episodes; LeRobot's policies have no seeds of their own."""
        self._instructions = instructions
        self._policy.reset()

    @torch.no_grad()
    def act(self, images: UInt8) -> Float32:
        """The selected actions."""
        batch = {self._image_key: frames_to_video(images, self._device), "task": list(self._instructions)}
        actions = self._postprocess(self._policy.select_action(self._preprocess(batch)))
        return np.asarray(actions.detach().float().cpu().numpy())
