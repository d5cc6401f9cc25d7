"""Grasping as a single environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from handeye.envs.batching import first
from handeye.envs.grasping import GraspConfig, GraspVectorEnv


class GraspEnv(gym.Env):
    """One bin: the vector environment with N = 1, without the batch axis."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(self, config: GraspConfig | None = None, render_mode: str | None = None, **fields: Any) -> None:
        self.batch = GraspVectorEnv(1, config, "disabled", render_mode, **fields)
        self.render_mode = render_mode
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple:
        super().reset(seed=seed)
        observation, info = self.batch.reset(seed=seed)
        return first(observation), first(info)

    def step(self, action: NDArray) -> tuple:
        """Raises: RuntimeError after the end of the episode."""
        if self.batch.done[0]:
            raise RuntimeError("the episode has ended: call reset() before step()")
        observation, reward, terminated, truncated, info = self.batch.step(np.asarray(action)[None])
        return first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), first(info)

    def ease(self, share: float) -> None:
        """As of the vector environment."""
        self.batch.ease(share)

    def render(self) -> NDArray[np.uint8] | None:
        frames = self.batch.render()
        return None if frames is None else frames[0]
