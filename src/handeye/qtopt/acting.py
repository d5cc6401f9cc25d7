"""Policies that act by a Q-network: greedy, and with the paper's noise."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from handeye.errors import need
from handeye.nn import device_of
from handeye.qtopt import actions
from handeye.qtopt.actions import ActionBounds
from handeye.qtopt.cem import MaximiserConfig, best_actions
from handeye.qtopt.networks import QNetwork, scorer, to_inputs
from handeye.types import Observation, Policy


@dataclass
class Greedy:
    """π_eval: argmax_a Q(s, a), found with the same noise every time, so that a state has one action."""

    net: QNetwork
    bounds: ActionBounds
    config: MaximiserConfig
    seed: int = 0

    @torch.no_grad()
    def __call__(self, observation: Observation, /) -> NDArray:
        device = device_of(self.net)
        inputs = to_inputs(observation, device)
        score = scorer(self.net, inputs, self.bounds)
        generator = torch.Generator(device).manual_seed(self.seed)
        action, _ = best_actions(score, inputs.states, self.bounds, self.config, generator, alike=True)
        return action.cpu().numpy()


@dataclass(frozen=True)
class NoiseConfig:
    """π_noisy: with probability `epsilon` an action is random. Raises ValueError for what is no probability."""

    epsilon: float = 0.2
    pose: float = 0.75
    """Of the random actions: a Gaussian change of pose."""
    toggle: float = 0.17
    """Of them: open fingers close, closed ones open. The rest ends the episode, where the policy can."""
    spread: float = 0.5
    """Standard deviation of the change of pose, as a share of the bounds."""

    def __post_init__(self) -> None:
        need(self, ("epsilon", "pose", "toggle"), 0, 1)
        need(self, ("spread",), 0, 10, above=True)


@dataclass
class Random:
    """The random actions of π_noisy."""

    bounds: ActionBounds
    config: NoiseConfig
    rng: np.random.Generator

    def __call__(self, observation: Observation, /) -> NDArray:
        count, config = len(observation["state"]), self.config
        pose = np.clip(self.rng.normal(0, config.spread, (count, actions.POSE)), -1, 1)
        kind = self.rng.random(count)
        toggles = (kind >= config.pose) & (kind < config.pose + config.toggle)
        stops = (kind >= config.pose + config.toggle) & self.bounds.terminates
        pose[toggles | stops] = 0
        closed = observation["state"][:, 0] < 0.5
        command = np.where(toggles, np.where(closed, 2, 1), 0)
        parts = (torch.as_tensor(pose, dtype=torch.float32), torch.as_tensor(command), torch.as_tensor(stops))
        return actions.encode(*parts, self.bounds).numpy()


@dataclass
class Noisy:
    """π_noisy around any policy of N environments: what happens in each depends on its own generator alone.

    An `EpsilonMix` draws for all at once, and asks its policy, which may draw as well, only if somebody follows it.
    """

    policy: Policy
    bounds: ActionBounds
    config: NoiseConfig
    rngs: list[np.random.Generator]
    """Of each environment; they may be replaced in place."""

    def __call__(self, observation: Observation, /) -> NDArray:
        chosen = np.array(self.policy(observation))
        for i, rng in enumerate(self.rngs):
            if rng.random() < self.config.epsilon:
                alone = {"state": observation["state"][i : i + 1]}
                chosen[i] = Random(self.bounds, self.config, rng)(alone)[0]
        return chosen
