"""What a better search for the best action is worth: `python benchmarks/maximiser.py [CHECKPOINT]`.

Success of one network on training objects, in other scenes than those of the protocol, with maximisers of different
effort.
"""

import sys

from handeye.envs.grasping import GraspVectorEnv
from handeye.grasp_results import WORLDS, evaluated, grasp_figures, load, protocol_seeds
from handeye.qtopt.acting import Greedy
from handeye.qtopt.cem import MaximiserConfig
from handeye.rollout import episodes_in_turn, policy_rng

EPISODES, SEED = 1_400, 5
EFFORTS = [(64, 6, 2), (64, 6, 3), (128, 6, 2), (128, 8, 3), (256, 8, 2), (256, 8, 3)]
"""Samples, elites, iterations."""


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "grasp"
    learnt, seeds = load(name), protocol_seeds(SEED, EPISODES)
    config = evaluated(name, "train")
    for effort in EFFORTS:
        env = GraspVectorEnv(WORLDS, config, "next_step")
        policy = Greedy(learnt.net, learnt.config.bounds, MaximiserConfig("cem", *effort))
        rngs = [policy_rng(seed) for seed in seeds[:WORLDS]]
        figures = grasp_figures(list(episodes_in_turn(env, policy, seeds, rngs, ())))
        rate, low, high = (100 * figures[name] for name in ("success", "ci_low", "ci_high"))
        print(f"| {' × '.join(str(part) for part in effort)} | {rate:.1f} | {low:.1f} … {high:.1f} |", flush=True)


if __name__ == "__main__":
    main()
