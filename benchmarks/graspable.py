"""Whether the oracle can grasp every object, each alone in the tray: `python benchmarks/graspable.py [FILE.json]`.

An object is tried from up to eight settled placements, until it succeeds once. Printed: how many succeeded at which
attempt, those that never did, and the rate of first attempts by family.
"""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handeye.envs import scene
from handeye.envs.bin import FIRST
from handeye.envs.bin_config import HELD_OUT_MODELS, BinConfig, world_of
from handeye.envs.grasp_policies import Oracle
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.envs.objects import SLOTS

WORLDS, ATTEMPTS, SETTLE_S = 60, 8, 0.8
ASIDE_M = np.array([[0.27, 0.27], [0.27, -0.27], [-0.27, 0.27], [-0.27, -0.27], [0.3, 0.0]])
"""Where the other objects of a scene wait: on the table about the tray."""
Key = tuple[int, int]
"""Number of a scene, and of an object in it."""


def grasped(split: str, keys: list[Key], attempt: int) -> list[bool]:
    """Whether the oracle succeeds with each of these objects, from the scenes' placement `attempt`."""
    count = min(WORLDS, len(keys))
    env = GraspVectorEnv(count, GraspConfig(world=world_of(split), observe="objects"), "disabled")
    verdicts: list[bool] = []
    while len(verdicts) < len(keys):
        now = keys[len(verdicts) : len(verdicts) + count]
        # A last batch that is not full is filled with its first object.
        filled = now + now[:1] * (count - len(now))
        observation, _ = env.reset(seed=0)
        _alone(env, filled, attempt)
        policy = Oracle(env, wanted=np.array([number for _, number in filled]))
        while not env.done.all():
            observation, *_ = env.step(policy(observation))
        verdicts += [bool(good) for good in env.success[: len(now)]]
    return verdicts


def _alone(env: GraspVectorEnv, keys: list[Key], attempt: int) -> None:
    """Put each object into a tray of its own, where it lies in its scene's placement."""
    bins, everyone = env.bin, np.arange(env.num_envs)
    bins.put(everyone, [bins.placement(model, attempt) for model, _ in keys])
    pose = bins.qpos[:, FIRST:].reshape(env.num_envs, -1, 7).copy()
    for i, (_, number) in enumerate(keys):
        others = np.arange(pose.shape[1]) != number
        pose[i, others, :2] = ASIDE_M[others] + scene.TRAY_CENTRE_M
        pose[i, others, 2] = 0.06
    bins.qpos[:, FIRST:] = pose.reshape(env.num_envs, -1)
    # What lay on others falls.
    bins.glide(everyone, bins.gripper.copy(), SETTLE_S)
    bins.rest_m[:] = bins.objects_m[..., 2]


def study(split: str, models: NDArray) -> dict:
    """Attempts that each object of these scenes needed, and what never succeeded."""
    shapes = {}
    bins = GraspVectorEnv(1, GraspConfig(world=world_of(split), observe="objects")).bin
    for model in models:
        for number, shape in enumerate(bins.scene(int(model))[1]):
            shapes[int(model), number] = shape.family
    needed: dict[Key, int] = {}
    for attempt in range(ATTEMPTS):
        left = [key for key in shapes if key not in needed]
        verdicts = grasped(split, left, attempt) if left else []
        needed |= {key: attempt + 1 for key, good in zip(left, verdicts, strict=True) if good}
    tried, first = Counter(shapes.values()), Counter(shapes[key] for key, k in needed.items() if k == 1)
    return {
        "split": split,
        "objects": len(shapes),
        "succeeded_at_attempt": dict(sorted(Counter(needed.values()).items())),
        "never": [f"{shapes[key]} (slot {key[1]}, index {key[0]})" for key in shapes if key not in needed],
        "first_attempt_by_family": {family: f"{first[family]}/{tried[family]}" for family in sorted(tried)},
    }


def main() -> None:
    assert BinConfig().objects == SLOTS, "object k of scene n is then object n of slot k"
    sizes = {"train": BinConfig().models, "heldout": HELD_OUT_MODELS}
    found = [study(split, np.arange(size)) for split, size in sizes.items()]
    text = json.dumps(found, indent=2)
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n")


if __name__ == "__main__":
    main()
