"""The bin as a MuJoCo model: a seven-joint arm with a parallel gripper, a tray on a table, objects.

Frame of the world: origin at the arm's base, x forward, z up, metres. Kinematics of the arm are those of the KUKA LBR
iiwa 14 (public dimensions), drawn with primitives; a weld to a mocap body drives it through Cartesian displacements.
"""

import mujoco
import numpy as np
from numpy.typing import NDArray

from handeye.envs.objects import Shape

LINKS: tuple[tuple[float, tuple[int, int, int], float], ...] = (
    (0.1575, (0, 0, 1), 2.967),
    (0.2025, (0, 1, 0), 2.094),
    (0.2045, (0, 0, 1), 2.967),
    (0.2155, (0, -1, 0), 2.094),
    (0.1845, (0, 0, 1), 2.967),
    (0.2155, (0, 1, 0), 2.094),
    (0.0810, (0, 0, 1), 3.054),
)
"""Of each joint: its height above the last one in the straight pose, its axis, its limit either way (rad)."""
LINK_RADIUS_M = (0.075, 0.07, 0.065, 0.06, 0.055, 0.05, 0.045)
FLANGE_M = 0.045
HOME_RAD = np.array([0.0, 0.47, 0.0, -1.75, 0.0, 0.92, 0.0])

TRAY_CENTRE_M = np.array([0.55, 0.0])
TRAY_HALF_M = 0.15
"""Inner half side of the square tray."""
WALL_HEIGHT_M = 0.06
WALL_HALF_M = 0.006
FLOOR_M = 0.01
"""Height of the tray's bottom: heights of gripper and objects count from here."""

PALM_M = 0.075
"""From the flange to the fingers' roots."""
FINGER_M = 0.07
FINGER_HALF_M = (0.009, 0.006)
"""Half breadth and half thickness of a finger."""
OPEN_M = 0.043
"""How far each finger opens from the middle."""
GRIP_N = 20.0
FINGER_FRICTION = 1.0

OFF_CENTRE_M = np.array([2e-4, 1e-4, 3e-4])

FOLLOW_OFFSET_M = np.array([0.40, 0.0, 0.42])
"""The camera that moves with the gripper's x and y: where it is from the tray's bottom below the fingertips.

It looks from opposite the robot: from the robot's side, the upper arm is at times in its way."""
FOLLOW_AIM_M = 0.03
"""Height of the point that it looks at."""
SHOULDER_M, SHOULDER_AIM_M = [0.14, -0.42, 0.62], [0.54, 0.0, 0.03]
FOVY_DEG = {"shoulder": 30.0, "follow": 26.0, "wrist": 70.0}
CAMERA_NAMES = ("shoulder", "wrist")
"""The model's own cameras, in its order; `follow` is placed anew for every picture."""
ORIGIN_M = np.array([*TRAY_CENTRE_M, FLOOR_M])
"""Origin of the tray's frame: the middle of its bottom."""
TABLE, TRAY = slice(0, 1), slice(1, 6)
"""Geoms of the table, and of the tray's bottom and walls."""

TINTS = (1.0, 0.8, 1.2)
"""Shades of an object's colour, a part each."""
ROLL_DAMPING = 1e-4
"""N m s (and N s/m, which is next to nothing)."""

SLEEP_M_S = 5e-3
"""An object slower than this, in metres and radians a second, falls asleep."""

ARM, OBJECT = 1, 2
"""Contact bits: the arm's links touch nothing, so that only hand and fingers feel the world."""


