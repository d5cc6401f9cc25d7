"""The paper's Q-network (Fig. 13): 472×472 pictures, actions added in the middle of the convolutions."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from handeye.qtopt.networks import Inputs

CHANNELS = 64
SIZE_PX = 472
BLOCKS = (3, 2, 1, 1, 1, 1, 1)
"""Displacement, rotation, close, open, terminate, fingers' opening, height."""
DECAY, EPSILON = 0.9997, 1e-3
WEIGHT_STD = 0.01


def _norm_2d() -> nn.Module:
    return nn.BatchNorm2d(CHANNELS, eps=EPSILON, momentum=1 - DECAY)


def _convolutions(count: int, kernel: int, padding: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=padding, bias=False), _norm_2d(), nn.ReLU()]
    return layers


def _dense(inputs: int) -> list[nn.Module]:
    norm = nn.BatchNorm1d(CHANNELS, eps=EPSILON, momentum=1 - DECAY)
    return [nn.Linear(inputs, CHANNELS, bias=False), norm, nn.ReLU()]


class PaperQ(nn.Module):
    """1,242,817 parameters. The tower costs 4.2 GMAC a picture, what follows the action 0.17 GMAC an action."""

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(3, CHANNELS, 6, stride=2, padding=2, bias=False), _norm_2d(), nn.ReLU()]
        pool = nn.MaxPool2d(3, ceil_mode=True)
        self.tower = nn.Sequential(*first, pool, *_convolutions(6, 5, 2), nn.MaxPool2d(3, ceil_mode=True))
        self.blocks = nn.ModuleList(nn.Linear(size, 256) for size in BLOCKS)
        # Centred but not scaled: with it the parameters come to the published number.
        self.joined = nn.BatchNorm1d(256, eps=EPSILON, momentum=1 - DECAY, affine=False)
        self.joined_bias = nn.Parameter(torch.zeros(256))
        self.added = nn.Sequential(*_dense(256))
        self.after = nn.Sequential(
            *_convolutions(6, 3, 1), nn.MaxPool2d(2, ceil_mode=True), *_convolutions(3, 3, 0), nn.Flatten(),
            *_dense(8 * 8 * CHANNELS), *_dense(CHANNELS), nn.Linear(CHANNELS, 1),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=WEIGHT_STD, a=-2 * WEIGHT_STD, b=2 * WEIGHT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def encode(self, inputs: Inputs) -> tuple[tuple[Tensor, Tensor], None]:
        """Feature maps (N, 64, 27, 27) of pictures (N, 3, 472, 472), and fingers' opening and height (N, 2)."""
        return (self.tower(inputs.seen), inputs.state[:, :2]), None

    def score(self, encoding: tuple[Tensor, Tensor], action: Tensor) -> Tensor:
        """Logits (N, S) of actions (N, S, 8) as `actions.for_network` gives them."""
        maps, state = encoding
        count, samples = action.shape[:2]
        each = torch.cat([action.flatten(0, 1), state.repeat_interleave(samples, 0)], 1)
        parts = each.split(BLOCKS, dim=1)
        summed = sum(block(part) for block, part in zip(self.blocks, parts, strict=True))
        context = self.added(functional.relu(self.joined(summed) + self.joined_bias))
        merged = maps.repeat_interleave(samples, 0) + context[:, :, None, None]
        return self.after(merged).view(count, samples)
