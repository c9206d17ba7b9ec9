"""Renders a MuJoCo scene through a free camera, and projects points through the same camera."""

import ctypes.util
import os
from typing import Any

import numpy as np
from PIL import Image

from roboalign.sources.errors import SourceError
from roboalign.sources.simulators.simulator import Vector
from roboalign.sources.simulators.spec import CameraSpec, ImageSpec
from roboalign.types import Float32, UInt8

EGL_REMEDY = (
    "off-screen rendering needs EGL and a software driver; install them: "
    "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libgles2"
)


def require_egl() -> None:
    """Select EGL for MuJoCo before it is imported. Raises SourceError if the machine has no EGL."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    if os.environ["MUJOCO_GL"] == "egl" and ctypes.util.find_library("EGL") is None:
        raise SourceError(EGL_REMEDY)


def camera_axes(camera: CameraSpec) -> tuple[Vector, Vector, Vector, Vector]:
    """Return position, forward, right and up (3,) of a free camera in the world frame, by MuJoCo's angle convention."""
    azimuth, elevation = np.deg2rad([camera.azimuth, camera.elevation])
    forward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    return np.asarray(camera.lookat) - camera.distance * forward, forward, right, np.cross(right, forward)


def project(camera: CameraSpec, image: ImageSpec, points: Vector) -> Float32:
    """Project points (N, 3) to image coordinates (N, 2), from 0 to 1 from left and top; other values are outside the
    image.

    A point behind the camera is projected at the smallest depth of 1 cm, far outside the image.
    """
    position, forward, right, up = camera_axes(camera)
    offset = np.atleast_2d(points) - position
    depth = np.maximum(offset @ forward, 0.01)
    half = np.tan(np.deg2rad(camera.fovy) / 2)
    u = 0.5 + (offset @ right) / (2 * depth * half * image.width / image.height)
    v = 0.5 - (offset @ up) / (2 * depth * half)
    return np.stack([u, v], 1).astype(np.float32)


def shrink(frame: UInt8, factor: int) -> UInt8:
    """Downsample (H, W, 3) to (H / factor, W / factor, 3) by averaging blocks of pixels."""
    return frame if factor == 1 else np.asarray(Image.fromarray(frame).reduce(factor))


class View:
    """Renders a MuJoCo model.

    Shadows, reflections and multi-sampling are off, because they take most of the time of software rendering and show
    nothing of the task.
    """

    def __init__(self, model: Any, image: ImageSpec, camera: CameraSpec) -> None:
        require_egl()
        import mujoco

        self._image, self._camera = image, camera
        height, width = image.height * image.supersample, image.width * image.supersample
        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 512
        model.vis.global_.offheight = height
        model.vis.global_.offwidth = width
        model.vis.global_.fovy = camera.fovy
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
            raise SourceError(f"{EGL_REMEDY} ({error})") from None
        for flag in ("SHADOW", "REFLECTION", "HAZE", "SKYBOX"):
            self._renderer.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        self._free = mujoco.MjvCamera()
        self._free.lookat[:] = camera.lookat
        self._free.distance, self._free.azimuth, self._free.elevation = (
            camera.distance,
            camera.azimuth,
            camera.elevation,
        )

    def frame(self, data: object) -> UInt8:
        """Render the image (H, W, 3) of a state."""
        self._renderer.update_scene(data, self._free)
        return shrink(np.asarray(self._renderer.render(), np.uint8), self._image.supersample)

    def project(self, points: Vector) -> Float32:
        """Return image coordinates (N, 2) of points (N, 3)."""
        return project(self._camera, self._image, points)

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()
