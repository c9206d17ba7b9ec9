"""The camera of a task, fitted to recorded points: from image coordinates and depths to positions.

A fixed camera maps a point X of the world to (u, v, 1) ~ P (X, 1). From some points with both coordinates, P (3, 4)
follows by the direct linear transform; back from the picture, only the depth along the ray remains to be known.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the bench reads cameras where nothing else needs torch: `roboalign annotate`
    from torch import Tensor

Floats = NDArray[np.float64]

LEAST = 6
"""Points that determine a camera."""


def fit_camera(points: Floats, pixels: Floats) -> Floats:
    """The camera P (3, 4) of points (N, 3) in metres and their image coordinates (N, 2), its depth in metres.

    Least squares of the direct linear transform, in coordinates of unit spread (Hartley). Raises ValueError with fewer
    than six points, or where they do not determine a camera (all on one plane).
    """
    if len(points) < LEAST:
        raise ValueError(f"{len(points)} points do not determine a camera; it takes {LEAST}")
    world, image = _whitening(points), _whitening(pixels)
    x = _homogeneous(points) @ world.T
    u = _homogeneous(pixels) @ image.T
    zero = np.zeros_like(x)
    rows = np.concatenate([np.hstack([x, zero, -u[:, :1] * x]), np.hstack([zero, x, -u[:, 1:2] * x])])
    # The right singular vectors of the rows are the eigenvectors of a 12 x 12 matrix, however many the points.
    values, vectors = np.linalg.eigh(rows.T @ rows)
    if values[1] <= 1e-9 * values[-1]:
        raise ValueError("the recorded points lie on one plane or line, which does not determine a camera")
    camera: Floats = np.linalg.inv(image) @ vectors[:, 0].reshape(3, 4) @ world
    camera = camera / np.linalg.norm(camera[2, :3])
    depths: Floats = _homogeneous(points) @ camera[2]
    return np.asarray(camera * np.sign(np.median(depths)))


def _homogeneous(points: Floats) -> Floats:
    result: Floats = np.hstack([points, np.ones((len(points), 1))])
    return result


def _whitening(points: Floats) -> Floats:
    """The affine map (D + 1, D + 1) that moves points (N, D) to mean 0 and spread 1."""
    width = points.shape[1]
    scale = np.sqrt(width) / max(float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())), 1e-9)
    result: Floats = np.eye(width + 1) * scale
    result[:width, width] = -scale * points.mean(0)
    result[width, width] = 1
    return result


def lens(camera: Floats) -> Floats:
    """The matrix (3, 4) that `unproject` takes, of a camera P (3, 4): pixels to rays, and the camera's position."""
    inverse = np.linalg.inv(camera[:, :3])
    result: Floats = np.concatenate([inverse, -inverse @ camera[:, 3:]], axis=1)
    return result


def unproject(lenses: "Tensor", pixels: "Tensor", depths: "Tensor") -> "Tensor":
    """Points (..., 3), in metres, that lie at image coordinates (..., 2) in depths (...) for lenses (..., 3, 4)."""
    import torch

    rays = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1) * depths.unsqueeze(-1)
    return (lenses[..., :3] @ rays.unsqueeze(-1)).squeeze(-1) + lenses[..., 3]


def point_depths(camera: Floats, points: Floats) -> Floats:
    """Depths (...) of points (..., 3) before a camera P (3, 4), in metres."""
    result: Floats = points @ camera[2, :3] + camera[2, 3]
    return result


def flat_lens(points: Floats, pixels: Floats) -> Floats:
    """A lens (3, 4) for points (N, 3) on one plane, which determine no camera: positions are affine in the image
    coordinates (N, 2), by least squares, at depth 1."""
    rays = np.linalg.lstsq(_homogeneous(pixels), points, rcond=None)[0].T
    return np.asarray(np.concatenate([rays, np.zeros((3, 1))], axis=1), np.float64)


def plane(pixels: Floats, depths: Floats) -> Floats:
    """The plane (3,) that a point is mostly on, from image coordinates (N, 2) and depths (N,): the inverse depth of the
    points of a plane is linear in (u, v, 1).

    Least squares, with a little weight on the mean depth: a point that never moves has a plane too.
    """
    inverse, x = 1 / depths, pixels - pixels.mean(0)
    slope = np.linalg.solve(x.T @ x + 1e-5 * len(x) * np.eye(2), x.T @ (inverse - inverse.mean()))
    return np.array([*slope, inverse.mean() - slope @ pixels.mean(0)])
