"""How much easier the curriculum makes grasping: `python benchmarks/ease.py`.

Success of a policy that sees nothing: it goes straight down from where an episode begins, closes, and goes up.
"""

import numpy as np
from numpy.typing import NDArray

from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import ACTION, CLOSE, COSINE, GraspConfig, GraspVectorEnv
from handeye.metrics import wilson
from handeye.rollout import episodes
from handeye.types import Observation

EPISODES, WORLDS = 400, 50
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    env = GraspVectorEnv(WORLDS, GraspConfig(world=BinConfig(models=60), observe="objects"), "disabled")

    def act(observation: Observation, /) -> NDArray:
        low, closed = env.bin.gripper[:, 2] <= env.config.world.lowest_m, env.bin.closed
        actions = np.zeros((WORLDS, ACTION))
        actions[:, COSINE], actions[:, CLOSE] = 1, low & ~closed
        actions[:, 2] = env.config.move_m * np.where(closed, 1, np.where(low, 0, -1))
        return actions

    for share in SHARES:
        env.ease(share)
        ended = [one for k in range(EPISODES // WORLDS) for one in episodes(env, act, keep=(), seed=WORLDS * k)]
        good = sum(bool(one.facts["is_success"][-1]) for one in ended)
        low, high = wilson(good, EPISODES)
        steps = np.mean([len(one.reward) for one in ended])
        print(f"| {share} | {100 * good / EPISODES:.1f} | {100 * low:.1f} … {100 * high:.1f} | {steps:.1f} |")


if __name__ == "__main__":
    main()