def build(shapes: list[Shape], timestep_s: float) -> mujoco.MjSpec:
    """A specification of the bin with these objects; compiled, all with the same kinds of parts have one layout."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    option = spec.option
    option.timestep, option.cone, option.impratio = timestep_s, mujoco.mjtCone.mjCONE_ELLIPTIC, 10
    spec.visual.headlight.active = 0
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # Objects at rest cost nothing until something touches them: a third of the time for all.
    option.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
    option.sleep_tolerance = SLEEP_M_S
    _surroundings(spec.worldbody)
    hand = _arm(spec.worldbody)
    _gripper(spec, hand)
    _drive(spec)
    for number, shape in enumerate(shapes):
        _object(spec.worldbody, number, shape)
    _senses(spec, len(shapes))
    return spec


def _geom(
    body: mujoco.MjsBody, kind: str, size: NDArray | list[float] | tuple[float, ...], **fields: object
) -> mujoco.MjsGeom:
    padded = np.zeros(3)
    padded[: len(size)] = size
    kinds = {
        "box": mujoco.mjtGeom.mjGEOM_BOX,
        "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
        "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
        "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    }
    return body.add_geom(type=kinds[kind], size=padded, **fields)


def axes_looking(eye: NDArray, aim: NDArray, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> NDArray:
    """Camera axes (N, 3, 3), as columns right, up and backwards, of cameras at (N, 3) that look at (N, 3).

    `up` is upwards in the picture.
    """
    back = eye - aim
    back = back / np.linalg.norm(back, axis=1, keepdims=True)
    right = np.cross(up, back)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(back, right), back], axis=2)


def _looking(eye: list[float], aim: list[float], up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> list[float]:
    """Orientation (w, x, y, z) of one such camera."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, axes_looking(np.array([eye]), np.array([aim]), up).ravel())
    return [float(value) for value in quat]


def _surroundings(world: mujoco.MjsBody) -> None:
    fixed = {"contype": ARM | OBJECT, "conaffinity": ARM | OBJECT}
    # From over the robot's shoulder, down into the tray.
    world.add_camera(
        name="shoulder", pos=SHOULDER_M, quat=_looking(SHOULDER_M, SHOULDER_AIM_M), fovy=FOVY_DEG["shoulder"]
    )
    # Light from far away costs the ray-caster the least.
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.3, -0.6, 1.6],
        dir=[0.15, 0.4, -1],
        diffuse=[0.55, 0.55, 0.55],
        ambient=[0.25, 0.25, 0.25],
        specular=[0.1, 0.1, 0.1],
    )
    world.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.9, 0.8, 1.4],
        dir=[-0.2, -0.6, -1],
        diffuse=[0.25, 0.25, 0.25],
        specular=[0, 0, 0],
    )
    x, y = TRAY_CENTRE_M
    _geom(world, "box", [0.45, 0.5, 0.02], name="table", pos=[0.55, 0, -0.02], rgba=[0.55, 0.45, 0.36, 1], **fixed)
    _geom(
        world,
        "box",
        [TRAY_HALF_M, TRAY_HALF_M, FLOOR_M / 2],
        name="floor",
        pos=[x, y, FLOOR_M / 2],
        rgba=[0.75, 0.75, 0.77, 1],
        **fixed,
    )
    out = TRAY_HALF_M + WALL_HALF_M
    for name, dx, dy in (("front", out, 0), ("back", -out, 0), ("left", 0, out), ("right", 0, -out)):
        half = [WALL_HALF_M, out + WALL_HALF_M] if dx else [out + WALL_HALF_M, WALL_HALF_M]
        height = (FLOOR_M + WALL_HEIGHT_M) / 2
        _geom(
            world,
            "box",
            [*half, height],
            name=f"wall_{name}",
            pos=[x + dx, y + dy, height],
            rgba=[0.62, 0.63, 0.66, 1],
            # Soft as others are, they let through what the gripper presses against them.
            solref=[0.008, 1],
            solmix=1000,
            **fixed,
        )


def _arm(world: mujoco.MjsBody) -> mujoco.MjsBody:
    """The seven links; the last one."""
    base = world.add_body(name="base", gravcomp=1)
    _geom(base, "cylinder", [0.09, 0.07], pos=[0, 0, 0.07], rgba=[0.2, 0.2, 0.22, 1], contype=0, conaffinity=0)
    body = base
    lengths = [height for height, _, _ in LINKS[1:]] + [FLANGE_M]
    for number, ((height, axis, limit), length, radius) in enumerate(zip(LINKS, lengths, LINK_RADIUS_M, strict=True)):
        body = body.add_body(name=f"link{number + 1}", pos=[0, 0, height], gravcomp=1)
        body.add_joint(
            name=f"joint{number + 1}", axis=list(axis), range=[-limit, limit], limited=True, damping=8, armature=0.1
        )
        grey = [0.93, 0.48, 0.2, 1] if number % 2 else [0.85, 0.85, 0.87, 1]
        _geom(
            body, "capsule", [radius, length / 2], pos=[0, 0, length / 2], rgba=grey, mass=1.5, contype=0, conaffinity=0
        )
    return body


