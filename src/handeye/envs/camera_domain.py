"""The synthetic camera domain: a second look at the planar arm, where photographs of the robot would be.

It shares nothing with the simulator's drawing but the arm's kinematics: point samples through a distorted
camera instead of analytic coverage, a curtain, a ceiling and a robot body behind the arm, a shaded and
tapered arm with a gripper, a card behind the arm and the target disc before it, blur and noise. It is not
real and never called so.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from handeye import planar_arm
from handeye.envs.reach_pictures import SHOULDER_PX, SIZE_PX, to_px
from handeye.planar_arm import M_PER_PX
from handeye.types import FloatArray

SAMPLES = 4
"""Point samples a pixel and side."""
SHIFT_PX = np.array([1.4, -0.9])
SCALE = 1.015
ROTATION_RAD = np.deg2rad(0.7)
RADIAL = 0.012
"""The camera's error against the ideal frame: shift, scale, rotation and radial lens distortion."""

NOISE_GREY = 3.0
GAIN = (0.94, 1.06)
OFFSET_GREY = (-4.0, 4.0)
"""Sensor noise σ, and the ranges of exposure gain and offset from picture to picture."""

LABEL_NOISE_RAD = 0.0075
LABEL_NOISE_M = 0.01
"""Standard deviation of the training labels' errors: joint encoders, and a hand-measured target."""

# Arm parts: joint index from, to, radius in metres at each end, grey of the body, how bright its upper edge is.
_PARTS = np.array(
    [
        [0, 1, 0.088, 0.070, 22, 70],
        [1, 2, 0.070, 0.056, 16, 80],
        [2, 3, 0.056, 0.038, 26, 60],
        [1, 1, 0.082, 0.082, 12, 50],
        [2, 2, 0.066, 0.066, 10, 50],
    ],
    np.float32,
)
_FINGER = np.array([-0.02, 0.055, 0.034, 0.011], np.float32)
"""Fingers: from, to along the hand; offset to either side; radius."""
CARD_M = 0.075
CARD_TILT_RAD = 0.12
CARD_BRIGHTER = 20.0
TARGET_RADIUS_M = 0.057
TARGET_GREY = 47.0


def _sample_points_m() -> NDArray[np.float32]:
    """Where each point sample (S, S, 2) of the camera looks, in the arm's frame, with the camera's error."""
    side = SIZE_PX * SAMPLES
    column, row = np.meshgrid(np.arange(side), np.arange(side))
    seen_px = (np.stack([column, row], -1) + 0.5) / SAMPLES
    centred = seen_px / (SIZE_PX / 2) - 1
    straight = centred * (1 + RADIAL * (centred**2).sum(-1, keepdims=True))
    cos, sin = np.cos(ROTATION_RAD), np.sin(ROTATION_RAD)
    turned = straight @ np.array([[cos, -sin], [sin, cos]]) / SCALE
    ideal_px = (turned + 1) * (SIZE_PX / 2) - SHIFT_PX
    return ((ideal_px - SHOULDER_PX) * np.array([1, -1]) * M_PER_PX).astype(np.float32)


def _background() -> NDArray[np.float32]:
    """What stands behind the arm (S, S), as grey values: curtain, folds, vignette, ceiling, body and head."""
    side = SIZE_PX * SAMPLES
    y, x = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    wobble = 0.4 * np.sin(5 * y + 1.0) + 0.2 * np.sin(11 * y)
    folds = sum(
        size * np.sin(2 * np.pi * f * x + phase + wobble)
        for size, f, phase in ((4.5, 7, 0.3), (3, 13, 2.0), (2, 23, 4.1))
    )
    curtain = 158 + 34 * np.cos(2.4 * (x - 0.62)) - 26 * (y - 0.35) + folds
    corner = np.clip(np.hypot(x - 0.5, y - 0.5) / 0.7071 - 0.55, 0, 1) / 0.45
    grey = curtain * (1 - 0.52 * corner**1.6)
    ceiling = y + 0.012 * np.sin(9 * x) < 6.2 / SIZE_PX
    grey = np.where(ceiling, 18 + 24 * x + 6 * np.sin(40 * x), grey)
    for cx, cy, rx, ry, shade in (
        (0.08, 0.62, 0.155, 0.30, 14.0),
        (0.10, 0.95, 0.12, 0.30, 22.0),
        (0.09, 0.245, 0.075, 0.085, 8.0),
        (0.105, 0.245, 0.045, 0.045, 92.0),
        (0.06, 0.56, 0.055, 0.10, 64.0),
        (0.13, 0.74, 0.03, 0.06, 118.0),
    ):
        inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        grey = np.where(inside, shade + 6 * np.sin(17 * x + 9 * y), grey)
    return np.clip(grey, 0, 255).astype(np.float32)


