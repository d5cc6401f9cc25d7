"""Policies that belong to the bin: the paper's scripted one, and an oracle that sees the objects."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handeye.envs.bin import FIRST
from handeye.envs.grasping import ACTION, CLOSE, TERMINATE, GraspVectorEnv, action_space
from handeye.envs.objects import Shape, half_extent
from handeye.types import Observation

DIRECTIONS = 24
"""Directions over half a turn among which the oracle looks for the narrowest side of an object."""


def _actions(env: GraspVectorEnv, move_m: NDArray, turn_rad: NDArray, close: NDArray) -> NDArray:
    """Actions (N, 8) of displacements (N, 3), rotations (N,) and closings (N,) bool, as far as a step can go.

    Where it is learned when to stop, they stop when the heuristic would: what is shown can be learnt.
    """
    actions, config = np.zeros((len(move_m), ACTION), np.float32), env.config
    turn_rad = np.clip(turn_rad, -config.turn_rad, config.turn_rad)
    actions[:, :3] = np.clip(move_m, -config.move_m, config.move_m)
    actions[:, 3], actions[:, 4] = np.sin(turn_rad), np.cos(turn_rad)
    actions[:, CLOSE] = close
    if config.termination == "learned":
        actions[:, TERMINATE] = env.raised
    return actions


Generators = list[np.random.Generator]
"""One an environment: what is drawn for one does not depend on the others."""


@dataclass
class Random:
    """Uniform within the bounds of the actions."""

    env: GraspVectorEnv
    rngs: Generators

    def __call__(self, observation: Observation, /) -> NDArray:
        box = action_space(self.env.config)
        return np.array([rng.uniform(box.low, box.high) for rng in self.rngs], np.float32)


@dataclass
class Scripted:
    """π_scripted: over a random place, down in a few random steps with open fingers, close, up again.

    It sees nothing; `env` is asked only which episodes have just begun and how high the fingertips are.
    """

    env: GraspVectorEnv
    rngs: Generators
    across_steps: int = 2
    descents: tuple[int, int] = (2, 4)
    plan: dict[str, NDArray] = field(default_factory=dict)

    def __call__(self, observation: Observation, /) -> NDArray:
        bins, config = self.env.bin, self.env.config
        count = self.env.num_envs
        if not self.plan:
            self.plan = {"across": np.zeros((count, 2)), "turn": np.zeros(count), "descents": np.ones(count, int)}
        for i in np.flatnonzero(self.env.steps == 0).tolist():
            self._plan(i)
        step = self.env.steps
        over = step < self.across_steps
        left = np.maximum(self.across_steps + self.plan["descents"] - step, 1)
        down = (bins.tip_m[:, 2] - config.world.lowest_m) / left * [rng.uniform(0.7, 1.3) for rng in self.rngs]
        low = ~over & (bins.tip_m[:, 2] < config.world.lowest_m + 0.015)
        move = np.zeros((count, 3))
        move[:, :2] = np.where(over[:, None], self.plan["across"], 0)
        move[:, 2] = np.where(bins.closed, config.move_m, np.where(over | low, 0, -down))
        turn = np.where(over, self.plan["turn"], 0)
        return _actions(self.env, move, turn, low & ~bins.closed)

    def _plan(self, i: int) -> None:
        """What environment i does in a new episode."""
        config, rng = self.env.config, self.rngs[i]
        goal = rng.uniform(-config.world.reach_m, config.world.reach_m, 2)
        self.plan["across"][i] = (goal - self.env.bin.gripper[i, :2]) / self.across_steps
        self.plan["turn"][i] = rng.uniform(-config.turn_rad, config.turn_rad)
        self.plan["descents"][i] = rng.integers(*self.descents, endpoint=True)


def corners_m(shape: Shape) -> NDArray:
    """Corners (24, 3) of the bounding boxes of a shape's parts, in its frame."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    parts = [np.array(p.pos_m) + signs * half_extent(p.kind, p.size_m, p.quat) for p in shape.parts]
    return np.concatenate(parts)


@dataclass
class Oracle:
    """Sees all: over the object that stands clearest of the others and the walls, down, close, up."""

    env: GraspVectorEnv
    hover_m: float = 0.1
    near_m: float = 0.004
    depth_m: float = 0.014
    """How far the fingertips go below an object's middle."""
    wanted: NDArray | None = None
    """Numbers (N,) of the objects to go for, instead of those that stand clearest."""
    chosen: NDArray = field(default_factory=lambda: np.zeros(0, int))

    def __call__(self, observation: Observation, /) -> NDArray:
        bins, config = self.env.bin, self.env.config
        rows = np.arange(self.env.num_envs)
        if not len(self.chosen):
            self.chosen = np.zeros(self.env.num_envs, int)
        new = self.env.steps == 0
        if new.any():
            self.chosen[new] = (self._clearest() if self.wanted is None else self.wanted)[new]
        place, offset, angle = self._target(rows)
        away = np.concatenate([place[:, :2] + offset - bins.gripper[:, :2], np.zeros((len(rows), 1))], 1)
        turn = (angle - bins.gripper[:, 3] + np.pi / 2) % np.pi - np.pi / 2
        floor = np.maximum(place[:, 2] - self.depth_m, config.world.lowest_m)
        aligned = (np.abs(away) < self.near_m).all(1) & (np.abs(turn) < 0.05)
        there = aligned & (bins.gripper[:, 2] < floor + 0.003)
        height = np.where(aligned, floor, np.maximum(place[:, 2] + 0.05, self.hover_m))
        away[:, 2] = height - bins.gripper[:, 2]
        away = np.where((bins.closed | there)[:, None], [0, 0, 0], away)
        away[bins.closed, 2] = config.move_m
        return _actions(self.env, away, np.where(bins.closed | there, 0, turn), there & ~bins.closed)

    def _clearest(self) -> NDArray:
        place = self.env.bin.objects_m[..., :2]
        apart = np.linalg.norm(place[:, :, None] - place[:, None], axis=-1) + 9 * np.eye(place.shape[1])
        wall = np.maximum(np.abs(place).max(-1) - 0.09, 0)
        return (np.minimum(apart.min(-1), 0.12) - 2 * wall).argmax(1)

    def _target(self, rows: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Place (N, 3), offset (N, 2) of the grasp from it, and the gripper's yaw (N,) across the narrowest side."""
        bins = self.env.bin
        pose = bins.qpos[:, FIRST:].reshape(len(rows), -1, 7)[rows, self.chosen]
        points = np.stack([corners_m(bins.shapes[i][self.chosen[i]]) for i in rows])
        flat = _rotated(points, pose[:, 3:])[..., :2]
        angle = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        along = flat @ np.stack([np.cos(angle), np.sin(angle)])
        width = np.ptp(along, axis=1)
        best = width.argmin(1)
        middle = (along.max(1) + along.min(1))[rows, best] / 2
        direction = np.stack([np.cos(angle[best]), np.sin(angle[best])], 1)
        # The fingers close along the hand's y.
        return bins.objects_m[rows, self.chosen], middle[:, None] * direction, angle[best] - np.pi / 2


def _rotated(points: NDArray, quat: NDArray) -> NDArray:
    """Points (N, P, 3) turned by unit quaternions (N, 4)."""
    w, axis = quat[:, None, :1], quat[:, None, 1:]
    cross = 2 * np.cross(axis, points)
    return points + w * cross + np.cross(axis, cross)
