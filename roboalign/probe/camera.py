"""The camera of a task, fitted to recorded points; maps image coordinates and depths to positions.

A fixed camera maps a world point X to (u, v, 1) ~ P (X, 1). P (3, 4) is fitted by the direct linear transform to points
with known world and image coordinates. To map an image point back to the world, only its depth along the ray is needed.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # `roboalign annotate` reads cameras and should not import torch
    from torch import Tensor

Floats = NDArray[np.float64]

MIN_POINTS = 6
"""Minimum number of points that determine a camera."""


def fit_camera(points: Floats, pixels: Floats) -> Floats:
    """Fit the camera P (3, 4) to points (N, 3) in metres and their image coordinates (N, 2); depths are in metres.

    Solves the direct linear transform by least squares in normalised coordinates (Hartley). Raises ValueError if there
    are fewer than six points, or if they all lie on one plane.
    """
    if len(points) < MIN_POINTS:
        raise ValueError(f"{len(points)} points do not determine a camera; it needs {MIN_POINTS}")
    world, image = _whitening(points), _whitening(pixels)
    x = _homogeneous(points) @ world.T
    u = _homogeneous(pixels) @ image.T
    zero = np.zeros_like(x)
    rows = np.concatenate([np.hstack([x, zero, -u[:, :1] * x]), np.hstack([zero, x, -u[:, 1:2] * x])])
    # The right singular vectors of `rows` are the eigenvectors of a 12 x 12 matrix, which is cheap for many points.
    values, vectors = np.linalg.eigh(rows.T @ rows)
    if values[1] <= 1e-9 * values[-1]:
        raise ValueError("the recorded points lie on one plane or line, which does not determine a camera")
    camera: Floats = np.linalg.inv(image) @ vectors[:, 0].reshape(3, 4) @ world
    camera = camera / np.linalg.norm(camera[2, :3])
    depths: Floats = _homogeneous(points) @ camera[2]
    return np.asarray(camera * np.sign(np.median(depths)))


def _homogeneous(points: Floats) -> Floats:
    """Append a column of ones to points (N, D)."""
    result: Floats = np.hstack([points, np.ones((len(points), 1))])
    return result


def _whitening(points: Floats) -> Floats:
    """The affine map (D + 1, D + 1) that normalises points (N, D) to mean 0 and a mean squared coordinate of 1."""
    width = points.shape[1]
    scale = np.sqrt(width) / max(float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())), 1e-9)
    result: Floats = np.eye(width + 1) * scale
    result[:width, width] = -scale * points.mean(0)
    result[width, width] = 1
    return result


def lens(camera: Floats) -> Floats:
    """The inverse (3, 4) of a camera P (3, 4) for `unproject`: a matrix from pixels to rays, and the camera's
    position."""
    inverse = np.linalg.inv(camera[:, :3])
    result: Floats = np.concatenate([inverse, -inverse @ camera[:, 3:]], axis=1)
    return result


def unproject(lenses: "Tensor", pixels: "Tensor", depths: "Tensor") -> "Tensor":
    """The points (..., 3) in metres at image coordinates (..., 2) and depths (...), for lenses (..., 3, 4)."""
    import torch

    rays = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1) * depths.unsqueeze(-1)
    return (lenses[..., :3] @ rays.unsqueeze(-1)).squeeze(-1) + lenses[..., 3]


def point_depths(camera: Floats, points: Floats) -> Floats:
    """Depths (...) in metres of points (..., 3) in front of a camera P (3, 4)."""
    result: Floats = points @ camera[2, :3] + camera[2, 3]
    return result


def flat_lens(points: Floats, pixels: Floats) -> Floats:
    """A lens (3, 4) for points (N, 3) on one plane, which do not determine a camera.

    Positions are an affine function of image coordinates (N, 2) at depth 1, fitted by least squares.
    """
    rays = np.linalg.lstsq(_homogeneous(pixels), points, rcond=None)[0].T
    return np.asarray(np.concatenate([rays, np.zeros((3, 1))], axis=1), np.float64)


def fit_plane(pixels: Floats, depths: Floats) -> Floats:
    """Fit the plane (3,) on which a point moves, from its image coordinates (N, 2) and depths (N,).

    The inverse depth of points on a plane is linear in (u, v, 1). Least squares with a small ridge penalty, so that a
    point that never moves gets a plane of constant depth.
    """
    inverse, x = 1 / depths, pixels - pixels.mean(0)
    slope = np.linalg.solve(x.T @ x + 1e-5 * len(x) * np.eye(2), x.T @ (inverse - inverse.mean()))
    return np.array([*slope, inverse.mean() - slope @ pixels.mean(0)])
