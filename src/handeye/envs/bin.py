"""Many bins at once: settled scenes, and the gripper moved by Cartesian displacements. Physics only, no pictures.

Frame of positions: the middle of the tray's bottom, x forward, y left, z up, metres.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from handeye.envs import scene
from handeye.envs.bin_config import BinConfig
from handeye.envs.objects import SLOTS, Shape, bounds_m, draw_shape
from handeye.envs.scene import ORIGIN_M

ARM_JOINTS, FINGERS = 7, 2
FIRST = ARM_JOINTS + FINGERS
"""Where the objects begin in qpos."""
SETTLE_S, SETTLE_MOST = 0.1, 30
"""Objects are let fall until all are asleep, looked at after each so many seconds, so many times."""
FREE_FALL, BRAKE = 3, 0.3
"""After so many looks their speeds are cut to this part at each, or round things would roll for long."""
TRIES = 50
PLACES, GAP_M = 8, 0.003
"""Places tried for each object, of which the lowest is taken; the air left between objects."""
EASE_S = 0.4
"""Simulated time in which a gripper goes to an easier start."""
FASTEST, LOST_M = 1000.0, 0.6
"""Speed (m/s, rad/s) of any joint, and distance of any object from the tray, beyond which a simulation has diverged."""

ASTRAY_M, FORCED_M = 0.03, 0.004
"""A gripper is jammed further than this from where it was sent, and a finger that something keeps this far from it."""


@dataclass(frozen=True)
class Placement:
    """A settled scene: its model, all joint positions, the gripper's pose (x, y, z, yaw)."""

    model: mujoco.MjModel
    shapes: list[Shape]
    qpos: NDArray
    gripper: NDArray


