"""Several networks as one: each is trained by itself, and they decide together."""

from typing import Any

import torch
from torch import Tensor, nn

from handeye.qtopt.networks import Inputs


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


def part(member: int) -> str:
    """How the weights of a member begin."""
    return f"nets.{member}"
