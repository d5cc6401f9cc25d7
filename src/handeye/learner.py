"""A network in training, with the running average of its weights, its optimisers, and all of their state."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handeye.checkpoint import Tree
from handeye.nn import average_into

Groups = Iterable[dict[str, Any]]


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised: every direction of a layer's kernel, as a matrix, moves equally fast.

    For hidden layers. The matrix of a convolution has a row for each output channel. Orthogonalisation is by five
    Newton–Schulz iterations, X ← aX + (bA + cA²)X with A = XXᵀ (Jordan et al., 2024), which bring all singular
    values near 1.
    """

    COEFFICIENTS = (3.4445, -4.7750, 2.0315)

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        """`parameters` have two dimensions or more."""
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; `closure` is not called."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                speed = self.state[kernel].setdefault("speed", torch.zeros_like(kernel))
                speed.lerp_(kernel.grad, 1 - group["momentum"])
                ahead = kernel.grad.lerp(speed, group["momentum"]).flatten(1)
                tall = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
                kernel.add_(self.orthogonal(ahead).view_as(kernel), alpha=-group["lr"] * tall)

    @classmethod
    def orthogonal(cls, matrix: Tensor) -> Tensor:
        """The nearest matrix with orthonormal rows, roughly: (R, C) → (R, C)."""
        a, b, c = cls.COEFFICIENTS
        x = matrix / matrix.norm().clamp_min(1e-12)
        for _ in range(5):
            square = x @ x.T
            x = a * x + (b * square + c * square @ square) @ x
        return x


def muon_and_adam(net: nn.Module, muon_rate: float, adam_rate: float) -> list[torch.optim.Optimizer]:
    """Muon on the kernels of convolutions, but of a last layer, Adam on the rest; with `muon_rate` 0, Adam on all."""
    parameters = list(net.parameters())
    # A wide dense layer takes longer to orthogonalise than to learn.
    kernels = [p for p in parameters if p.ndim > 1][:-1] if muon_rate else []
    kernels = [kernel for kernel in kernels if kernel.ndim == 4]
    hidden = {id(kernel) for kernel in kernels}
    adam = torch.optim.Adam([p for p in parameters if id(p) not in hidden], lr=adam_rate, fused=True)
    return [Muon(kernels, lr=muon_rate), adam] if kernels else [adam]


def cosine(step: int, steps: int) -> float:
    """Half a cosine from 1 at step 0 to 0 at `steps`."""
    return 0.5 * (1 + float(np.cos(np.pi * min(step / steps, 1.0))))


class Learner:
    """A network, the running average of its weights, and the optimisers of its parameters."""

    def __init__(
        self, net: nn.Module, average: nn.Module, optimisers: list[torch.optim.Optimizer], clip_norm: float = math.inf
    ) -> None:
        """`average` has the shape of `net` and takes over its weights; `clip_norm` bounds each optimiser's gradient."""
        self.net, self.average, self.optimisers, self.clip_norm = net, average, optimisers, clip_norm
        average.load_state_dict(net.state_dict())
        for group in self._groups():
            group["initial_lr"] = group["lr"]

    def update(self, loss: Tensor, scale: float, average_rate: float) -> None:
        """Descend, with every optimiser's learning rate times `scale`; then move the average by `average_rate`."""
        for group in self._groups():
            group["lr"] = group["initial_lr"] * scale
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in self.optimisers:
            if self.clip_norm < math.inf:
                held = [p for group in optimiser.param_groups for p in group["params"]]
                nn.utils.clip_grad_norm_(held, self.clip_norm)
            optimiser.step()
        average_into(self.average, self.net, average_rate)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimiser in self.optimisers for group in optimiser.param_groups]

    def state(self) -> Tree:
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict()["state"] for optimiser in self.optimisers],
        }

    def load_state(self, state: Tree) -> None:
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            full = optimiser.state_dict()
            # JSON made strings of the keys.
            full["state"] = {int(key): value for key, value in saved.items()}
            optimiser.load_state_dict(full)
