"""Planar kinematics of the Baxter left arm: joints s1, e1, w1 moving in one vertical plane.

Frame: origin at the shoulder joint S1, x forward and y up, in metres. A joint angle counts from the
straight arm; positive bends the arm down, as on the real robot.
"""

import numpy as np
from numpy.typing import NDArray

from handeye.types import FloatArray

JOINTS = ("s1", "e1", "w1")
LINK_ALONG_M = np.array([0.36442, 0.37429, 0.229525])
"""S1→E1, E1→W1, W1→hand, along the link."""
LINK_DOWN_M = np.array([0.069, 0.010, 0.0])
"""Offset of the next joint perpendicular to the link, on the side to which positive angles bend."""
LOWER_RAD = np.array([-2.147, -0.05, -1.5708])
UPPER_RAD = np.array([1.047, 2.618, 2.094])
COLUMN_FOOT_M = np.array([-0.069, -0.27035])
"""S0 as seen from S1; the column is drawn, never moved."""

M_PER_PX = 0.02383
"""Scale of the 84×84 picture: 2.0 m across, as the paper's Table 1 implies."""

TARGET_LOW_M = np.array([-0.42, -0.96])
TARGET_HIGH_M = np.array([0.98, 0.92])
"""The target region: what the arm reaches of the picture, and the scale of x* in the bottleneck."""


def forward(joints_rad: NDArray) -> NDArray:
    """Positions of S1, E1, W1 and the hand.

    Args:
        joints_rad: (..., 3) angles of s1, e1, w1.

    Returns:
        (..., 4, 2) positions in metres.
    """
    heading = np.cumsum(joints_rad, axis=-1)
    cos, sin = np.cos(heading), np.sin(heading)
    x = LINK_ALONG_M * cos - LINK_DOWN_M * sin
    y = -LINK_ALONG_M * sin - LINK_DOWN_M * cos
    steps = np.stack([x, y], axis=-1)
    return np.concatenate([np.zeros_like(steps[..., :1, :]), np.cumsum(steps, axis=-2)], axis=-2)


def hand(joints_rad: NDArray) -> NDArray:
    """Position of the hand (..., 2) in metres for joint angles (..., 3)."""
    return forward(joints_rad)[..., -1, :]


def to_theta(target_m: NDArray, joints_rad: NDArray) -> FloatArray:
    """Θ = [x*, q] ∈ [0, 1]⁵: target (..., 2) and joints (..., 3), each min-max scaled by its range."""
    x = (target_m - TARGET_LOW_M) / (TARGET_HIGH_M - TARGET_LOW_M)
    q = (joints_rad - LOWER_RAD) / (UPPER_RAD - LOWER_RAD)
    return np.concatenate([x, q], axis=-1).astype(np.float32)


def from_theta(theta: NDArray) -> tuple[NDArray, NDArray]:
    """Inverse of `to_theta`: (target (..., 2) in metres, joints (..., 3) in radians)."""
    theta = np.asarray(theta, dtype=np.float64)
    target = TARGET_LOW_M + theta[..., :2] * (TARGET_HIGH_M - TARGET_LOW_M)
    joints = LOWER_RAD + theta[..., 2:] * (UPPER_RAD - LOWER_RAD)
    return target, joints


def random_joints(rng: np.random.Generator, count: int) -> NDArray:
    """`count` poses (count, 3), uniform within the joint limits."""
    return rng.uniform(LOWER_RAD, UPPER_RAD, (count, 3))


def random_goals(rng: np.random.Generator, count: int) -> NDArray:
    """`count` poses (count, 3) whose hand lies in the target region, uniform among such poses."""
    goals = np.empty((0, 3))
    while len(goals) < count:
        poses = random_joints(rng, 2 * count)
        goals = np.concatenate([goals, poses[in_region(hand(poses))]])
    return goals[:count]


NEAR_SHARE = 0.5
"""Of the scenes to learn to see, those with the target near the arm."""
NEAR_POINTS = np.array([0.05, 0.1, 0.1, 0.75])
"""Shares of the near targets of `random_targets` about S1, E1, W1 and the hand."""


def random_scenes(rng: np.random.Generator, count: int, near: float = NEAR_SHARE) -> tuple[NDArray, NDArray]:
    """Targets (count, 2) and poses (count, 3) to learn to see; a share `near` of the targets lies near the arm."""
    joints = random_joints(rng, count)
    return random_targets(rng, joints, near), joints


def random_targets(rng: np.random.Generator, joints_rad: NDArray, near: float = NEAR_SHARE) -> NDArray:
    """A target (N, 2) for each pose (N, 3), a share `near` of them near the arm and the others anywhere within reach.

    A reaching arm spends its decisive steps where hand and target overlap in the picture, which independent
    poses and targets would hardly ever show; and a joint's disc looks much like a target that lies on it. The
    distance there spreads evenly over the scales 1 … 20 cm.
    """
    count = len(joints_rad)
    target = hand(random_goals(rng, count))
    scale_m = np.exp(rng.uniform(np.log(0.01), np.log(0.2), (count, 1)))
    about = rng.choice(4, count, p=NEAR_POINTS)
    beside = forward(joints_rad)[np.arange(count), about] + scale_m * rng.standard_normal((count, 2))
    chosen = (rng.random(count) < near) & in_region(beside)
    return np.where(chosen[:, None], beside, target)


def in_region(position_m: NDArray) -> NDArray[np.bool_]:
    """Whether positions (..., 2) lie in the target region."""
    return np.all((position_m >= TARGET_LOW_M) & (position_m <= TARGET_HIGH_M), axis=-1)