def _gripper(spec: mujoco.MjSpec, link: mujoco.MjsBody) -> None:
    hand = link.add_body(name="hand", pos=[0, 0, FLANGE_M], gravcomp=1)
    touching = {"contype": OBJECT, "conaffinity": OBJECT}
    _geom(
        hand,
        "box",
        [0.02, 0.055, PALM_M / 2 - 0.005],
        pos=[0, 0, PALM_M / 2],
        rgba=[0.25, 0.25, 0.28, 1],
        mass=0.5,
        **touching,
    )
    hand.add_camera(
        name="wrist",
        pos=[0.09, 0, 0.0],
        quat=_looking([0.09, 0, 0], [0.0, 0, PALM_M + FINGER_M + 0.02], up=(1.0, 0.0, 0.0)),
        fovy=FOVY_DEG["wrist"],
    )
    hand.add_site(name="tip", pos=[0, 0, PALM_M + FINGER_M])
    breadth, thick = FINGER_HALF_M
    for name, side in (("left", 1), ("right", -1)):
        finger = hand.add_body(name=f"finger_{name}", pos=[0, side * thick, PALM_M], gravcomp=1)
        finger.add_joint(
            name=f"finger_{name}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, side, 0],
            range=[0, OPEN_M],
            limited=True,
            damping=15,
            armature=0.02,
        )
        _geom(
            finger, "box", [breadth, thick, FINGER_M / 2], name=f"pad_{name}", pos=[0, 0, FINGER_M / 2],
            rgba=[0.12, 0.12, 0.13, 1], mass=0.08,
            friction=[FINGER_FRICTION, 0.02, 0.0005], condim=4, solref=[0.008, 1], **touching,
        )  # fmt: skip
        actuator = spec.add_actuator(name=f"grip_{name}", target=f"finger_{name}", trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=900)
        actuator.forcerange, actuator.forcelimited = [-GRIP_N, GRIP_N], True
        actuator.ctrlrange, actuator.ctrllimited = [0, OPEN_M], True


def _drive(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_body(name="goal", mocap=True)
    weld = spec.add_equality(type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY, name1="goal", name2="hand")
    weld.data[:11] = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    weld.solref = [0.02, 1]


def _object(world: mujoco.MjsBody, number: int, shape: Shape) -> None:
    body = world.add_body(name=f"object{number}", pos=[TRAY_CENTRE_M[0], TRAY_CENTRE_M[1], 0.1 + 0.1 * number])
    # Without it round things roll for ever. Between 0.01 and 0.1 kg, it slows a turn within a second and no fall.
    body.add_joint(name=f"object{number}", type=mujoco.mjtJoint.mjJNT_FREE, damping=ROLL_DAMPING)
    for tint, part in zip(TINTS, shape.parts, strict=True):
        shade = np.clip(np.array(shape.rgb) * tint, 0, 1)
        # MuJoCo stores less for a body whose mass is centred; off by this much, all have one layout.
        place = np.array(part.pos_m) + OFF_CENTRE_M
        _geom(
            body, part.kind, part.size_m, pos=list(place), quat=list(part.quat), rgba=[*shade, 1],
            density=shape.density_kg_m3, friction=[shape.friction, 0.01, 0.0005], condim=4, contype=OBJECT,
            conaffinity=OBJECT,
        )  # fmt: skip


def _senses(spec: mujoco.MjSpec, objects: int) -> None:
    """The fingertips' place; how hard each object is pressed by each finger; what touches tray or table.

    The latter for each object, then for each finger.
    """
    spec.add_sensor(name="tip", type=mujoco.mjtSensor.mjSENS_FRAMEPOS, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="tip")
    geom, body = mujoco.mjtObj.mjOBJ_GEOM, mujoco.mjtObj.mjOBJ_BODY
    names, pads = [f"object{number}" for number in range(objects)], ("pad_left", "pad_right")
    pairs = [(geom, pad, name) for name in names for pad in pads]
    pairs += [(body, name, "world") for name in names] + [(geom, pad, "world") for pad in pads]
    for kind, name, other in pairs:
        sensor = spec.add_sensor(
            name=f"{name}_{other}", type=mujoco.mjtSensor.mjSENS_CONTACT, objtype=kind, objname=name, reftype=body,
            refname=other,
        )  # fmt: skip
        sensor.intprm[:3] = [1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 3, 1]