@njit(cache=True)
def _hash(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True)
def _gaussian(bits: np.uint64) -> np.float32:
    """About normal, from four 16-bit uniforms."""
    total = np.float32(0.0)
    for shift in range(0, 64, 16):
        total += np.float32((bits >> np.uint64(shift)) & np.uint64(0xFFFF))
    return (total / np.float32(65535.0) - np.float32(2.0)) * np.float32(1.7320508)


@njit(cache=True)
def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    return max(int(low), 0), min(int(high) + 1, limit)


@njit(fastmath=True, cache=True)
def _part(canvas, points, box, x0, y0, x1, y1, r0, r1, grey, edge):  # type: ignore[no-untyped-def]
    """A shaded tapered limb: point samples within `box` (top, bottom, left, right)."""
    dx, dy = x1 - x0, y1 - y0
    scale = 1.0 / max(dx * dx + dy * dy, 1e-9)
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            px, py = points[row, column, 0] - x0, points[row, column, 1] - y0
            along = min(max((px * dx + py * dy) * scale, 0.0), 1.0)
            radius = r0 + along * (r1 - r0)
            ex, ey = px - along * dx, py - along * dy
            if ex * ex + ey * ey < radius * radius:
                up = max(ey / radius, 0.0)
                canvas[row, column] = grey + edge * up * up * up * up


@njit(fastmath=True, cache=True)
def _card(canvas, points, box, x, y):  # type: ignore[no-untyped-def]
    """A tilted card a little brighter than what it hangs before."""
    cos, sin = np.cos(CARD_TILT_RAD), np.sin(CARD_TILT_RAD)
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            px, py = points[row, column, 0] - x, points[row, column, 1] - y
            if max(abs(cos * px + sin * py), abs(cos * py - sin * px)) < CARD_M:
                canvas[row, column] = min(max(canvas[row, column], 110.0) + CARD_BRIGHTER, 225.0)


@njit(fastmath=True, cache=True)
def _disc(canvas, points, box, x, y):  # type: ignore[no-untyped-def]
    """The target: a dark disc, lit a little from one side."""
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            px, py = points[row, column, 0] - x, points[row, column, 1] - y
            if px * px + py * py < TARGET_RADIUS_M * TARGET_RADIUS_M:
                canvas[row, column] = TARGET_GREY + 60.0 * px


@njit(cache=True)
def _develop(canvas, picture, gain, offset, seed):  # type: ignore[no-untyped-def]
    """Point samples → pixels: a box, a slight blur, exposure, noise and rounding."""
    size = picture.shape[0]
    boxed = np.zeros((size + 2, size + 2), np.float32)
    for row in range(size):
        for column in range(size):
            total = np.float32(0.0)
            for i in range(SAMPLES):
                for j in range(SAMPLES):
                    total += canvas[row * SAMPLES + i, column * SAMPLES + j]
            boxed[row + 1, column + 1] = total / (SAMPLES * SAMPLES)
    boxed[0], boxed[-1] = boxed[1], boxed[-2]
    boxed[:, 0], boxed[:, -1] = boxed[:, 1], boxed[:, -2]
    for row in range(size):
        for column in range(size):
            blurred = np.float32(0.0)
            for i in range(3):
                for j in range(3):
                    weight = (2.0 if i == 1 else 0.7) * (2.0 if j == 1 else 0.7)
                    blurred += weight / 11.56 * boxed[row + i, column + j]
            bits = _hash(seed + np.uint64(row * size + column + 1) * np.uint64(0x9E3779B97F4A7C15))
            grey = blurred * gain + offset + NOISE_GREY * _gaussian(bits)
            picture[row, column] = np.uint8(min(max(grey + 0.5, 0.0), 255.0))


