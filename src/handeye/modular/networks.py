"""Perception reads a picture into the bottleneck Θ̂; control turns Θ into Q-values; combined, they see and act."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from handeye.errors import Failure
from handeye.nn import low_precision, to_float
from handeye.types import Observation, Policy

THETA = 5
ACTIONS = 9

LIFT_GREY = 40.0
"""Added before a picture is divided by its background, so that noise in dark corners does not become snow."""


class Darkness(nn.Module):
    """1 − grey / brightest grey of the picture: what is drawn becomes a signal on a background near zero.

    In the simulator, whose paper is white, this is 1 − grey. A camera's exposure is divided out, so that what was
    learnt in simulation finds dark things on a bright ground there too.
    """

    def forward(self, picture: Tensor) -> Tensor:
        return 1 - picture / picture.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1 / 255)


class Foreground(nn.Module):
    """1 − share of the light that what stands before a still background leaves: near zero where nothing stands.

    A picture p was taken before white or before the background b that has been set, whichever leaves less. This is
    1 − (p + l)/(e(b + l)), with the exposure e, the median of (p + l)/(b + l). Where the background is white l is 0,
    which makes it 1 − grey in the simulator, and elsewhere `LIFT_GREY`.
    """

    behind: Tensor
    STRIDE = 3
    """Exposure and fit are judged by every third pixel of every third row."""

    def __init__(self) -> None:
        """Before white, until `behind` is set."""
        super().__init__()
        self.register_buffer("behind", torch.ones(1, 1, 84, 84))

    def forward(self, picture: Tensor) -> Tensor:
        behind = torch.cat([torch.ones_like(self.behind), self.behind], 1)
        lift = LIFT_GREY / 255 * (behind < 1)
        lifted = behind + lift
        coarse = (..., slice(None, None, self.STRIDE), slice(None, None, self.STRIDE))
        ratio = ((picture[coarse] + lift[coarse]) / lifted[coarse]).flatten(2)
        exposure = ratio.median(2, keepdim=True).values.clamp_min(1 / 255)
        fits = (ratio / exposure - 1).abs().mean(2).argmin(1)
        exposed = exposure.gather(1, fits[:, None, None])[..., None] * lifted[0, fits][:, None]
        before = 1 - (picture + lift[0, fits][:, None]) / exposed
        # Channels last in memory: the convolutions take twice as long otherwise.
        return before.view(len(picture), *picture.shape[2:], 1).permute(0, 3, 1, 2)


def perception_net() -> nn.Sequential:
    """The paper's perception: (N, 1, 84, 84) in [0, 1] → Θ̂ (N, 5). 105,728 parameters in its convolutions."""
    net = nn.Sequential(
        Foreground(),
        nn.Conv2d(1, 64, 7, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 4, stride=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3),
        # Before the ReLU: its gradient comes in the order of flat features, and ten times slower to maps in another.
        nn.Flatten(),
        nn.ReLU(inplace=True),
        nn.Linear(17 * 17 * 64, THETA),
    )
    for module in net:
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return net


def stand_before(net: nn.Module, grey: NDArray[np.float32]) -> None:
    """Tell the paper's perception what stands behind the arm in second-domain pictures: (84, 84), grey 0 … 255."""
    foreground = next(module for module in net.modules() if isinstance(module, Foreground))
    foreground.behind.copy_(torch.as_tensor(grey) / 255)


def control_net() -> nn.Sequential:
    """The paper's control: Θ (N, 5) → Q-values (N, 9). 125,409 parameters."""
    return nn.Sequential(nn.Linear(THETA, 400), nn.ReLU(), nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, ACTIONS))


def load_conv1(net: nn.Module, path: str) -> None:
    """Start the first convolution from a safetensors file with `weight` (64, 1, 7, 7) and, if given, `bias` (64,).

    Raises:
        Failure: missing or corrupt file, missing tensor or another shape.
    """
    if not Path(path).is_file():
        raise Failure(f"no conv1 weights file at {path}")
    try:
        given = load_file(path)
    except (SafetensorError, OSError) as error:
        raise Failure(f"conv1 weights {path}: corrupt or not a safetensors file ({error})") from error
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    for name, own in first.named_parameters():
        if name == "bias" and name not in given:
            continue
        found = tuple(given[name].shape) if name in given else "nothing"
        if found != tuple(own.shape):
            raise Failure(f"conv1 weights {path}: {name} must have shape {tuple(own.shape)}, found {found}")
        own.data.copy_(given[name])


def perceive(perception: nn.Module, picture: NDArray | Tensor) -> Tensor:
    """Θ̂ (N, 5) float32 of pictures (N, 84, 84, 1) uint8; in bf16 where that is faster."""
    return perceive_float(perception, to_float(picture, next(perception.parameters()).device))


def perceive_float(perception: nn.Module, picture: Tensor) -> Tensor:
    """Θ̂ (N, 5) float32 of pictures (N, 1, 84, 84) in [0, 1]."""
    with low_precision(picture.device):
        return perception(picture).float()


def greedy_on_theta(control: nn.Module) -> Policy:
    """argmax Q on the true Θ in `observation["state"]`: control with perfect sight."""

    @torch.no_grad()
    def act(observation: Observation, /) -> NDArray:
        device = next(control.parameters()).device
        return control(torch.as_tensor(observation["state"], device=device)).argmax(1).cpu().numpy()

    return act


def greedy_on_picture(perception: nn.Module, control: nn.Module, batch: int = 64) -> Policy:
    """argmax Q on what perception sees in `observation["image"]`, `batch` pictures at a time."""

    @torch.no_grad()
    def act(observation: Observation, /) -> NDArray:
        parts = torch.as_tensor(observation["image"]).split(batch)
        return torch.cat([control(perceive(perception, part)).argmax(1) for part in parts]).cpu().numpy()

    return act
