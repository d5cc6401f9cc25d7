"""Policies that need no network, and the one mixture behind ε-greedy, K-GPS and π_noisy."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handeye.types import Observation, Policy


def random_policy(actions: int, rng: np.random.Generator) -> Policy:
    """Uniform over the discrete actions 0 … `actions` − 1."""

    def act(observation: Observation, /) -> NDArray:
        return rng.integers(actions, size=len(next(iter(observation.values()))))

    return act


@dataclass
class EpsilonMix:
    """Each environment follows `guide` with probability `epsilon`, else `policy`, anew every step.

    With a random guide this is ε-greedy; with a kinematic controller, K-GPS.
    """

    guide: Policy
    policy: Policy
    rng: np.random.Generator
    epsilon: float = 1.0

    def __call__(self, observation: Observation, /) -> NDArray:
        guided = self.guide(observation)
        explore = self.rng.random(len(guided)) < self.epsilon
        if explore.all():
            return guided
        return np.where(explore.reshape(-1, *[1] * (guided.ndim - 1)), guided, self.policy(observation))


@dataclass
class Remembered:
    """A deterministic `policy` that is asked once per distinct observation.

    A greedy policy in a still world walks in circles once it repeats a picture, and a finished environment shows
    its last picture for ever: both cost nothing here.
    """

    policy: Policy
    seen: dict[bytes, NDArray] = field(default_factory=dict)

    def __call__(self, observation: Observation, /) -> NDArray:
        keys = [_digest(rows) for rows in zip(*observation.values(), strict=True)]
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self.seen}
        if first:
            which = sorted(first.values())
            actions = self.policy({name: value[which] for name, value in observation.items()})
            self.seen.update(zip((keys[i] for i in which), actions, strict=True))
        return np.array([self.seen[key] for key in keys])


def _digest(rows: tuple[NDArray, ...]) -> bytes:
    hasher = hashlib.blake2b(digest_size=16)
    for row in rows:
        hasher.update(np.ascontiguousarray(row).data)
    return hasher.digest()


Schedule = Callable[[int], float]


def linear(start: float, end: float, over: int) -> Schedule:
    """From `start` at step 0 to `end` at step `over`, constant after."""
    return lambda step: start + (end - start) * min(step / over, 1.0)
