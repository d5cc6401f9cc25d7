"""What a better search for the best action is worth: `python benchmarks/maximiser.py [CHECKPOINT]`.

Success on training objects, in other scenes than those of the protocol, of one network with maximisers of different
effort, each with two different noises; and what choosing the action of one state costs.
"""

import sys
import time

import numpy as np
from numpy.typing import NDArray

from handeye.envs.grasping import GraspVectorEnv
from handeye.grasp_results import WORLDS, evaluated, load, protocol_seeds
from handeye.metrics import wilson
from handeye.qtopt.acting import Greedy
from handeye.qtopt.cem import MaximiserConfig
from handeye.rollout import episodes_in_turn, policy_rng
from handeye.types import Observation

EPISODES, SEED = 700, 5
EFFORTS = [(64, 6, 2), (64, 6, 3), (128, 6, 2), (128, 8, 3), (256, 8, 2), (256, 8, 3)]
"""Samples, elites, iterations."""


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "grasp"
    learnt, seeds = load(name), protocol_seeds(SEED, EPISODES)
    env = GraspVectorEnv(WORLDS, evaluated(name, "train"), "next_step")
    for effort in EFFORTS:
        good, states, spent = 0, 0, 0.0
        for noise in (0, 1):
            policy = Greedy(learnt.net, learnt.config.bounds, MaximiserConfig("cem", *effort), noise)

            def act(observation: Observation, /, policy: Greedy = policy) -> NDArray:
                nonlocal states, spent
                started = time.perf_counter()
                actions = policy(observation)
                states, spent = states + len(actions), spent + time.perf_counter() - started
                return actions

            rngs = [policy_rng(seed) for seed in seeds[:WORLDS]]
            ended = episodes_in_turn(env, act, seeds, rngs, ())
            good += sum(bool(one.facts["is_success"][-1]) for one in ended)
        low, high = 100 * np.array(wilson(good, 2 * EPISODES))
        share = f"{50 * good / EPISODES:.1f} | {low:.1f} … {high:.1f} | {1e6 * spent / states:.0f}"
        print(f"| {' × '.join(str(part) for part in effort)} | {share} |", flush=True)


if __name__ == "__main__":
    main()