class Bin:
    """N bins. `gripper` (N, 4) is where the fingertips were last sent: x, y, z, yaw; `closed` (N,)."""

    def __init__(self, worlds: int, config: BinConfig, threads: int = 0) -> None:
        self.config, self.worlds = config, worlds
        self.scenes: dict[int, tuple[mujoco.MjModel, list[Shape]]] = {}
        self.kept: dict[tuple[int, int], Placement] = {}
        first, _ = self.scene(0)
        # Only a persistent batch lets objects sleep.
        self.batch = Batch(first, worlds, threads, persistent=True)
        self.models = [first] * worlds
        self.shapes: list[list[Shape]] = [[]] * worlds
        self.qpos, self.qvel, self.time = (self.batch.bind(name) for name in ("qpos", "qvel", "time"))
        self.mocap_pos, self.mocap_quat = self.batch.bind("mocap_pos"), self.batch.bind("mocap_quat")
        self.geom_pos, self.geom_mat = self.batch.bind("geom_xpos"), self.batch.bind("geom_xmat")
        self.cam_pos, self.cam_mat = self.batch.bind("cam_xpos"), self.batch.bind("cam_xmat")
        self.ctrl, self.sensors = self.batch.bind("ctrl"), self.batch.bind("sensordata")
        self.gripper, self.closed = np.zeros((worlds, 4)), np.zeros(worlds, bool)
        self.rest_m = np.zeros((worlds, config.objects))
        """Height of each object (N, objects) when the episode began."""
        self.ease = 1.0
        """From 0, easy, to 1, as configured: how episodes that begin from now on are placed."""
        self.diverged = np.zeros(worlds, bool)
        """Whether a world (N,) moves as no world does: such a step is nobody's fault and teaches nothing."""

    def scene(self, number: int) -> tuple[mujoco.MjModel, list[Shape]]:
        """Model and objects of a scene; compiled once."""
        if number not in self.scenes:
            first = number * ((self.config.objects - 1) // SLOTS + 1)
            shapes = [draw_shape(self.config.split, k % SLOTS, first + k // SLOTS) for k in range(self.config.objects)]
            self.scenes[number] = scene.build(shapes, self.config.timestep_s).compile(), shapes
        return self.scenes[number]

    def placement(self, number: int, which: int) -> Placement:
        """Settled placement `which` of a scene; settled once, the same for the same numbers.

        Raises: RuntimeError if no attempt of many leaves all objects in the tray.
        """
        if (number, which) not in self.kept:
            model, shapes = self.scene(number)
            stored = stored_placements(self.config)
            settled = self.settle(number, which) if stored is None else stored[number, which]
            qpos, gripper = np.split(settled.astype(np.float64), [model.nq])
            self.kept[number, which] = Placement(model, shapes, qpos, gripper)
        return self.kept[number, which]

    def settle(self, number: int, which: int) -> NDArray[np.float32]:
        """Joint positions and gripper pose of a placement, simulated."""
        model, shapes = self.scene(number)
        rng = np.random.default_rng([number, which])
        for _ in range(TRIES):
            found = _settled(model, shapes, self.config, rng)
            if found is not None:
                # In single precision, as placements are stored.
                return np.concatenate(found).astype(np.float32)
        raise RuntimeError(f"objects of scene {number} did not come to rest in the tray in {TRIES} attempts")

    def reset(self, ids: NDArray, rngs: list[np.random.Generator]) -> None:
        """Put settled scenes into worlds `ids`, chosen by their generators."""
        self.put(ids, [self._chosen(rng) for rng in rngs])

    def put(self, ids: NDArray, chosen: list[Placement]) -> None:
        """Put these settled scenes into worlds `ids`."""
        for i, place in zip(ids, chosen, strict=True):
            self.models[i], self.shapes[i] = place.model, place.shapes
        self.batch.set_models(self.models)
        self.batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self.qpos[ids] = [place.qpos for place in chosen]
        self.gripper[ids], self.closed[ids] = [place.gripper for place in chosen], False
        pos, quat, ctrl = self._commands(ids)
        self.mocap_pos[ids], self.mocap_quat[ids], self.ctrl[ids] = pos[:, None], quat[:, None], ctrl
        self.batch.forward(ids)
        if self.ease < 1:
            self.glide(ids, self._easier(ids), EASE_S)
        self.rest_m[ids], self.diverged[ids] = self.objects_m[ids, :, 2], False

    def _chosen(self, rng: np.random.Generator) -> Placement:
        """Objects as in a random placement of a random scene, the arm as in another: so hardly any episode begins like
        one before. More often, the easier it is to be, the placement that stands clearest."""
        number, which = self._any(rng)
        if self.ease < 1 and rng.random() >= self.ease:
            kept = [self.placement(number, k).qpos[FIRST:].reshape(1, -1, 7) for k in range(self.config.placements)]
            which = int(np.argmax([clearance_m(q[..., :2] - ORIGIN_M[:2]).mean() for q in kept]))
        arm, place = self.placement(*self._any(rng)), self.placement(number, which)
        return replace(place, qpos=np.concatenate([arm.qpos[:FIRST], place.qpos[FIRST:]]), gripper=arm.gripper)

    def _any(self, rng: np.random.Generator) -> tuple[int, int]:
        """Numbers of a random scene and of a placement of it."""
        return int(rng.integers(self.config.models)), int(rng.integers(self.config.placements))

    def _easier(self, ids: NDArray) -> NDArray:
        """Starts (n, 4) part of the way from those configured to just above the objects that stand clearest."""
        place, easy = self.objects_m[ids], self.gripper[ids].copy()
        clearest = clearance_m(place[..., :2]).argmax(1)
        reach = self.config.reach_m
        easy[:, :2] = np.clip(place[np.arange(len(ids)), clearest, :2], -reach, reach)
        radius = np.array([[np.linalg.norm(bounds_m(shape)) for shape in self.shapes[i]] for i in ids])
        clear = (place[..., 2] + radius).max(1) + GAP_M
        easy[:, 2] = np.minimum(np.maximum(self.config.easy_start_m, clear), easy[:, 2])
        return easy + self.ease * (self.gripper[ids] - easy)

    @property
    def objects_m(self) -> NDArray:
        """Where the objects (N, objects, 3) are."""
        return self.qpos[:, FIRST:].reshape(self.worlds, -1, 7)[..., :3] - ORIGIN_M

    @property
    def risen_m(self) -> NDArray:
        """How far above where it lay each object (N, objects) is."""
        return self.objects_m[..., 2] - self.rest_m

    @property
    def tip_m(self) -> NDArray:
        """Where the fingertips (N, 3) are."""
        return self.sensors[:, :3] - ORIGIN_M

    @property
    def aperture(self) -> NDArray:
        """How far the fingers are open (N,), 0 … 1."""
        return self.qpos[:, ARM_JOINTS:FIRST].mean(1) / scene.OPEN_M

    @property
    def pressed(self) -> NDArray:
        """Contacts (N, objects, 2) between each object and each finger."""
        count = self.config.objects
        return self.sensors[:, 3 : 3 + 2 * count].reshape(self.worlds, count, 2)

    @property
    def leaning(self) -> NDArray[np.bool_]:
        """Whether each object (N, objects) touches tray or table."""
        count = self.config.objects
        return self.sensors[:, 3 + 2 * count : 3 + 3 * count] > 0

    @property
    def jammed(self) -> NDArray[np.bool_]:
        """Whether tray or table keep an empty gripper's fingers (N,) from where they should be, or it is far astray."""
        astray = np.linalg.norm(self.tip_m - self.gripper[:, :3], axis=1) > ASTRAY_M
        held = self.pressed.min(-1) > 0
        off = np.abs(self.qpos[:, ARM_JOINTS:FIRST] - _fingers(self.closed)) > FORCED_M
        touching = self.sensors[:, 3 + 3 * self.config.objects :] > 0
        return astray | (~held.any(1) & (off & touching).any(1))

    def step(self, ids: NDArray, move: NDArray, closed: NDArray) -> None:
        """Send the gripper by `move` (n, 4: x, y, z in metres, yaw in rad), fingers first, and simulate `step_s`.

        The gripper is sent no further than the configured limits.
        """
        config = self.config
        before, change = self.gripper[ids].copy(), closed != self.closed[ids]
        goal = before + move
        low = np.array([-config.reach_m, -config.reach_m, config.lowest_m, -np.inf])
        high = np.array([config.reach_m, config.reach_m, config.highest_m, np.inf])
        self.gripper[ids], self.closed[ids] = np.clip(goal, low, high), closed
        substeps = round(config.step_s / config.timestep_s)
        time = np.arange(1, substeps + 1) / substeps
        begin = np.where(change, config.grip_s / config.step_s, 0.0)[:, None]
        # The arm arrives a little before the end, so that it is where the picture shows it.
        share = np.clip((time - begin) / ((1 - begin) * 0.8), 0, 1)[..., None]
        path = before[:, None] + share * (self.gripper[ids] - before)[:, None]
        self.drive(ids, path, closed)

    def glide(self, ids: NDArray, goal: NDArray, seconds: float) -> None:
        """Send the grippers to `goal` (n, 4), starting and stopping softly, wherever that is."""
        substeps = round(seconds / self.config.timestep_s)
        share = (1 - np.cos(np.pi * np.arange(1, substeps + 1) / substeps)) / 2
        start = self.gripper[ids]
        self.gripper[ids] = goal
        self.drive(ids, start[:, None] + share[:, None] * (goal - start)[:, None], self.closed[ids])

    def drive(self, ids: NDArray, path: NDArray, closed: NDArray) -> None:
        """Simulate T time steps with the gripper sent along `path` (n, T, 4) and the fingers `closed` (n,)."""
        substeps = path.shape[1]
        pos, quat = _hand_pose(path.reshape(-1, 4))
        control = np.concatenate([_fingers(np.repeat(closed, substeps)), pos, quat], axis=1)
        due = self.time[ids] + (substeps - 0.5) * self.config.timestep_s
        self.batch.rollout(substeps, control.reshape(len(ids), substeps, -1), CONTROLS, record=(), ids=ids)
        self.batch.forward(ids)
        # MuJoCo starts a simulation that went wrong anew, which its clock tells.
        speed = np.abs(self.qvel[ids]).max(1)
        self.diverged[ids] = (
            (self.time[ids] < due) | ~(speed < FASTEST) | (np.abs(self.objects_m[ids, :, :2]) > LOST_M).any((1, 2))
        )

    def keep(self, ids: NDArray) -> list[NDArray]:
        """What these worlds are now, for `restore`."""
        return [field[ids].copy() for field in self._fields()]

    def restore(self, ids: NDArray, kept: list[NDArray]) -> None:
        """Make these worlds again what they were."""
        for field, values in zip(self._fields(), kept, strict=True):
            field[ids] = values
        self.batch.forward(ids)

    def _fields(self) -> tuple[NDArray, ...]:
        physics = (self.qpos, self.qvel, self.time, self.ctrl, self.mocap_pos, self.mocap_quat)
        return *physics, self.gripper, self.closed, self.diverged

    def _commands(self, ids: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        return *_hand_pose(self.gripper[ids]), _fingers(self.closed[ids])


STATE = mujoco.mjtState
CONTROLS = int(STATE.mjSTATE_CTRL | STATE.mjSTATE_MOCAP_POS | STATE.mjSTATE_MOCAP_QUAT)


STORED_SEPARATELY = ("step_s", "grip_s", "reach_m", "lowest_m", "highest_m", "easy_start_m")
"""Fields that do not change where objects lie."""


@cache
def stored_placements(config: BinConfig) -> NDArray[np.float32] | None:
    """Joint positions and gripper poses (models, placements, nq + 4) of a world that is stored; None if it is not."""
    with np.load(str(resources.files("handeye.envs") / "placements.npz")) as stored:
        return stored[config.split] if _key(config) == stored[config.split + "_world"].item() else None


def _key(config: BinConfig) -> str:
    fields = {name: value for name, value in asdict(config).items() if name not in STORED_SEPARATELY}
    return json.dumps(fields, sort_keys=True)


def store_placements(path: str, configs: list[BinConfig]) -> None:
    """Settle all placements of some worlds and store them. What is stored before is not read."""
    arrays: dict[str, Any] = {}
    for config in configs:
        world = Bin(1, config)
        each = [[world.settle(n, k) for k in range(config.placements)] for n in range(config.models)]
        arrays |= {config.split: np.array(each), config.split + "_world": _key(config)}
    np.savez_compressed(path, **arrays)


def _hand_pose(gripper: NDArray) -> tuple[NDArray, NDArray]:
    """Place (n, 3) and orientation (n, 4) in the world of the hand whose fingertips are at (n, 4)."""
    half = gripper[:, 3] / 2
    zero = np.zeros_like(half)
    # A turn about z, after the half turn about y that points the hand down.
    quat = np.stack([zero, -np.sin(half), np.cos(half), zero], axis=1)
    return gripper[:, :3] + ORIGIN_M + [0, 0, scene.PALM_M + scene.FINGER_M], quat


def clearance_m(place_m: NDArray) -> NDArray:
    """How far each object (n, objects) is from the nearest other and from the walls, of places (n, objects, 2)."""
    apart = np.linalg.norm(place_m[:, :, None] - place_m[:, None], axis=-1) + 9 * np.eye(place_m.shape[1])
    return np.minimum(apart.min(-1), scene.TRAY_HALF_M - np.abs(place_m).max(-1))


def _fingers(closed: NDArray) -> NDArray:
    return np.repeat(np.where(closed, 0.0, scene.OPEN_M)[:, None], FINGERS, axis=1)


def _settled(
    model: mujoco.MjModel, shapes: list[Shape], config: BinConfig, rng: np.random.Generator
) -> tuple[NDArray, NDArray] | None:
    """Joint positions and gripper pose after objects fell from random places; None if one left or none came to rest."""
    data = mujoco.MjData(model)
    offset = rng.uniform(-config.start_offset_m, config.start_offset_m, 2)
    gripper = np.array([*offset, rng.uniform(*config.start_m), rng.uniform(-np.pi / 2, np.pi / 2)])
    pos, quat = _hand_pose(gripper[None])
    data.mocap_pos[0], data.mocap_quat[0], data.ctrl[:] = pos[0], quat[0], scene.OPEN_M
    data.qpos[:ARM_JOINTS], data.qpos[ARM_JOINTS:FIRST] = scene.HOME_RAD, scene.OPEN_M
    data.qpos[FIRST:] = _dropped(shapes, config.spread_m, rng).ravel()
    for look in range(SETTLE_MOST):
        mujoco.mj_step(model, data, round(SETTLE_S / config.timestep_s))
        place = data.qpos[FIRST:].reshape(-1, 7)[:, :3] - ORIGIN_M
        if (np.abs(place[:, :2]) > scene.TRAY_HALF_M).any() or (place[:, 2] < 0).any():
            return None
        # What sleeps does not move at all.
        if not data.qvel[FIRST:].any():
            return data.qpos.copy(), gripper
        data.qvel[FIRST:] *= BRAKE if look >= FREE_FALL else 1.0
    return None


def _dropped(shapes: list[Shape], spread_m: float, rng: np.random.Generator) -> NDArray:
    """Joint positions (n, 7) of objects in the air, none inside another, and low where there is room."""
    radius = np.array([np.linalg.norm(bounds_m(shape)) for shape in shapes])
    reach = np.clip(scene.TRAY_HALF_M - radius, 0, spread_m)
    place = np.zeros((0, 3))
    for own, limit in zip(radius, reach, strict=True):
        across = rng.uniform(-limit, limit, (PLACES, 2))
        apart = np.linalg.norm(across[:, None] - place[None, :, :2], axis=-1)
        others = radius[: len(place)]
        above = np.where(apart < others + own, place[:, 2] + others + own + GAP_M, own + GAP_M)
        height = above.max(axis=1, initial=own + GAP_M)
        best = int(height.argmin())
        place = np.concatenate([place, [[*across[best], height[best]]]])
    turn = rng.standard_normal((len(shapes), 4))
    return np.concatenate([place + ORIGIN_M, turn / np.linalg.norm(turn, axis=1, keepdims=True)], axis=1)
