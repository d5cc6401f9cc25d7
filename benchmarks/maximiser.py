"""What a better search for the best action is worth: `python benchmarks/maximiser.py [CHECKPOINT]`.

Success of one network on training objects, in other scenes than those of the protocol, with maximisers of different
effort.
"""

import sys

from handeye.envs.grasping import GraspVectorEnv
from handeye.grasp_results import WORLDS, evaluated, load, protocol_seeds
from handeye.metrics import wilson
from handeye.qtopt.acting import Greedy
from handeye.qtopt.cem import MaximiserConfig
from handeye.rollout import episodes_in_turn, policy_rng

EPISODES, SEED = 1_400, 5
EFFORTS = [(64, 6, 2), (64, 6, 3), (128, 6, 2), (128, 8, 3), (256, 8, 2), (256, 8, 3)]
"""Samples, elites, iterations."""


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "grasp"
    learnt, seeds = load(name), protocol_seeds(SEED, EPISODES)
    for effort in EFFORTS:
        env = GraspVectorEnv(WORLDS, evaluated(name, "train"), "next_step")
        policy = Greedy(learnt.net, learnt.config.bounds, MaximiserConfig("cem", *effort))
        rngs = [policy_rng(seed) for seed in seeds[:WORLDS]]
        ended = episodes_in_turn(env, policy, seeds, rngs, ())
        good = sum(bool(one.facts["is_success"][-1]) for one in ended)
        low, high = wilson(good, EPISODES)
        share = f"{100 * good / EPISODES:.1f} | {100 * low:.1f} … {100 * high:.1f}"
        print(f"| {' × '.join(str(part) for part in effort)} | {share} |", flush=True)


if __name__ == "__main__":
    main()
