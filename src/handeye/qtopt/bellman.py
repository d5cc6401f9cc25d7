"""Targets of Q-learning: clipped double Q with a maximiser, several steps ahead if asked."""

from typing import NamedTuple

import torch
from torch import Tensor

from handeye.qtopt.actions import ActionBounds
from handeye.qtopt.cem import MaximiserConfig, best_actions
from handeye.qtopt.networks import Inputs, QNetwork, scorer


class Targets(NamedTuple):
    """What Q should be (N,), and the share of it that had to be clipped into [0, 1]."""

    target: Tensor
    clipped: float


def clip_targets(reward: Tensor, discount: Tensor, value: Tensor) -> Targets:
    """r + discount · V(s′), clipped to [0, 1], what a sigmoid can say; `discount` (N,) is 0 after a terminal step."""
    target = reward + discount * value
    outside = (target < 0) | (target > 1)
    return Targets(target.clamp(0, 1), float(outside.float().mean()))


@torch.no_grad()
def state_values(
    average: QNetwork,
    lagged: QNetwork | None,
    inputs: Inputs,
    bounds: ActionBounds,
    config: MaximiserConfig,
    generator: torch.Generator,
) -> Tensor:
    """V(s′) (N,) = min over both networks of Q(s′, argmax_a Q_average(s′, a)); of one network without `lagged`."""
    score = scorer(average, inputs, bounds)
    action, value = best_actions(score, inputs.states, bounds, config, generator)
    if lagged is None:
        return value
    return torch.minimum(value, scorer(lagged, inputs, bounds)(action[:, None])[:, 0])
