"""Functions that the MuJoCo robots share: colours, contacts, and the state vector."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from roboalign.sources.simulators.simulator import Vector
from roboalign.types import Float32


def geoms_of(model: Any, bodies: Iterable[str]) -> frozenset[int]:
    """Return the ids of the geometries of the named bodies."""
    ids = {model.body(name).id for name in bodies}
    return frozenset(int(g) for g in np.flatnonzero(np.isin(model.geom_bodyid, list(ids))))


def paint(model: Any, geoms: Iterable[int], colour: tuple[float, float, float]) -> None:
    """Set geometries to a plain opaque colour."""
    for geom in geoms:
        model.geom_matid[geom] = -1
        model.geom_rgba[geom] = (*colour, 1.0)


def show_only_site(model: Any, name: str, colour: tuple[float, float, float], radius: float = 0.02) -> None:
    """Show one site as a sphere with a colour and a radius in metres, and hide all others."""
    model.site_rgba[:, 3] = 0
    site = model.site(name).id
    model.site_matid[site] = -1
    model.site_rgba[site] = (*colour, 1.0)
    model.site_type[site] = 2  # a sphere
    model.site_size[site] = radius


def contact_state(model: Any, data: Any, gripper: frozenset[int], item: frozenset[int]) -> tuple[float, float, float]:
    """Return contact of gripper and object (0 or 1), its normal force in newtons, and the deepest penetration in
    metres.

    The force is the sum over all contact points of the two. The penetration is the maximum over all contacts of the
    gripper or the object.
    """
    import mujoco

    # Read as arrays: querying MuJoCo contact by contact takes a tenth of the recording time.
    pairs, depths = np.asarray(data.contact.geom), -np.asarray(data.contact.dist)
    of_gripper, of_item = np.isin(pairs, [*gripper]), np.isin(pairs, [*item])
    deepest = float(depths[(of_gripper | of_item).any(1)].max(initial=0.0))
    force, touching, wrench = 0.0, 0.0, np.zeros(6)
    for number in np.flatnonzero(of_gripper.any(1) & of_item.any(1)):
        mujoco.mj_contactForce(model, data, int(number), wrench)
        if wrench[0] > 0:
            touching, force = 1.0, force + float(wrench[0])
    return touching, force, deepest


def state_vector(
    gripper: Vector, item: Vector, goal: Vector, opening: float, contact: tuple[float, float, float], success: bool
) -> Float32:
    """Return the state (14,), columns STATE_NAMES."""
    return np.asarray([*gripper, *item, *goal, np.clip(opening, 0, 1), *contact, success], np.float32)
