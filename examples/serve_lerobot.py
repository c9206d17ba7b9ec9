"""Serve a policy of LeRobot to RoboAlign, by openpi's websocket protocol, from LeRobot's own environment.

The pinned dependencies of LeRobot and RoboAlign conflict, so each has an environment of its own, and they talk:

    pip install lerobot websockets msgpack                                                     # LeRobot's
    python serve_lerobot.py outputs/train/CHECKPOINT/pretrained_model
    python -m roboalign evaluate-policy ws://localhost:8000 --source fetch --clip              # RoboAlign's

A request has one image and an instruction; the answer is the chunk of actions that the policy predicts.
"""

import argparse
import traceback
from typing import Any

import msgpack
import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from websockets.sync.server import ServerConnection, serve


def pack(actions: Any) -> bytes:
    """An answer with an array (C, A), as openpi encodes arrays."""
    array = {b"__ndarray__": True, b"data": actions.tobytes(), b"dtype": actions.dtype.str, b"shape": actions.shape}
    return bytes(msgpack.packb({"actions": array}))


def unpack(message: bytes) -> Any:
    """A request; arrays are decoded."""

    def decode(value: Any) -> Any:
        if b"__ndarray__" in value:
            return np.frombuffer(value[b"data"], value[b"dtype"]).reshape(value[b"shape"])
        return value

    return msgpack.unpackb(message, object_hook=decode)


def main() -> None:
    """Load the policy and serve it until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="folder of a checkpoint's pretrained_model, or a repository of the hub")
    parser.add_argument("--image-key", default="observation.images.main", help="the policy's key of the image")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    config = PreTrainedConfig.from_pretrained(arguments.policy)
    if missing := set(config.input_features) - {arguments.image_key}:
        parser.error(f"the policy also reads {', '.join(sorted(missing))}; a world model shows one image and no states")
    policy = get_policy_class(config.type).from_pretrained(arguments.policy).to(arguments.device).eval()
    device = {"device_processor": {"device": arguments.device}}
    preprocess, postprocess = make_pre_post_processors(config, arguments.policy, preprocessor_overrides=device)

    @torch.no_grad()
    def predict(observation: dict[str, Any]) -> Any:
        """The chunk of actions (C, A), in the data set's units."""
        image = torch.from_numpy(observation["observation/image"].copy()).permute(2, 0, 1) / 255
        # ACT of LeRobot 0.4 looks up the device of a state also where it has none.
        batch = {arguments.image_key: image, "task": observation["prompt"], "observation.state": torch.zeros(0)}
        batch = preprocess(batch)
        return postprocess(policy.predict_action_chunk(batch))[0].cpu().numpy().astype(np.float32)

    def handle(connection: ServerConnection) -> None:
        connection.send(msgpack.packb({"policy": config.type}))
        for message in connection:
            try:
                connection.send(pack(predict(unpack(message))))
            except Exception:
                connection.send(traceback.format_exc())  # as openpi's server: the client shows it
                raise

    with serve(handle, "localhost", arguments.port, compression=None, max_size=None) as server:
        print(f"serving {config.type} on ws://localhost:{arguments.port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
