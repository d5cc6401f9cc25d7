"""Several networks as one: each learns for itself, and they decide together."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from handeye.nn import weights_of
from handeye.qtopt.networks import Inputs

Weights = Mapping[str, Tensor]


class Members(nn.Module):
    """Networks of one kind whose logits are averaged: an action that one thinks too much of, the others seldom do."""

    def __init__(self, nets: list[Any]) -> None:
        super().__init__()
        self.nets: Any = nn.ModuleList(nets)

    def encode(self, inputs: Inputs) -> tuple[list[Any], Tensor | None]:
        encoded = [net.encode(inputs) for net in self.nets]
        told = [theta for _, theta in encoded if theta is not None]
        return [encoding for encoding, _ in encoded], torch.stack(told).mean(0) if told else None

    def score(self, encoding: list[Any], action: Tensor) -> Tensor:
        said = [net.score(own, action).float() for net, own in zip(self.nets, encoding, strict=True)]
        return torch.stack(said).mean(0)


def members_of(net: Any) -> list[Any]:
    """The networks that decide together; of a network that decides alone, itself."""
    return list(net.nets) if isinstance(net, Members) else [net]


def joined(weights: Sequence[Weights]) -> Weights:
    """Weights of `Members` of networks with these; one network's stay as they are."""
    if len(weights) == 1:
        return weights[0]
    return {f"nets.{k}.{name}": value for k, own in enumerate(weights) for name, value in own.items()}


def apart(weights: Weights, members: int) -> list[Weights]:
    """The weights of each of so many networks: what `joined` was given."""
    return [weights] if members == 1 else [weights_of(f"nets.{k}", weights) for k in range(members)]
