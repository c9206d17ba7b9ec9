"""A policy behind openpi's websocket protocol.

The server greets with its metadata. The client then sends one observation at a time, a mapping in MessagePack, and
receives a mapping with a chunk of actions. A server that fails answers with the text of its error.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from roboalign.policies.checked_policy import PolicyError
from roboalign.policies.msgpack_numpy import pack, unpack
from roboalign.policies.policy import Robot
from roboalign.policies.spec import PolicyServerSpec
from roboalign.types import Float32, UInt8

MAX_ANSWER = 64 * 2**20
"""Maximum size of an answer in bytes."""


class ServerPolicy:
    """Asks a policy server for the actions of each copy in turn, and executes chunks of them.

    Raises PolicyError if the server cannot be reached, does not answer in time, closes the connection, reports an
    error, or answers something else than finite actions.
    """

    def __init__(self, spec: PolicyServerSpec, robot: Robot, time_limit: float) -> None:
        self._spec, self._robot, self._time_limit = spec, robot, time_limit
        self._stack = ExitStack()
        self._connection: ClientConnection | None = None
        self._instructions: Sequence[str] = ()
        self._chunks: list[Float32] = []

    def reset(self, instructions: Sequence[str], seeds: Sequence[int]) -> None:
        """Connect, if there is no connection, and forget the chunks of earlier episodes."""
        self._instructions = instructions
        self._chunks = [np.zeros((0, self._robot.action_width), np.float32) for _ in instructions]
        if self._connection is None:
            try:
                opening = connect(
                    self._spec.url, compression=None, max_size=MAX_ANSWER, open_timeout=self._time_limit,
                    close_timeout=1,
                )  # fmt: skip
                self._connection = self._stack.enter_context(opening)
            except (OSError, WebSocketException, TimeoutError) as error:
                raise PolicyError(f"{self._spec.url} cannot be reached ({error}); start the policy server") from None
            self._receive()

    def act(self, images: UInt8) -> Float32:
        """The actions (N, A) of every copy: the next one of its chunk, or the first one of a new chunk."""
        for row, image in enumerate(images):
            if len(self._chunks[row]) == 0:
                self._chunks[row] = self._ask(image, self._instructions[row])[: self._spec.execute]
        actions = np.stack([chunk[0] for chunk in self._chunks])
        self._chunks = [chunk[1:] for chunk in self._chunks]
        return actions

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._stack.close()
            self._connection = None

    def _ask(self, image: UInt8, instruction: str) -> Float32:
        """The chunk of actions (C, A), C > 0, for an image."""
        spec, width = self._spec, self._robot.action_width
        assert self._connection is not None
        try:
            self._connection.send(pack({spec.image_key: image, spec.instruction_key: instruction}))
        except (OSError, WebSocketException) as error:
            raise self._failure(f"closed the connection ({error})") from None
        answer = self._receive()
        if not isinstance(answer, dict) or spec.action_key not in answer:
            names = ", ".join(map(str, answer)) if isinstance(answer, dict) else type(answer).__name__
            raise self._failure(f"did not answer '{spec.action_key}' but {names[:200]}; set action_key")
        actions = answer[spec.action_key]
        if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
            raise self._failure(f"'{spec.action_key}' is not an array of numbers")
        chunk = actions[None] if actions.ndim == 1 else actions
        if chunk.ndim != 2 or chunk.shape[1] != width or len(chunk) == 0:
            raise self._failure(
                f"'{spec.action_key}' has the shape {actions.shape}, not (steps, {width}) or ({width},)"
            )
        return chunk.astype(np.float32)

    def _receive(self) -> Any:
        """The next message, decoded."""
        assert self._connection is not None
        try:
            message = self._connection.recv(timeout=self._time_limit)
        except TimeoutError:
            raise self._failure(f"did not answer within {self._time_limit:g} s; raise the time limit") from None
        except (OSError, WebSocketException) as error:
            raise self._failure(f"closed the connection ({error})") from None
        if isinstance(message, str):
            last = message.strip().splitlines()
            raise self._failure(f"reports an error: {last[-1][:300] if last else 'an empty text'}")
        try:
            return unpack(message)
        except ValueError as error:
            raise self._failure(f"answered something else than the protocol's messages: {error}") from None

    def _failure(self, text: str) -> PolicyError:
        self.close()
        return PolicyError(f"the server {self._spec.url} {text}")
