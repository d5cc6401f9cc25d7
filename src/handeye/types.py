"""The plain data that passes between rooms: observations, transitions, and the policy protocol."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
FloatArray = NDArray[np.float32]
Observation = dict[str, NDArray]
"""`image` (N, H, W, C) uint8 and/or `state` (N, S) float32, for N environments."""


class Transition(NamedTuple):
    """One step of N environments.

    `next_observation` is what followed the action, also where the episode ended there;
    `terminated` and `truncated` (N,) bool are kept apart.
    """

    observation: Observation
    action: NDArray
    reward: FloatArray
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    next_observation: Observation


class Provenance(NamedTuple):
    """Where an episode comes from."""

    seed: int = -1
    """Of its environment and of its policy's randomness; −1: unknown, as in a batch that was seeded as a whole."""
    weights_step: int = 0
    """Updates of the weights that acted; 0 without weights."""
    environment: str = ""
    policy: str = ""


class Episode(NamedTuple):
    """One episode of T steps: T + 1 observations, T actions and rewards.

    `facts` holds one array of length T + 1 per fact that the environment reports of itself
    (never shown to a policy), such as `distance_m`.
    """

    observation: Observation
    action: NDArray
    reward: FloatArray
    terminated: bool
    truncated: bool
    facts: dict[str, NDArray]
    provenance: Provenance = Provenance()


class Policy(Protocol):
    """Maps the observations of N environments to N actions."""

    def __call__(self, observation: Observation, /) -> NDArray: ...


def discount(terminated: NDArray[np.bool_], gamma: float) -> FloatArray:
    """Discount (N,) of the value after each step: 0 if terminated, else γ, time limits included."""
    return np.where(terminated, 0.0, gamma).astype(np.float32)
