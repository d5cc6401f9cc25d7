"""What the simulator knows of a bin and no picture says at once: where objects lie, and how the gripper stands."""

import numpy as np
from numpy.typing import NDArray

from handeye.envs.bin import Bin
from handeye.types import FloatArray

POSE = 5
"""Numbers of `pose`."""


def turns(bins: Bin) -> tuple[NDArray, NDArray]:
    """Sine and cosine (N,) of twice the gripper's yaw: turned by half a circle, two fingers are the same."""
    yaw = bins.gripper[:, 3]
    return np.sin(2 * yaw), np.cos(2 * yaw)


def pose(bins: Bin) -> FloatArray:
    """The gripper's x, y, height (m), and sine and cosine of twice its yaw: (N, 5)."""
    x, y = bins.gripper[:, :2].T
    return np.stack([x, y, bins.tip_m[:, 2], *turns(bins)], 1).astype(np.float32)


def objects(bins: Bin) -> FloatArray:
    """Where the objects (N, objects, 3) are from the fingertips, along the axes of the tray, nearest first.

    Displacements are commanded along the same axes. Along those of the gripper it would depend on which finger is
    which, and no picture shows that.
    """
    away = bins.objects_m - bins.tip_m[:, None]
    order = np.linalg.norm(away, axis=-1).argsort(1, kind="stable")
    return np.take_along_axis(away, order[..., None], 1).astype(np.float32)
