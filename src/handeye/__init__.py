"""handeye: robot hand-eye coordination from camera pictures, by reinforcement learning."""

from typing import Any

import gymnasium

__version__ = "0.1.0"

gymnasium.register(
    "handeye/PlanarReach-v0",
    entry_point="handeye.envs.reaching:PlanarReachEnv",
    vector_entry_point="handeye.envs.reaching:PlanarReachVectorEnv",
)
gymnasium.register(
    "handeye/Grasp-v0",
    entry_point="handeye.envs.grasping:GraspEnv",
    vector_entry_point="handeye.envs.grasping:GraspVectorEnv",
)


def load_policy(name: str, **options: Any) -> Any:
    """`policy(observation) → action` of a checkpoint: a file, a run's folder or a shipped name."""
    from handeye.reach_results import load_policy as load

    return load(name, **options)
