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
    from handeye import checkpoint, grasp_results, reach_results

    if name not in reach_results.WORLD_POLICIES and (
        name in grasp_results.WORLD_POLICIES or checkpoint.task_of(name) == "grasp"
    ):
        return grasp_results.load_policy(name, **options)
    return reach_results.load_policy(name, **options)
