"""The simulator's pictures of the planar arm: 84×84 grey for networks, large and coloured for people."""

import numpy as np
from numpy.typing import NDArray

from handeye import planar_arm
from handeye.envs.drawing import paint

SIZE_PX = 84
SHOULDER_PX = np.array([0.24, 0.49]) * SIZE_PX
"""Where S1 appears, from the upper left corner."""
LARGE = 6
"""The large picture has this many times as many pixels a side."""

BACKGROUND, LINK, HAND, DISC, TARGET = 255.0, 142.0, 67.0, 45.0, 36.0
RADIUS_M = {"link": 0.0785, "hand": 0.065, "disc": 0.09, "target": 0.06}

# Column, two links, hand, three joint discs, target: in the order in which they are painted.
GREY = np.array([HAND, LINK, LINK, HAND, DISC, DISC, DISC, TARGET], np.float32)
_RADII_M = np.array([RADIUS_M[k] for k in ("link", "link", "link", "hand", "disc", "disc", "disc", "target")])
COLOURS = np.array(
    [
        [96, 104, 120],
        [224, 122, 60],
        [224, 122, 60],
        [72, 80, 96],
        [52, 58, 70],
        [52, 58, 70],
        [52, 58, 70],
        [30, 140, 90],
    ],
    np.float32,
)
_PAPER = np.array([250, 249, 245], np.float32)


def to_px(position_m: NDArray) -> NDArray:
    """Pixel coordinates (..., 2), x right and y down, of positions (..., 2) in the arm's frame."""
    return SHOULDER_PX + position_m / planar_arm.M_PER_PX * np.array([1.0, -1.0])


def capsules(target_m: NDArray, joints_rad: NDArray) -> NDArray[np.float32]:
    """The scene as capsules (N, 8, 6) in pixels of the small picture, in painting order."""
    points = to_px(planar_arm.forward(joints_rad))
    column = np.broadcast_to(to_px(planar_arm.COLUMN_FOOT_M), points[:, 0].shape)
    target = to_px(target_m)
    starts = np.stack([column, *points.swapaxes(0, 1)[:3], *points.swapaxes(0, 1)[:3], target], axis=1)
    ends = np.stack([points[:, 0], *points.swapaxes(0, 1)[1:], *points.swapaxes(0, 1)[:3], target], axis=1)
    radii = np.broadcast_to(_RADII_M / planar_arm.M_PER_PX, starts.shape[:2])[..., None]
    return np.concatenate([starts, ends, radii, radii], axis=-1).astype(np.float32)


def draw(target_m: NDArray, joints_rad: NDArray) -> NDArray[np.uint8]:
    """Pictures (N, 84, 84) uint8 of targets (N, 2) and poses (N, 3)."""
    canvas = np.full((len(joints_rad), SIZE_PX, SIZE_PX), BACKGROUND, np.float32)
    paint(canvas, capsules(target_m, joints_rad), GREY)
    return (canvas + 0.5).astype(np.uint8)


def draw_colour(
    target_m: NDArray, joints_rad: NDArray, belief: tuple[NDArray, NDArray] | None = None
) -> NDArray[np.uint8]:
    """Large pictures (N, 504, 504, 3) for people; `belief` (target, joints) is drawn as a thin outline."""
    shapes = capsules(target_m, joints_rad) * LARGE
    colours = COLOURS
    if belief is not None:
        thin = capsules(*belief) * LARGE
        thin[:, :, 4:] = np.where(np.arange(8) < 4, 3.0, 7.0)[None, :, None]
        shapes = np.concatenate([shapes, thin[:, 1:]], axis=1)
        colours = np.concatenate([COLOURS, np.broadcast_to(np.array([220, 30, 90], np.float32), (7, 3))])
    channels = []
    for paper, colour in zip(_PAPER, colours.T, strict=True):
        canvas = np.full((len(joints_rad), SIZE_PX * LARGE, SIZE_PX * LARGE), paper, np.float32)
        paint(canvas, shapes, colour)
        channels.append(canvas)
    return (np.stack(channels, axis=-1) + 0.5).astype(np.uint8)
