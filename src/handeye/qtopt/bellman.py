"""Targets of Q-learning: clipped double Q with a maximiser, several steps ahead if asked."""

from collections.abc import Sequence
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
    return torch.minimum(*_best(average, lagged, inputs, bounds, config, generator))


@torch.no_grad()
def values_in_turn(
    members: Sequence[QNetwork],
    double: bool,
    inputs: Inputs,
    bounds: ActionBounds,
    config: MaximiserConfig,
    generator: torch.Generator,
) -> Tensor:
    """V(s′) (N,) of M networks that learn together, by double Q-learning (van Hasselt, 2010).

    Member k looks for the best action in the states k, k + M, …, and what the next member says of it counts; without
    `double`, what it says itself.
    """
    value = inputs.state.new_empty(inputs.states)
    for k, member in enumerate(members):
        share = slice(k, None, len(members))
        judge = members[(k + 1) % len(members)] if double else None
        own = Inputs(inputs.seen[share], inputs.state[share])
        _, value[share] = _best(member, judge, own, bounds, config, generator)
    return value


def _best(
    net: QNetwork,
    judge: QNetwork | None,
    inputs: Inputs,
    bounds: ActionBounds,
    config: MaximiserConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """What a network says (N,) of its best actions, and what the judge says of them: without one, the same."""
    action, value = best_actions(scorer(net, inputs, bounds), inputs.states, bounds, config, generator)
    return value, value if judge is None else scorer(judge, inputs, bounds)(action[:, None])[:, 0]
