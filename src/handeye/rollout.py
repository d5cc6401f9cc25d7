"""The only environment loop: a batch of environments × a policy → transitions or whole episodes."""

from collections.abc import Collection, Iterator
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from handeye.types import Episode, Observation, Policy, Transition


class BatchedEnv(Protocol):
    """What the loop needs of a Gymnasium vector environment."""

    num_envs: int
    metadata: dict[str, Any]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple: ...

    def step(self, actions: NDArray) -> tuple: ...


def transitions(env: BatchedEnv, policy: Policy, observation: Observation) -> Iterator[Transition]:
    """Steps without end, from `observation`; the environment restarts finished episodes in the same step.

    `next_observation` is the last picture of the old episode where one ended, never the first of the next.

    Raises:
        ValueError: the environment resets in another way.
    """
    _need(env, AutoresetMode.SAME_STEP)
    while True:
        action = policy(observation)
        following, reward, terminated, truncated, info = env.step(action)
        yield Transition(observation, action, reward, terminated, truncated, _with_final(following, info))
        observation = following


def _with_final(observation: Observation, info: dict[str, Any]) -> Observation:
    if "final_obs" not in info:
        return observation
    ended = np.flatnonzero(info["_final_obs"])
    patched = {key: value.copy() for key, value in observation.items()}
    for i in ended:
        for key, value in info["final_obs"][i].items():
            patched[key][i] = value
    return patched


def episodes(env: BatchedEnv, policy: Policy, keep: Collection[str] | None = None, **reset: Any) -> list[Episode]:
    """One episode of each environment, started by `env.reset(**reset)`.

    Args:
        keep: the parts of the observations that the episodes hold; None: all. Long evaluations need no pictures.

    Raises:
        ValueError: the environment restarts by itself.
    """
    _need(env, AutoresetMode.DISABLED)
    observation, info = env.reset(**reset)
    names = list(observation) if keep is None else list(keep)
    observations, steps, facts = [_only(observation, names)], [], [_facts(info)]
    running = np.ones(env.num_envs, bool)
    length = np.zeros(env.num_envs, int)
    ends = np.zeros((2, env.num_envs), bool)
    while running.any():
        action = policy(observation)
        observation, reward, terminated, truncated, info = env.step(action)
        steps.append((action, reward))
        facts.append(_facts(info))
        observations.append(_only(observation, names))
        length += running
        ends |= np.stack([terminated, truncated]) & running
        running &= ~(terminated | truncated)
    return [_episode(i, length[i], observations, steps, facts, ends[:, i]) for i in range(env.num_envs)]


def _episode(i: int, length: int, observations: list, steps: list, facts: list, ends: NDArray) -> Episode:
    seen = {key: np.stack([o[key][i] for o in observations[: length + 1]]) for key in observations[0]}
    known = {key: np.stack([f[key][i] for f in facts[: length + 1]]) for key in facts[0]}
    actions = np.stack([action[i] for action, _ in steps[:length]])
    rewards = np.array([reward[i] for _, reward in steps[:length]], np.float32)
    return Episode(seen, actions, rewards, bool(ends[0]), bool(ends[1]), known)


def _only(observation: Observation, names: list[str]) -> Observation:
    return {name: observation[name] for name in names}


def _facts(info: dict[str, Any]) -> dict[str, NDArray]:
    return {key: value for key, value in info.items() if isinstance(value, np.ndarray) and not key.startswith("_")}


def _need(env: BatchedEnv, mode: AutoresetMode) -> None:
    found = env.metadata.get("autoreset_mode")
    if found != mode:
        raise ValueError(f"this loop needs an environment with autoreset_mode={mode.name}, got {found}")
