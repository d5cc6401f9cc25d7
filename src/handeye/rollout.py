"""The only environment loop: a batch of environments × a policy → transitions or whole episodes."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from handeye.types import Episode, Observation, Policy, Provenance, Transition


class BatchedEnv(Protocol):
    """What the loop needs of a Gymnasium vector environment."""

    num_envs: int
    metadata: dict[str, Any]

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple: ...

    def step(self, actions: NDArray) -> tuple: ...


class SeededEnv(BatchedEnv, Protocol):
    """Its environment i draws from `rngs[i]` alone, whenever it restarts, and takes a list of seeds."""

    rngs: list[np.random.Generator]


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


@dataclass
class _Course:
    """An episode under way: what was seen and known at first, then of each step."""

    seen: list[dict[str, NDArray]]
    known: list[dict[str, NDArray]]
    provenance: Provenance
    steps: list[tuple[NDArray, float]] = field(default_factory=list)

    def episode(self, terminated: bool, truncated: bool) -> Episode:
        action = np.stack([action for action, _ in self.steps])
        reward = np.array([reward for _, reward in self.steps], np.float32)
        seen, known = _stacked(self.seen), _stacked(self.known)
        return Episode(seen, action, reward, terminated, truncated, known, self.provenance)


def episodes(env: BatchedEnv, policy: Policy, keep: Collection[str] | None = None, **reset: Any) -> list[Episode]:
    """One episode of each environment, started by `env.reset(**reset)`.

    Args:
        keep: the parts of the observations that the episodes hold; None: all. Long evaluations need no pictures.

    Raises:
        ValueError: the environment restarts by itself.
    """
    _need(env, AutoresetMode.DISABLED)
    moment = env.reset(**reset)
    courses = {i: _begin(moment, i, keep, Provenance()) for i in range(env.num_envs)}
    ended: dict[int, Episode] = {}
    while courses:
        moment, over = _step(env, policy, moment, courses, keep)
        ended |= over
    return [ended[i] for i in range(env.num_envs)]


def episodes_in_turn(
    env: SeededEnv,
    policy: Policy,
    seeds: Iterable[int],
    rngs: list[np.random.Generator],
    keep: Collection[str] | None = None,
) -> Iterator[Episode]:
    """One episode for each seed, in the order of the seeds; an environment that is done begins the next.

    An episode is a function of its seed alone, whatever the number of environments, if an environment and the policy
    do the same in every batch: the environment begins it as `env.reset(seed=seed)` would, and the policy draws
    from `policy_rng(seed)`.

    Args:
        rngs: one generator an environment, from which `policy` draws what it does there. They are replaced in place.
        keep: as in `episodes`.

    Raises:
        ValueError: the environment does not restart in the step after an end.
    """
    _need(env, AutoresetMode.NEXT_STEP)
    waiting, turn = enumerate(seeds), 0
    begun = dict(enumerate(islice(waiting, env.num_envs)))
    moment = env.reset(seed=[begun[i][1] if i in begun else None for i in range(env.num_envs)])
    courses: dict[int, _Course] = {}
    numbers: dict[int, int] = {}
    over: dict[int, Episode] = {}
    ended: dict[int, Episode] = {}
    while True:
        for i, (number, seed) in begun.items():
            rngs[i], numbers[i] = policy_rng(seed), number
            courses[i] = _begin(moment, i, keep, Provenance(seed))
        # These begin in the step to come.
        begun = dict(zip(over, waiting, strict=False))
        if not courses and not begun:
            return
        for i, (_, seed) in begun.items():
            env.rngs[i] = np.random.default_rng(seed)
        moment, over = _step(env, policy, moment, courses, keep)
        ended |= {numbers[i]: episode for i, episode in over.items()}
        while turn in ended:
            yield ended.pop(turn)
            turn += 1


def policy_rng(seed: int) -> np.random.Generator:
    """What a policy draws from in the episode of this seed: nothing that the environment draws."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))


def _begin(moment: tuple[Observation, dict], i: int, keep: Collection[str] | None, provenance: Provenance) -> _Course:
    """The episode that environment i begins with this observation and info."""
    seen, known = _rows(moment, i, keep)
    return _Course([seen], [known], provenance)


def _step(
    env: BatchedEnv,
    policy: Policy,
    moment: tuple[Observation, dict],
    courses: dict[int, _Course],
    keep: Collection[str] | None,
) -> tuple[tuple[Observation, dict], dict[int, Episode]]:
    """One step of all environments: the next observation and info, and the episodes of `courses` that ended with it."""
    action = policy(moment[0])
    observation, reward, terminated, truncated, info = env.step(action)
    for i, course in courses.items():
        seen, known = _rows((observation, info), i, keep)
        course.seen.append(seen)
        course.known.append(known)
        course.steps.append((action[i], reward[i]))
    over = [i for i in np.flatnonzero(terminated | truncated).tolist() if i in courses]
    return (observation, info), {i: courses.pop(i).episode(bool(terminated[i]), bool(truncated[i])) for i in over}


def _rows(
    moment: tuple[Observation, dict], i: int, keep: Collection[str] | None
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """What is kept of the observation of environment i, and its facts."""
    observation, info = moment
    facts = {key: value for key, value in info.items() if isinstance(value, np.ndarray) and not key.startswith("_")}
    names = observation if keep is None else keep
    return {name: observation[name][i] for name in names}, {name: value[i] for name, value in facts.items()}


def _stacked(rows: list[dict[str, NDArray]]) -> dict[str, NDArray]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _need(env: BatchedEnv, mode: AutoresetMode) -> None:
    found = env.metadata.get("autoreset_mode")
    if found != mode:
        raise ValueError(f"this loop needs an environment with autoreset_mode={mode.name}, got {found}")