@njit(parallel=True, cache=True)
def _photograph(joints_m, target_m, joints_px, target_px, seeds, points, background, parts, pictures):  # type: ignore[no-untyped-def]
    side = points.shape[0]
    for n in prange(len(pictures)):
        canvas = background.copy()
        # Boxes are made in the ideal frame; the camera's error stays within the margin.
        margin = (CARD_M * 1.5 / M_PER_PX + 5.0) * SAMPLES
        cx, cy = target_px[n, 0] * SAMPLES, target_px[n, 1] * SAMPLES
        rows, columns = _span(cy - margin, cy + margin, side), _span(cx - margin, cx + margin, side)
        near_target = (rows[0], rows[1], columns[0], columns[1])
        _card(canvas, points, near_target, target_m[n, 0], target_m[n, 1])
        for p in range(len(parts)):
            a, b = int(parts[p, 0]), int(parts[p, 1])
            margin = (max(parts[p, 2], parts[p, 3]) / M_PER_PX + 5.0) * SAMPLES
            ax, ay, bx, by = joints_px[n, a, 0], joints_px[n, a, 1], joints_px[n, b, 0], joints_px[n, b, 1]
            rows = _span(min(ay, by) * SAMPLES - margin, max(ay, by) * SAMPLES + margin, side)
            columns = _span(min(ax, bx) * SAMPLES - margin, max(ax, bx) * SAMPLES + margin, side)
            box = (rows[0], rows[1], columns[0], columns[1])
            x0, y0, x1, y1 = joints_m[n, a, 0], joints_m[n, a, 1], joints_m[n, b, 0], joints_m[n, b, 1]
            _part(canvas, points, box, x0, y0, x1, y1, parts[p, 2], parts[p, 3], parts[p, 4], parts[p, 5])
            if b == 3:
                length = max(np.hypot(x1 - x0, y1 - y0), 1e-6)
                ux, uy = (x1 - x0) / length, (y1 - y0) / length
                for f in (-1.0, 1.0):
                    ox, oy = -uy * f * _FINGER[2], ux * f * _FINGER[2]
                    fx0, fy0 = x1 + ux * _FINGER[0] + ox, y1 + uy * _FINGER[0] + oy
                    fx1, fy1 = x1 + ux * _FINGER[1] + ox, y1 + uy * _FINGER[1] + oy
                    _part(canvas, points, box, fx0, fy0, fx1, fy1, _FINGER[3], _FINGER[3], 20.0, 40.0)
        _disc(canvas, points, near_target, target_m[n, 0], target_m[n, 1])
        generator = _hash(seeds[n] + np.uint64(0x632BE59BD9B4E019))
        gain = GAIN[0] + (GAIN[1] - GAIN[0]) * (generator >> np.uint64(40)) / np.float64(1 << 24)
        generator = _hash(generator)
        offset = OFFSET_GREY[0] + (OFFSET_GREY[1] - OFFSET_GREY[0]) * (generator >> np.uint64(40)) / np.float64(1 << 24)
        _develop(canvas, pictures[n], gain, offset, seeds[n])


def _single(values: NDArray) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)


_POINTS_M = _sample_points_m()
_BACKGROUND = _background()


def draw(target_m: NDArray, joints_rad: NDArray, seeds: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Pictures (N, 84, 84) uint8 of targets (N, 2) and poses (N, 3); `seeds` (N,) decide exposure and noise."""
    points_m = planar_arm.forward(joints_rad)
    pictures = np.empty((len(joints_rad), SIZE_PX, SIZE_PX), np.uint8)
    _photograph(
        _single(points_m), _single(target_m), _single(to_px(points_m)), _single(to_px(target_m)),
        np.ascontiguousarray(seeds, np.uint64), _POINTS_M, _BACKGROUND, _PARTS, pictures,
    )  # fmt: skip
    return pictures


def labelled(
    count: int, seed: int, label_noise: bool, near: float = planar_arm.NEAR_SHARE
) -> tuple[NDArray[np.uint8], FloatArray]:
    """`count` pictures (N, 84, 84) of random scenes and their Θ (N, 5), as a robot would record them.

    A share `near` of the targets lies near the arm.
    With `label_noise` the labels err as those of a real recording would; without it they are the truth.
    """
    rng = np.random.default_rng(seed)
    target, joints = planar_arm.random_scenes(rng, count, near)
    pictures = draw(target, joints, rng.integers(2**63, size=count).astype(np.uint64))
    if label_noise:
        joints = joints + rng.normal(0, LABEL_NOISE_RAD, joints.shape)
        target = target + rng.normal(0, LABEL_NOISE_M, target.shape)
    return pictures, planar_arm.to_theta(target, joints)
