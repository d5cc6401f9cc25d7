"""A Q-network that looks where an action leads: features are read from the picture at the place it moves above.

A camera that moves with the gripper shows the place below the gripper's goal always at the same pixel for the same
displacement. So whether there is something to grasp need not be learnt anew for every direction.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from handeye.modular.losses import scaled_gradient
from handeye.qtopt import actions
from handeye.qtopt.networks import CompactConfig, Inputs, Norm, normed, scaled_state, start_low


class View(NamedTuple):
    """Where displacements appear in a picture.

    Rows (3, 3) of a projective map from (x, y, 1), shares of their bound, to (u, v, 1), halves of a picture right
    and down.
    """

    rows: tuple[tuple[float, float, float], ...]
    still: float = 0.0
    """Of a camera that does not move along: shares of their bound in a metre."""

    def project(self, share: Tensor, gripper_m: Tensor | None = None) -> Tensor:
        """Places (N, S, 2) of displacements (N, S, 2); for a still camera, of grippers at (N, 2)."""
        rows = share.new_tensor(self.rows)
        share = share + self.still * gripper_m[:, None] if self.still and gripper_m is not None else share
        seen = share @ rows[:, :2].T + rows[:, 2]
        return seen[..., :2] / seen[..., 2:]


class SpatialQ(nn.Module):
    """Q of small pictures by a camera that moves with the gripper.

    The head is shown: the feature map where the action leads (sampled between its cells), the map below the gripper,
    the whole picture's features, the state and the action. Nothing but the first is computed for every action. With
    `config.sight` `aux` it also says Θ̂, is shown it, and the gradient of L_q enters the picture's features times 1 − β.
    """

    def __init__(self, size: tuple[int, int], state: int, view: View, config: CompactConfig) -> None:
        """`size`: height and width of the pictures."""
        super().__init__()
        self.view, self.proprioception = view, config.proprioception
        channels = config.channels[-1]
        self.maps = nn.Sequential(*_tower(config))
        cells = (-(-size[0] // 8)) * (-(-size[1] // 8))
        kind: Norm = "none" if config.norm == "none" else "layer"
        self.whole = nn.Sequential(
            Halved(), nn.Flatten(), nn.Linear(channels * cells, config.features),
            normed(kind, config.features, flat=True), nn.ReLU(),
        )  # fmt: skip
        self.config = config
        self.theta = nn.Linear(config.features, config.theta) if config.sight == "aux" else None
        known = config.features + channels + state * config.proprioception + (config.theta if self.theta else 0)
        self.of_known = nn.Linear(known, config.width)
        self.of_place = nn.Linear(channels, config.width, bias=False)
        self.of_action = nn.Linear(actions.SIZE, config.width, bias=False)
        self.hidden = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, 1)
        start_low(self.out, config.first_value)

    def encode(self, inputs: Inputs) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor | None]:
        """Feature maps (N, C, H / 4, W / 4), the gripper's place, and what else the head is shown, (N, width)."""
        maps, theta = self.maps(inputs.seen), None
        shown = self.whole(maps)
        if self.theta is not None:
            theta, share = self.theta(shown), 1 - self.config.beta
            shown, maps = scaled_gradient(torch.cat([shown, theta], 1), share), scaled_gradient(maps, share)
        if not maps.requires_grad:
            # Once, where many actions will be scored.
            maps = maps.float()
        gripper = inputs.state[:, 3:5]
        parts = [shown, self._at(maps, inputs.state.new_zeros(len(maps), 1, 2), gripper)[:, 0]]
        parts += [scaled_state(inputs.state)] if self.proprioception else []
        return (maps, gripper, self.of_known(torch.cat(parts, 1))), theta

    def score(self, encoding: tuple[Tensor, Tensor, Tensor], action: Tensor) -> Tensor:
        maps, gripper, known = encoding
        place = self._at(maps, action[..., :2], gripper)
        hidden = torch.relu(known[:, None] + self.of_place(place) + self.of_action(action))
        return self.out(torch.relu(self.hidden(hidden)))[..., 0]

    def _at(self, maps: Tensor, share: Tensor, gripper_m: Tensor) -> Tensor:
        """Features (N, S, C) where displacements (N, S, 2) of grippers at (N, 2) lead."""
        return looked_up(maps, self.view.project(share.float(), gripper_m))


def looked_up(maps: Tensor, place: Tensor) -> Tensor:
    """Features (N, S, C) float32 of maps (N, C, H, W), between the four cells around places (N, S, 2).

    Places are in halves of a map, right and down of its middle; beyond its edges everything is 0.
    """
    if not maps.requires_grad:
        return functional.grid_sample(maps.float(), place[:, :, None], align_corners=False)[..., 0].transpose(1, 2)
    # The gradient of that comes in another order of memory than the maps have, for which all layers before would pay.
    count, channels, height, width = maps.shape
    size = place.new_tensor([width, height])
    at = ((place + 1) * size - 1)[..., None, :] / 2
    cell = at.floor() + place.new_tensor([[0, 0], [1, 0], [0, 1], [1, 1]])
    there = cell.clamp(torch.zeros_like(size), size - 1)
    weight = (1 - (at - cell).abs()).prod(-1) * (there == cell).all(-1)
    x, y = there.long().unbind(-1)
    row = (torch.arange(count, device=maps.device)[:, None, None] * height + y) * width + x
    cells = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    return (cells[row].float() * weight[..., None]).sum(-2)


class Halved(nn.Module):
    """Means of two by two cells of maps (N, C, H, W), of fewer at odd edges: AvgPool2d(2, ceil_mode=True)."""

    def forward(self, maps: Tensor) -> Tensor:
        return _Means.apply(maps)


class _Means(torch.autograd.Function):
    """Torch's own gradient of them takes four to eight times as long on a processor, in float32 and in bf16."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.size = maps.shape[-2:]
        return functional.avg_pool2d(maps, 2, ceil_mode=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        height, width = ctx.size
        cells = functional.avg_pool2d(gradient.new_ones(1, 1, height, width), 2, ceil_mode=True, divisor_override=1)
        each = (gradient / cells).contiguous(memory_format=torch.channels_last)
        return functional.interpolate(each, scale_factor=2)[..., :height, :width]


def _tower(config: CompactConfig) -> list[nn.Module]:
    """Convolutions: two of stride 2, then as many as there are channels left, the last of them dilated."""
    layers: list[nn.Module] = []
    before, last = 3, len(config.channels) - 1
    for number, channels in enumerate(config.channels):
        kernel, reach = (3 if number else 5), (2 if number == last else 1)
        stride = 2 if number < 2 else 1
        convolution = nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2 * reach, dilation=reach)
        convolution.weight.data = convolution.weight.data.contiguous(memory_format=torch.channels_last)
        layers += [convolution, normed(config.norm, channels), nn.ReLU(inplace=True)]
        before = channels
    return layers
