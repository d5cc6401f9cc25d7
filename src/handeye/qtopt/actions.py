"""The mixed action of grasping: how far to move and turn, what the fingers do, and whether to stop.

An action is (N, 8) float: displacement in metres (3), sine and cosine of the rotation, close, open, terminate.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SIZE = 8
COMMANDS = 3
"""Of the fingers: nothing, close, open."""
POSE = 4
"""Numbers that say where to: displacement (3) and rotation."""


@dataclass(frozen=True)
class ActionBounds:
    """What an action may be."""

    move_m: float
    turn_rad: float
    terminates: bool
    """Whether the policy decides when to stop; else no action says so."""


def encode(pose: Tensor, command: Tensor, stop: Tensor, bounds: ActionBounds) -> Tensor:
    """Actions (…, 8) of poses (…, 4) in [−1, 1], commands (…) in 0 … 2, and stops (…) in 0, 1."""
    angle = pose[..., 3] * bounds.turn_rad
    one_hot = torch.stack([command == 1, command == 2, stop == 1], -1).to(pose.dtype)
    return torch.cat([pose[..., :3] * bounds.move_m, angle.sin()[..., None], angle.cos()[..., None], one_hot], -1)


def for_network(actions: Tensor, bounds: ActionBounds) -> Tensor:
    """Actions (…, 8) as networks read them: the displacement as a share of its bound, the rest as it is."""
    return torch.cat([actions[..., :3] / bounds.move_m, actions[..., 3:]], -1)
