"""A toy world: enough to test the algorithms without an arm or a camera."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

CELLS = 5
RIGHT, LEFT = 2, 0


class Chain:
    """Five cells in a row, `state` is one-hot; action 2 goes right, 0 goes left, seven others stay.

    The right end pays 1 and ends the episode; after 12 steps it is truncated. By chance it is seldom reached.
    """

    max_steps = 12

    def __init__(self, num_envs: int, autoreset: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.num_envs = num_envs
        self.single_action_space = spaces.Discrete(9)
        self.metadata: dict[str, Any] = {"autoreset_mode": autoreset}
        self.rng = np.random.default_rng()
        self.cell = np.zeros(num_envs, np.int64)
        self.age = np.zeros(num_envs, np.int64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple:
        self.rng = np.random.default_rng(seed)
        self._start(np.ones(self.num_envs, bool))
        return self.observation(), {"cell": self.cell.copy()}

    def _start(self, which: NDArray) -> None:
        self.cell[which] = self.rng.integers(CELLS - 1, size=which.sum())
        self.age[which] = 0

    def step(self, actions: NDArray) -> tuple:
        self.cell = np.clip(self.cell + (actions == RIGHT) - (actions == LEFT), 0, CELLS - 1)
        self.age += 1
        terminated = self.cell == CELLS - 1
        truncated = ~terminated & (self.age >= self.max_steps)
        over = terminated | truncated
        info: dict[str, Any] = {"cell": self.cell.copy()}
        observation = self.observation()
        if over.any() and self.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP:
            final = np.where(over, [{"state": row} for row in observation["state"]], None)
            self._start(over)
            observation, info = self.observation(), {"final_obs": final, "_final_obs": over}
        return observation, terminated.astype(np.float32), terminated, truncated, info

    def observation(self) -> dict[str, NDArray]:
        return {"state": np.eye(CELLS, dtype=np.float32)[self.cell]}

    def state(self) -> dict[str, Any]:
        return {"cell": self.cell.copy(), "age": self.age.copy(), "rng": self.rng.bit_generator.state}

    def load_state(self, state: dict[str, Any]) -> None:
        self.cell, self.age = np.array(state["cell"]), np.array(state["age"])
        self.rng.bit_generator.state = state["rng"]


class Counter:
    """Counts its steps; ends after so many, 1 … 6, as its own generator draws. Restarts in the step after an end.

    `state` is (N, 2): what was drawn, and the count.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.rngs = [np.random.default_rng() for _ in range(num_envs)]
        self.length, self.count, self.steps = np.ones(num_envs, int), np.zeros(num_envs, int), 0

    def reset(self, *, seed: list[int | None], options: dict[str, Any] | None = None) -> tuple:
        for i, one in enumerate(seed):
            self.rngs[i] = self.rngs[i] if one is None else np.random.default_rng(one)
            self.start(i)
        return self.observation(), {"count": self.count.copy()}

    def start(self, i: int) -> None:
        self.length[i], self.count[i] = self.rngs[i].integers(1, 7), 0

    def step(self, actions: NDArray) -> tuple:
        self.steps += 1
        over = self.count >= self.length
        self.count += 1
        for i in np.flatnonzero(over):
            self.start(i)
        ended = ~over & (self.count >= self.length)
        odd = self.length % 2 == 1
        return self.observation(), actions.astype(float), ended & odd, ended & ~odd, {"count": self.count.copy()}

    def observation(self) -> dict[str, NDArray]:
        return {"state": np.stack([self.length, self.count], 1).astype(np.float32)}


def go_right(observation: dict[str, NDArray], /) -> NDArray:
    """The expert of the chain."""
    return np.full(len(observation["state"]), RIGHT)


def draw(theta: NDArray) -> NDArray[np.uint8]:
    """Pictures (N, 1, 5) of the cells."""
    return (np.asarray(theta)[:, None, :] * 255).astype(np.uint8)


def labelled(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A source of labelled pictures."""
    theta = rng.random((count, CELLS), dtype=np.float32)
    return draw(theta), theta


class Pick:
    """A thing lies at `objects` (N, 1, 3) metres from a hand; closing within 2 cm of it pays 1 and ends the episode.

    Actions as in grasping: displacement (3, clipped to ±6 cm), rotation, close, open, terminate. After eight steps it
    is truncated; a step costs 0.05. What has ended rests.
    """

    max_steps, move_m, near_m = 8, 0.06, 0.02

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_action_space = spaces.Box(-1, 1, (8,), np.float32)
        self.metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED}
        self.away = np.zeros((num_envs, 3))
        self.age, self.over = np.zeros(num_envs, np.int64), np.zeros(num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple:
        rng = np.random.default_rng(seed)
        self.away = rng.uniform(-0.1, 0.1, (self.num_envs, 3))
        self.age[:], self.over = 0, np.zeros(self.num_envs, bool)
        return self.observation(), self.info(self.over.copy())

    def step(self, actions: NDArray) -> tuple:
        self.away = self.away - ~self.over[:, None] * np.clip(actions[:, :3], -self.move_m, self.move_m)
        self.age += ~self.over
        success = (np.abs(self.away).max(1) < self.near_m) & (actions[:, 5] > 0.5)
        reward = np.where(success, 1, -0.05).astype(np.float32)
        late = ~success & (self.age >= self.max_steps)
        self.over |= success | late
        return self.observation(), reward, success, late, self.info(success)

    def observation(self) -> dict[str, NDArray]:
        state = np.stack([np.ones(self.num_envs), np.zeros(self.num_envs), self.age / self.max_steps], 1)
        return {"state": state.astype(np.float32), "objects": self.away[:, None].astype(np.float32)}

    def info(self, success: NDArray) -> dict[str, Any]:
        return {"is_success": success, "diverged": np.zeros(self.num_envs, bool)}
