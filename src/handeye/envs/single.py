"""One environment of a batched task, as Gymnasium's `make` gives it."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from handeye.envs.window import Window


class SingleEnv(gym.Env):
    """A vector environment with N = 1, without the batch axis; `human` shows its large pictures in a window."""

    make_batch: ClassVar[Any]
    """The task's vector environment."""
    title: ClassVar[str]

    def __init__(self, config: Any = None, render_mode: str | None = None, **fields: Any) -> None:
        pictures = "rgb_array" if render_mode == "human" else render_mode
        self.batch = self.make_batch(1, config, "disabled", pictures, **fields)
        self.render_mode = render_mode
        self.window = Window(self.title, self.metadata["render_fps"]) if render_mode == "human" else None
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple:
        """`options`: those of the vector environment, without the batch axis."""
        super().reset(seed=seed)
        batched = {key: np.asarray(value)[None] for key, value in (options or {}).items()}
        observation, info = self.batch.reset(seed=seed, options=batched)
        self._show()
        return _first(observation), _first(info)

    def step(self, action: Any) -> tuple:
        """Raises: RuntimeError after the end of the episode."""
        if self.batch.done[0]:
            raise RuntimeError("the episode has ended: call reset() before step()")
        observation, reward, terminated, truncated, info = self.batch.step(np.asarray(action)[None])
        self._show()
        return _first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(info)

    def render(self) -> NDArray[np.uint8] | None:
        """A large colour picture (H, W, 3) in mode `rgb_array`; `human` shows each by itself."""
        frames = self.batch.render()
        return frames[0] if frames is not None and self.window is None else None

    def _show(self) -> None:
        if self.window is not None:
            (frame,) = self.batch.render()
            self.window.show(frame)

    def close(self) -> None:
        if self.window is not None:
            self.window.close()
            self.window = None


def _first(batched: dict[str, Any]) -> dict[str, Any]:
    """What a batch of one says of its one environment."""
    return {key: value[0] for key, value in batched.items()}
