"""Procedural objects to grasp: compounds of up to three primitives, endless and seeded.

An object is drawn from a slot. A slot fixes the kinds of the three primitives, since simulations that run as one
batch may differ in sizes, places and colours, but not in kinds. Frame of a shape: origin at the middle of its
bounding box, in metres.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "heldout")
KINDS = (
    ("box", "box", "box"),
    ("cylinder", "cylinder", "box"),
    ("capsule", "capsule", "capsule"),
    ("ellipsoid", "capsule", "ellipsoid"),
    ("box", "cylinder", "ellipsoid"),
)
"""Kinds of the three primitives of each slot."""
SLOTS, PARTS = len(KINDS), len(KINDS[0])

DENSITY_KG_M3 = (250.0, 900.0)
FRICTION = (0.7, 1.2)
"""Sliding friction of objects."""

Rng = np.random.Generator


@dataclass(frozen=True)
class Part:
    """A primitive: MuJoCo's half sizes in metres, place and orientation (w, x, y, z) in the shape's frame."""

    kind: str
    size_m: tuple[float, ...]
    pos_m: tuple[float, ...]
    quat: tuple[float, ...]


@dataclass(frozen=True)
class Shape:
    """An object: its family, primitives and material."""

    family: str
    parts: tuple[Part, ...]
    rgb: tuple[float, float, float]
    density_kg_m3: float
    friction: float


def draw_shape(split: str, slot: int, index: int) -> Shape:
    """Object number `index` of a slot and split; the same numbers give the same object.

    The split is part of the seed, so that no object of one is among those of the other.
    """
    rng = np.random.default_rng([SPLITS.index(split), slot, index])
    families = FAMILIES[slot]
    family = list(families)[rng.integers(len(families))]
    parts = tuple(
        Part(kind, tuple(size), tuple(pos), tuple(quat))
        for kind, (size, pos, quat) in zip(KINDS[slot], _centred(families[family](rng), KINDS[slot]), strict=True)
    )
    return Shape(family, parts, _colour(rng), float(rng.uniform(*DENSITY_KG_M3)), float(rng.uniform(*FRICTION)))


Placed = tuple[list[float], list[float], list[float]]
"""Half sizes, place and orientation of a primitive."""
UPRIGHT = [1.0, 0.0, 0.0, 0.0]


def _about(axis: int, angle_rad: float) -> list[float]:
    quat = [np.cos(angle_rad / 2), 0.0, 0.0, 0.0]
    quat[1 + axis] = np.sin(angle_rad / 2)
    return [float(value) for value in quat]


LYING = _about(1, np.pi / 2)
"""Long axis along x."""


def _bar(rng: Rng) -> tuple[float, float, float]:
    """Half length, half width and half height of a bar that the gripper can span."""
    return rng.uniform(0.03, 0.055), rng.uniform(0.009, 0.018), rng.uniform(0.009, 0.018)


def _block(rng: Rng) -> list[Placed]:
    a, b, c = rng.uniform(0.016, 0.03), rng.uniform(0.016, 0.03), rng.uniform(0.016, 0.03)
    lid = rng.uniform(0.4, 0.8)
    return [
        ([a, b, c], [0, 0, 0], UPRIGHT),
        ([a * lid, b * lid, 0.006], [0, 0, c], UPRIGHT),
        ([a * lid, b * lid, 0.006], [0, 0, -c], UPRIGHT),
    ]


def _l(rng: Rng) -> list[Placed]:
    a, b, c = _bar(rng)
    d = rng.uniform(0.02, 0.04)
    return [
        ([a, b, c], [0, 0, 0], UPRIGHT),
        ([b, d, c], [a - b, d - b, 0], UPRIGHT),
        ([b, b, c], [a - b, 0, 0], UPRIGHT),
    ]


def _t(rng: Rng) -> list[Placed]:
    a, b, c = _bar(rng)
    d = rng.uniform(0.02, 0.04)
    return [([a, b, c], [0, 0, 0], UPRIGHT), ([b, d, c], [0, d, 0], UPRIGHT), ([b, b, c], [0, 0, 0], UPRIGHT)]


def _cross(rng: Rng) -> list[Placed]:
    a, b, c = _bar(rng)
    d = rng.uniform(0.025, a)
    return [([a, b, c], [0, 0, 0], UPRIGHT), ([b, d, c], [0, 0, 0], UPRIGHT), ([b, b, c * 1.4], [0, 0, 0], UPRIGHT)]


def _u(rng: Rng) -> list[Placed]:
    a, b, c = _bar(rng)
    d = rng.uniform(0.015, 0.03)
    return [([a, b, c], [0, 0, 0], UPRIGHT), ([b, d, c], [a - b, d, 0], UPRIGHT), ([b, d, c], [b - a, d, 0], UPRIGHT)]


def _mug(rng: Rng) -> list[Placed]:
    r, h = rng.uniform(0.018, 0.027), rng.uniform(0.022, 0.035)
    return [
        ([r, h, 0], [0, 0, 0], UPRIGHT),
        ([r * 1.15, 0.004, 0], [0, 0, -h], UPRIGHT),
        ([0.008, 0.005, h * 0.6], [r + 0.006, 0, 0], UPRIGHT),
    ]


def _wheels(rng: Rng) -> list[Placed]:
    r, w = rng.uniform(0.018, 0.028), rng.uniform(0.005, 0.01)
    a = rng.uniform(0.022, 0.04)
    s = rng.uniform(0.008, 0.013)
    return [([r, w, 0], [a, 0, 0], LYING), ([r, w, 0], [-a, 0, 0], LYING), ([a, s, s], [0, 0, 0], UPRIGHT)]


def _tin(rng: Rng) -> list[Placed]:
    r, h = rng.uniform(0.016, 0.028), rng.uniform(0.018, 0.035)
    return [
        ([r, h, 0], [0, 0, 0], UPRIGHT),
        ([r * 0.6, 0.006, 0], [0, 0, h], UPRIGHT),
        ([r * 0.4, r * 0.4, 0.008], [0, 0, -h], UPRIGHT),
    ]


def _rod(rng: Rng) -> list[Placed]:
    r, a = rng.uniform(0.01, 0.016), rng.uniform(0.03, 0.055)
    return [
        ([r, a, 0], [0, 0, 0], LYING),
        ([r * 1.4, 0.008, 0], [a * 0.5, 0, 0], LYING),
        ([r, r, r], [-a, 0, 0], UPRIGHT),
    ]


def _stick(rng: Rng) -> list[Placed]:
    r, a = rng.uniform(0.01, 0.017), rng.uniform(0.025, 0.045)
    bend = rng.uniform(0, 0.9)
    return [
        ([r, a, 0], [0, 0, 0], LYING),
        ([r, 0.012, 0], [a, 0.01, 0], _about(0, bend)),
        ([r * 1.2, 0.004, 0], [-a, 0, 0], LYING),
    ]


def _fork(rng: Rng) -> list[Placed]:
    r, a = rng.uniform(0.009, 0.013), rng.uniform(0.022, 0.036)
    turn = rng.uniform(0.4, 0.9)
    x, y = a * np.cos(turn), a * np.sin(turn)
    lie = lambda angle: _times(_about(2, angle), LYING)  # noqa: E731
    return [([r, a, 0], [-a, 0, 0], LYING), ([r, a, 0], [x, y, 0], lie(turn)), ([r, a, 0], [x, -y, 0], lie(-turn))]


def _triangle(rng: Rng) -> list[Placed]:
    r, a = rng.uniform(0.009, 0.012), rng.uniform(0.02, 0.03)
    placed: list[Placed] = []
    for k in range(3):
        angle = 2 * np.pi * k / 3
        middle = [a / np.sqrt(3) * np.sin(angle), -a / np.sqrt(3) * np.cos(angle), 0.0]
        placed.append(([r, a, 0], middle, _times(_about(2, angle), LYING)))
    return placed


def _dumbbell(rng: Rng) -> list[Placed]:
    r, a = rng.uniform(0.015, 0.024), rng.uniform(0.024, 0.04)
    s = rng.uniform(0.8, 1.2)
    return [
        ([r * s, r, r], [a, 0, 0], UPRIGHT),
        ([0.009, a, 0], [0, 0, 0], LYING),
        ([r, r * s, r], [-a, 0, 0], UPRIGHT),
    ]


def _mushroom(rng: Rng) -> list[Placed]:
    r, a = rng.uniform(0.022, 0.032), rng.uniform(0.015, 0.028)
    return [
        ([r, r, r * 0.5], [0, 0, a], UPRIGHT),
        ([rng.uniform(0.009, 0.014), a, 0], [0, 0, 0], UPRIGHT),
        ([0.013, 0.013, 0.01], [0, 0, -a], UPRIGHT),
    ]


def _egg(rng: Rng) -> list[Placed]:
    a, b, c = rng.uniform(0.025, 0.045), rng.uniform(0.017, 0.028), rng.uniform(0.015, 0.025)
    return [
        ([a, b, c], [0, 0, 0], UPRIGHT),
        ([0.008, a * 0.8, 0], [0, 0, 0], LYING),
        ([c, c, c], [a * 0.4, 0, 0], UPRIGHT),
    ]


def _hammer(rng: Rng) -> list[Placed]:
    a = rng.uniform(0.035, 0.055)
    return [
        ([0.014, rng.uniform(0.02, 0.035), 0.014], [a, 0, 0], UPRIGHT),
        ([rng.uniform(0.009, 0.014), a, 0], [0, 0, 0], LYING),
        ([0.012, 0.014, 0.012], [-a, 0, 0], UPRIGHT),
    ]


def _bottle(rng: Rng) -> list[Placed]:
    r, h = rng.uniform(0.017, 0.026), rng.uniform(0.02, 0.035)
    return [
        ([r, r, 0.005], [0, 0, -h], UPRIGHT),
        ([r, h, 0], [0, 0, 0], UPRIGHT),
        ([r * 0.6, r * 0.6, r], [0, 0, h], UPRIGHT),
    ]


def _lamp(rng: Rng) -> list[Placed]:
    a, h = rng.uniform(0.02, 0.03), rng.uniform(0.015, 0.03)
    return [
        ([a, a, 0.006], [0, 0, -h], UPRIGHT),
        ([0.009, h, 0], [0, 0, 0], UPRIGHT),
        ([a * 0.9, a * 0.9, 0.012], [0, 0, h], UPRIGHT),
    ]


FAMILIES: tuple[dict[str, Callable[[Rng], list[Placed]]], ...] = (
    {"block": _block, "L": _l, "T": _t, "cross": _cross, "U": _u},
    {"mug": _mug, "wheels": _wheels, "tin": _tin, "rod": _rod},
    {"stick": _stick, "fork": _fork, "triangle": _triangle},
    {"dumbbell": _dumbbell, "mushroom": _mushroom, "egg": _egg},
    {"hammer": _hammer, "bottle": _bottle, "lamp": _lamp},
)
"""Families of each slot."""
FAMILY_NAMES = tuple(name for slot in FAMILIES for name in slot)


def _times(left: list[float], right: list[float]) -> list[float]:
    """Product of quaternions: first `right`, then `left`."""
    w, x, y, z = left
    a, b, c, d = right
    return [
        float(value)
        for value in (w * a - x * b - y * c - z * d, w * b + x * a + y * d - z * c,
                      w * c - x * d + y * a + z * b, w * d + x * c - y * b + z * a)
    ]  # fmt: skip


def rotation(quat: tuple[float, ...] | list[float]) -> NDArray:
    """Rotation matrix (3, 3) of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quat
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def half_extent(kind: str, size_m: tuple[float, ...] | list[float], quat: tuple[float, ...] | list[float]) -> NDArray:
    """Half sides (3,) of a primitive's bounding box in the shape's frame."""
    turn = np.abs(rotation(quat))
    if kind == "box":
        return turn @ np.array(size_m)
    if kind == "ellipsoid":
        return np.sqrt(turn**2 @ np.array(size_m) ** 2)
    radius, half = size_m[:2]
    axis = turn[:, 2]
    if kind == "capsule":
        return half * axis + radius
    return half * axis + radius * np.sqrt(np.maximum(1 - axis**2, 0))


def _centred(placed: list[Placed], kinds: tuple[str, ...]) -> list[Placed]:
    """The same with the origin in the middle of the bounding box."""
    half = np.array([half_extent(kind, size, quat) for kind, (size, _, quat) in zip(kinds, placed, strict=True)])
    middle = np.array([pos for _, pos, _ in placed])
    centre = ((middle - half).min(0) + (middle + half).max(0)) / 2
    return [(size, [float(v) for v in np.array(pos) - centre], quat) for size, pos, quat in placed]


def bounds_m(shape: Shape) -> NDArray:
    """Half sides (3,) of a shape's bounding box."""
    reach = [half_extent(part.kind, part.size_m, part.quat) + np.abs(part.pos_m) for part in shape.parts]
    return np.array(reach).max(0)


def _colour(rng: Rng) -> tuple[float, float, float]:
    """A saturated colour, unlike the tray's grey."""
    hue, saturation, value = rng.random(), rng.uniform(0.55, 1), rng.uniform(0.5, 1)
    channel = [
        (np.clip(abs((6 * hue + shift) % 6 - 3) - 1, 0, 1) * saturation + 1 - saturation) * value for shift in (0, 4, 2)
    ]
    return tuple(float(c) for c in channel)  # type: ignore[return-value]
