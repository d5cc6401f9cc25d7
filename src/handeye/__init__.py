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
    from handeye import checkpoint, reach_results

    if checkpoint.task_of(name) == "reach":
        return reach_results.load_policy(name, **options)
    # Loaded when it is asked for: grasping needs packages that reaching does without.
    from handeye import grasp_results

    return grasp_results.load_policy(name, **options)
