"""Perception: trained on pictures drawn as it goes, then adapted with a share from a second domain."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handeye import augment
from handeye.checkpoint import Tree
from handeye.errors import need
from handeye.learner import Learner, cosine, muon_and_adam
from handeye.modular.losses import perception_loss
from handeye.nn import low_precision, to_float
from handeye.types import FloatArray

Source = Callable[[int, np.random.Generator], tuple[NDArray[np.uint8], FloatArray]]
"""Draws n labelled pictures: (n, 84, 84) uint8 and Θ (n, 5)."""

SightLoss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
"""Loss of a network on pictures (m, 1, 84, 84) and Θ (m, 5)."""


def theta_loss(net: nn.Module, pictures: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """L_p of what `net` sees."""
    return perception_loss(net(pictures).float(), theta)


@dataclass(frozen=True)
class PerceptionConfig:
    """Training of perception. Raises ValueError for values that train nothing."""

    steps: int = 20_000
    batch: int = 64
    learning_rate: float = 1e-3
    """Of Adam at the start; it falls to 0 along half a cosine."""
    muon_rate: float = 0.0
    """Likewise of Muon, which takes over the kernels of all layers but the last; 0 leaves them to Adam."""
    camera_share: float = 0.0
    """Share of second-domain pictures in each batch: 0 is SIM, 1 is RW, 0.75 is FT75."""
    augment: float = 0.0
    """Strength of the photometric augmentation of second-domain pictures, 0 … 1."""
    average: float = 0.0
    """Rate of the running average of the weights that is kept in the end; 0 keeps the last weights."""

    def __post_init__(self) -> None:
        need(self, ("steps",), 1, 100_000_000)
        need(self, ("batch",), 1, 100_000)
        need(self, ("learning_rate",), 0, 1, above=True)
        need(self, ("camera_share", "augment", "average", "muon_rate"), 0, 1)


class PerceptionStage:
    """Regression of Θ from pictures of two sources, `camera_share` of them from `camera`."""

    def __init__(
        self, net: nn.Module, average: nn.Module, sim: Source, camera: Source, config: PerceptionConfig, seed: int,
        loss: SightLoss = theta_loss,
    ) -> None:  # fmt: skip
        """`average` has the shape of `net`; device and starting weights are those of `net`."""
        self.loss = loss
        self.net, self.sim, self.camera, self.config = net, sim, camera, config
        optimisers = muon_and_adam(net, config.muon_rate, config.learning_rate)
        self.learner = Learner(net, average, optimisers)
        self.steps, self.done = config.steps, 0
        self.rng = np.random.default_rng(seed)
        self.device = next(net.parameters()).device

    def step(self) -> dict[str, float]:
        """One update. Returns the loss and the learning rate."""
        pictures, theta = self._batch()
        with low_precision(self.device):
            loss = self.loss(self.net, pictures, theta)
        scale = cosine(self.done, self.steps)
        # Early on the average forgets faster, so that it does not remember the start.
        keep = max(self.config.average, 1 / (1 + self.done)) if self.config.average else 1.0
        self.learner.update(loss, scale, keep)
        self.done += 1
        return {"loss": loss.item(), "rate": self.config.learning_rate * scale}

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        from_camera = round(self.config.batch * self.config.camera_share)
        parts, labels = [], []
        for source, count in ((self.sim, self.config.batch - from_camera), (self.camera, from_camera)):
            if count:
                pictures, theta = source(count, self.rng)
                tensor = to_float(pictures[..., None], self.device)
                if source is self.camera and self.config.augment:
                    tensor = augment.photometric(tensor, self.rng, self.config.augment)
                parts.append(tensor)
                labels.append(torch.as_tensor(theta, device=self.device))
        return torch.cat(parts), torch.cat(labels)

    def state(self) -> Tree:
        return self.learner.state() | {"rng": self.rng.bit_generator.state, "done": self.done}

    def load_state(self, state: Tree) -> None:
        self.learner.load_state(state)
        self.rng.bit_generator.state = state["rng"]
        self.done = state["done"]

    def result(self) -> dict[str, torch.Tensor]:
        return self.learner.average.state_dict()
