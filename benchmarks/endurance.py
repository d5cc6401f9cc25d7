"""Random steps in the bin, and what must never happen in them: python benchmarks/endurance.py FILE.json [steps]

Counts numbers that are none, objects that sank through the table or fell off it, objects that left the tray over a wall
or through it, episodes that ended at their first step, returns above 1, and diverged simulations. Objects are followed
at every time step of the physics, not only at those of the environment.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handeye.envs import bin as bins
from handeye.envs import scene
from handeye.envs.grasp_policies import Random
from handeye.envs.grasping import GraspVectorEnv

WORLDS = 64
BELOW_M = -0.03
"""An object's middle is never this far below the tray's bottom: the table's top is one centimetre below it."""
TABLE_M = 0.45
"""The table reaches at least this far from the tray's middle, in x and y: what falls farther away fell off it."""
COUNTED = (
    "steps", "episodes", "not_finite", "through_table", "off_table", "through_wall", "over_wall", "first_step_ends",
    "above_one", "diverged",
)  # fmt: skip


class Track:
    """Follows the objects of a `Bin` through every time step of its physics, since the last look."""

    def __init__(self, world: bins.Bin) -> None:
        self.world, self.rollout = world, world.batch.rollout
        world.batch.rollout = self.recorded
        self.driven: list[tuple[NDArray, NDArray]] = []

    def recorded(self, *args: Any, ids: NDArray, **fields: Any) -> Any:
        before = self.world.qpos[ids][:, None]
        found = self.rollout(*args, ids=ids, **(fields | {"record": ("qpos",)}))
        self.driven.append((ids.copy(), np.concatenate([before, found["qpos"]], axis=1)))
        return found

    def look(self) -> list[tuple[int, NDArray]]:
        """World and objects' places (T, objects, 3) of each drive since the last look."""
        paths = [
            (i, qpos[:, bins.FIRST :].reshape(len(qpos), -1, 7)[..., :3] - bins.ORIGIN_M)
            for ids, driven in self.driven
            for i, qpos in zip(ids, driven, strict=True)
        ]
        self.driven = []
        return paths


def crossings(path_m: NDArray) -> NDArray:
    """Heights (m,) at which the middles of objects pass the middle of a wall outwards, of a path (T, objects, 3)."""
    beyond = np.abs(path_m[..., :2]).max(-1) > scene.TRAY_HALF_M + scene.WALL_HALF_M
    return path_m[1:][beyond[1:] & ~beyond[:-1]][:, 2]


def drops(path_m: NDArray) -> NDArray:
    """Where (m, 2) objects sink below the table's top, of a path (T, objects, 3)."""
    below = path_m[..., 2] < BELOW_M
    return path_m[1:][below[1:] & ~below[:-1]][:, :2]


def endure(steps: int, worlds: int = WORLDS, seed: int = 0) -> dict[str, Any]:
    """Counts over so many random steps of all worlds together."""
    env = GraspVectorEnv(worlds, observe="objects")
    act = Random(env, np.random.default_rng(seed).spawn(worlds))
    track = Track(env.bin)
    observation, _ = env.reset(seed=seed)
    counts, started = dict.fromkeys(COUNTED, 0), time.perf_counter()
    returns, length, heights = np.zeros(worlds), np.zeros(worlds, int), []
    while counts["steps"] < steps:
        observation, reward, terminated, truncated, info = env.step(act(observation))
        over = terminated | truncated
        returns, length = returns + reward, length + 1
        diverged = info.get("final_info", info)["diverged"] & over
        paths = [path for i, path in track.look() if not diverged[i]]
        passed = np.concatenate([crossings(path) for path in paths] or [np.zeros(0)])
        heights += [round(float(height), 4) for height in passed]
        counts["through_wall"] += int((passed < scene.WALL_HEIGHT_M).sum())
        counts["over_wall"] += int((passed >= scene.WALL_HEIGHT_M).sum())
        fallen = np.concatenate([drops(path) for path in paths] or [np.zeros((0, 2))])
        beyond = np.abs(fallen).max(-1) > TABLE_M
        counts["off_table"] += int(beyond.sum())
        counts["through_table"] += int((~beyond).sum())
        counts["not_finite"] += sum(int((~np.isfinite(value)).sum()) for value in (*observation.values(), reward))
        counts["first_step_ends"] += int((over & (length == 1)).sum())
        counts["above_one"] += int((returns > 1 + 1e-6).sum())
        counts["diverged"] += int(diverged.sum())
        counts["episodes"] += int(over.sum())
        counts["steps"] += worlds
        returns[over], length[over] = 0, 0
    lowest = sorted(heights)[:20]
    return counts | {"lowest_crossings_m": lowest, "seconds": round(time.perf_counter() - started, 1)}


if __name__ == "__main__":
    found = endure(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
    Path(sys.argv[1]).write_text(json.dumps(found, indent=2) + "\n")
    print(found)
