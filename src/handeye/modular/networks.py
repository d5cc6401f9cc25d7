"""Perception reads a picture into the bottleneck Θ̂; control turns Θ into Q-values; combined, they see and act."""

from pathlib import Path

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


class Darkness(nn.Module):
    """1 − grey / brightest grey of the picture: what is drawn becomes a signal on a background near zero.

    In the simulator, whose paper is white, this is 1 − grey. A camera's exposure is divided out, so that what was
    learnt in simulation finds dark things on a bright ground there too.
    """

    def forward(self, picture: Tensor) -> Tensor:
        return 1 - picture / picture.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1 / 255)


def perception_net() -> nn.Sequential:
    """The paper's perception: (N, 1, 84, 84) in [0, 1] → Θ̂ (N, 5). 105,728 parameters in its convolutions."""
    net = nn.Sequential(
        Darkness(),
        nn.Conv2d(1, 64, 7, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(17 * 17 * 64, THETA),
    )
    for module in net:
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return net


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
    """Θ̂ (N, 5) float32 of pictures (N, 84, 84, 1) uint8; in bf16 where that is native."""
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
