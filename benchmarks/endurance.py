"""Random steps in the bin, and what must never happen in them: python benchmarks/endurance.py FILE.json [steps]

Counts numbers that are none, objects below the table, objects that left the tray low (through a wall), episodes that
ended at their first step, returns above 1, and diverged simulations.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from handeye.envs import scene
from handeye.envs.grasp_policies import Random
from handeye.envs.grasping import GraspVectorEnv

WORLDS = 64
BELOW_M = -0.03
"""An object's middle is never this far below the tray's bottom: the table's top is one centimetre below it."""


def endure(steps: int, worlds: int = WORLDS, seed: int = 0) -> dict[str, float]:
    """Counts over so many random steps of all worlds together."""
    env = GraspVectorEnv(worlds, observe="objects")
    act = Random(env, np.random.default_rng(seed).spawn(worlds))
    observation, _ = env.reset(seed=seed)
    names = (
        "steps",
        "episodes",
        "not_finite",
        "below_table",
        "through_wall",
        "over_wall",
        "first_step_ends",
        "above_one",
        "diverged",
    )
    counts, started = dict.fromkeys(names, 0), time.perf_counter()
    returns, length = np.zeros(worlds), np.zeros(worlds, int)
    before = env.bin.objects_m.copy()
    while counts["steps"] < steps:
        observation, reward, terminated, truncated, info = env.step(act(observation))
        over = terminated | truncated
        returns, length = returns + reward, length + 1
        after, going = env.bin.objects_m, ~over
        left = going[:, None] & (outside(after) & ~outside(before))
        highest = np.maximum(after[..., 2], before[..., 2])
        counts["through_wall"] += int((left & (highest < scene.WALL_HEIGHT_M / 2)).sum())
        counts["over_wall"] += int((left & (highest >= scene.WALL_HEIGHT_M / 2)).sum())
        counts["below_table"] += int((going[:, None] & (after[..., 2] < BELOW_M)).sum())
        counts["not_finite"] += sum(int((~np.isfinite(value)).sum()) for value in (*observation.values(), reward))
        counts["first_step_ends"] += int((over & (length == 1)).sum())
        counts["above_one"] += int((returns > 1 + 1e-6).sum())
        final = info.get("final_info", info)
        counts["diverged"] += int((final["diverged"] & over).sum())
        counts["episodes"] += int(over.sum())
        counts["steps"] += worlds
        returns[over], length[over] = 0, 0
        before = after.copy()
    return counts | {"seconds": time.perf_counter() - started}


def outside(place_m: np.ndarray) -> np.ndarray:
    """Whether objects (N, objects, 3) lie beyond the tray's walls."""
    return (np.abs(place_m[..., :2]) > scene.TRAY_HALF_M + 2 * scene.WALL_HALF_M).any(-1)


if __name__ == "__main__":
    found = endure(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
    Path(sys.argv[1]).write_text(json.dumps(found, indent=2) + "\n")
    print(found)
