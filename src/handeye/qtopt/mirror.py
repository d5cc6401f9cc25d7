"""The bin's mirror image: left and right of the robot are alike, but for the light.

A camera that looks along the robot's x axis, as the one that follows the gripper does, sees the mirrored world as its
picture turned left to right. So a Q-network can learn from either, and be asked about both.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handeye.qtopt.networks import SHORT_STATE, Inputs

ACTION = (1, -1, 1, -1, 1, 1, 1, 1)
"""Signs of an action in the mirror: y, and the sine of the rotation, change."""
OBJECTS, POSE, LONG_STATE = (1, -1, 1), (1, -1, 1, -1, 1), (1, 1, 1, 1, -1, -1, 1)
"""Signs of what the simulator knows (envs/known.py), and of a state that tells the gripper's pose."""


def batch_in_mirror(batch: dict[str, Any], which: NDArray[np.bool_]) -> dict[str, Any]:
    """A batch of steps, of which those `which` (N,) are seen in the mirror: observations before and after, action."""
    seen = {name: _observation(batch[name], which) for name in ("observation", "next_observation")}
    return batch | seen | {"action": _turned(batch["action"], ACTION, which)}


def _observation(observation: dict[str, NDArray], which: NDArray[np.bool_]) -> dict[str, NDArray]:
    signs = {"objects": OBJECTS, "pose": POSE, "state": _state_signs(observation["state"].shape[1])}
    turned = {name: _turned(observation[name], signs[name], which) for name in signs if name in observation}
    if "image" in observation:
        pictures = observation["image"]
        flipped = which[:, None, None, None]
        turned["image"] = np.where(flipped, pictures[:, :, ::-1], pictures)
    return turned


def _turned(values: NDArray, signs: tuple[int, ...], which: NDArray[np.bool_]) -> NDArray:
    """Rows (N, …, K), of which those `which` have their last axis times `signs`."""
    turned = values.copy()
    turned[which] *= np.asarray(signs, values.dtype)
    return turned


def _state_signs(size: int) -> tuple[int, ...]:
    signs = LONG_STATE if size > SHORT_STATE else ()
    return signs + (1,) * (size - len(signs))


class BothWays(nn.Module):
    """A network of pictures whose logit is the mean of what it says of a picture and of its mirror image."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def encode(self, inputs: Inputs) -> tuple[Any, Tensor | None]:
        state = inputs.state
        mirrored = state * state.new_tensor(_state_signs(state.shape[1]))
        both = Inputs(torch.cat([inputs.seen, inputs.seen.flip(-1)]), torch.cat([state, mirrored]))
        encoding, theta = self.net.encode(both)
        return encoding, None if theta is None else theta[: len(state)]

    def score(self, encoding: Any, action: Tensor) -> Tensor:
        here, there = self.net.score(encoding, torch.cat([action, action * action.new_tensor(ACTION)])).chunk(2)
        return (here + there) / 2
