"""Augmentation of a still camera's pictures: what moves in them is turned about the arm's shoulder.

Few labelled pictures are learnt by heart: the paper's network read its own 1418 to 2 px and new ones to 12 px. A
turn of all that is not background gives another true picture, since it is a turn of the first joint and of the
target.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from handeye import planar_arm
from handeye.envs.reach_pictures import SHOULDER_PX, SIZE_PX
from handeye.modular.perception import Source
from handeye.types import FloatArray

BACKGROUND_QUANTILE = 0.7
"""Of a pixel's grey over all pictures: the arm is darker than what it hides, and is elsewhere most of the time."""
LIFT_GREY = 40.0
"""Added before a picture is divided by its background, so that noise in dark corners does not become snow."""
BRIGHTEST_RATIO = 1.25
UNTURNED = 0.25
"""Share of the pictures that stay as they were taken."""


def background(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What stands behind the arm (H, W), of pictures (N, H, W) by a camera that does not move."""
    return np.quantile(pictures, BACKGROUND_QUANTILE, axis=0).astype(np.float32)


def turned_theta(theta: NDArray, angle_rad: NDArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Θ (N, 5) after turns (N,) about the shoulder, counter-clockwise, and which of them stay within all limits."""
    target, joints = planar_arm.from_theta(theta)
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    target = np.stack([cos * target[:, 0] - sin * target[:, 1], sin * target[:, 0] + cos * target[:, 1]], axis=1)
    joints[:, 0] -= angle_rad
    s1 = joints[:, 0]
    allowed = planar_arm.in_region(target) & (planar_arm.LOWER_RAD[0] <= s1) & (s1 <= planar_arm.UPPER_RAD[0])
    return planar_arm.to_theta(target, joints), allowed


def turned_pictures(ratio: NDArray[np.float32], angle_rad: NDArray) -> NDArray[np.float32]:
    """Pictures over their background (N, H, W), 1 where nothing moves, turned counter-clockwise about the shoulder."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    x, y = 2 * SHOULDER_PX / SIZE_PX - 1
    # grid_sample asks where a pixel comes from: the turn back, in coordinates of which y points down.
    rows = [np.stack([cos, -sin, x - cos * x + sin * y], 1), np.stack([sin, cos, y - sin * x - cos * y], 1)]
    back = torch.as_tensor(np.stack(rows, 1), dtype=torch.float32)
    grid = functional.affine_grid(back, [len(ratio), 1, *ratio.shape[1:]], align_corners=False)
    # What comes from outside the picture is 0 there: background.
    return functional.grid_sample(torch.as_tensor(ratio - 1)[:, None], grid, align_corners=False)[:, 0].numpy() + 1


def turning_source(pictures: NDArray[np.uint8], theta: FloatArray, spread_rad: float) -> Source:
    """Draws labelled pictures with replacement, three quarters of them turned by a normal angle of σ `spread_rad`.

    A turn that would leave a limit or the target region is not made.
    """
    behind = background(pictures) + LIFT_GREY

    def draw(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], FloatArray]:
        which = rng.integers(len(pictures), size=count)
        angle = np.where(rng.random(count) < UNTURNED, 0.0, rng.normal(0, spread_rad, count))
        after, allowed = turned_theta(theta[which], angle)
        moved = np.flatnonzero(allowed & (angle != 0))
        shown, labels = pictures[which], theta[which]
        if not len(moved):
            return shown, labels
        ratio = np.minimum((shown[moved] + LIFT_GREY) / behind, BRIGHTEST_RATIO).astype(np.float32)
        grey = turned_pictures(ratio, angle[moved]) * behind - LIFT_GREY
        shown[moved] = np.clip(grey + 0.5, 0, 255).astype(np.uint8)
        labels[moved] = after[moved]
        return shown, labels

    return draw
