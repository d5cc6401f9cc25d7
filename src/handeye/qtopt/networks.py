"""Q-networks: a picture or positions are encoded once, and many actions are scored on the encoding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from handeye.errors import Misuse, need, need_one_of
from handeye.modular.losses import scaled_gradient
from handeye.nn import centred, low_precision
from handeye.qtopt import actions
from handeye.qtopt.actions import ActionBounds
from handeye.types import Observation

Norm = Literal["none", "batch", "layer", "group"]
SHORT_STATE = 4
"""A longer state also tells the gripper's pose."""
POSITION = 3
"""Numbers of a position."""
GRIPPER = (10.0, 10.0, 10.0, 1.0, 1.0)
"""Scale of each number of the gripper's pose in Θ: lengths are in decimetres."""
NORMS = ("none", "batch", "layer", "group")


class Inputs(NamedTuple):
    """N observations as a network takes them: pictures (N, C, H, W) in [−½, ½] or what is known (N, K), and state."""

    seen: Tensor
    state: Tensor

    @property
    def states(self) -> int:
        return len(self.state)


def known_of(observation: Observation, device: torch.device | str = "cpu") -> Tensor:
    """What the simulator knows (N, 3 · objects), then `pose` (N, 5) where the observation has it; lengths in metres."""
    parts = [torch.as_tensor(observation[name], device=device) for name in ("objects", "pose") if name in observation]
    return torch.cat([part.flatten(1) for part in parts], 1)


def to_inputs(observation: Observation, device: torch.device | str = "cpu") -> Inputs:
    """What a network sees of an observation: `image` if there is one, else what is known; and `state`."""
    state = torch.as_tensor(observation["state"], device=device)
    if "image" in observation:
        return Inputs(centred(observation["image"], device), state)
    return Inputs(known_of(observation, device), state)


class QNetwork(Protocol):
    """What the maximiser and the learner need of a network."""

    def encode(self, inputs: Inputs) -> tuple[Any, Tensor | None]:
        """All that does not depend on the action, of N observations; and Θ̂ (N, P), where the network tells one."""
        ...

    def score(self, encoding: Any, action: Tensor) -> Tensor:
        """Logits (N, S) of actions (N, S, 8), S for each encoding, as `actions.for_network` gives them."""
        ...


def scorer(net: QNetwork, inputs: Inputs, bounds: ActionBounds) -> Callable[[Tensor], Tensor]:
    """Q-values (N, S) of actions (N, S, 8) on observations that are encoded once, here."""
    with low_precision(inputs.state.device):
        encoding, _ = net.encode(inputs)

    def score(action: Tensor) -> Tensor:
        with low_precision(inputs.state.device):
            return net.score(encoding, actions.for_network(action, bounds)).float().sigmoid()

    return score


def normed(kind: Norm, channels: int, flat: bool = False) -> nn.Module:
    """A normalisation of feature maps (N, C, H, W), or of flat features (N, C)."""
    if kind == "none":
        return nn.Identity()
    if kind == "batch":
        return (nn.BatchNorm1d if flat else nn.BatchNorm2d)(channels, eps=1e-3, momentum=3e-4)
    if kind == "layer":
        return nn.LayerNorm(channels) if flat else nn.GroupNorm(1, channels)
    return nn.LayerNorm(channels) if flat else nn.GroupNorm(8, channels)


class LateHead(nn.Module):
    """Scores actions on flat features: the first layer adds a part of the features, computed once, and of the action.

    A score costs (8 + width) · width multiplications and no convolution, so that CEM is nearly free.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.of_features = nn.Linear(features, width)
        self.of_action = nn.Linear(actions.SIZE, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def encode(self, features: Tensor) -> Tensor:
        """(N, features) → (N, width)."""
        return self.of_features(features)

    def forward(self, encoding: Tensor, action: Tensor) -> Tensor:
        """Logits (N, S)."""
        hidden = torch.relu(encoding[:, None] + self.of_action(action))
        return self.out(torch.relu(self.hidden(hidden)))[..., 0]


@dataclass(frozen=True)
class CompactConfig:
    """The compact networks. Raises ValueError for values that make none."""

    channels: tuple[int, ...] = (16, 32, 64)
    """Of the convolutions; each of stride 2, with merge=spatial the first two."""
    features: int = 256
    width: int = 256
    """Of the head."""
    norm: Norm = "layer"
    proprioception: bool = True
    """Whether the state (fingers, height, time) is shown; without it only the picture."""
    merge: Literal["late", "spatial"] = "late"
    """Where actions meet pictures: at flat features, or where they lead: see spatial_network.py."""
    sight: Literal["pixels", "aux", "bottleneck"] = "pixels"
    """What the head is shown of a picture: see PictureQ."""
    nearest: int = 3
    """Θ: the positions of so many objects, nearest to the fingertips first."""
    theta_pose: bool = False
    """Whether Θ goes on with the gripper's pose."""
    beta: float = 0.8
    """β of L = β L_p + (1 − β) L_q for what reads Θ̂."""
    first_value: float = 0.05
    """What an untrained network says Q is: high first guesses teach themselves."""

    def __post_init__(self) -> None:
        need(self, ("features", "width", "nearest"), 1, 100_000)
        least = 2 if self.merge == "spatial" else 1
        if len(self.channels) < least or min(self.channels) < 1:
            raise Misuse(
                f"channels must be {least} or more numbers above 0 with merge={self.merge}, got {self.channels}"
            )
        need(self, ("beta",), 0, 1)
        need_one_of(self, "sight", ("pixels", "aux", "bottleneck"))
        need_one_of(self, "merge", ("late", "spatial"))
        if self.merge == "spatial" and self.sight == "bottleneck":
            raise Misuse("sight=bottleneck shows the head no feature maps: use merge=late")
        need(self, ("first_value",), 0, 0.999, above=True)
        need_one_of(self, "norm", NORMS)

    @property
    def theta(self) -> int:
        """Numbers in Θ."""
        return POSITION * self.nearest + len(GRIPPER) * self.theta_pose


def theta_of(known: Tensor, config: CompactConfig) -> Tensor:
    """Θ (N, config.theta) of what is known (N, K), as `known_of` gives it; lengths in decimetres, to be of order 1."""
    objects = 10 * known[:, : POSITION * config.nearest]
    if not config.theta_pose:
        return objects
    return torch.cat([objects, known[:, -len(GRIPPER) :] * known.new_tensor(GRIPPER)], 1)


def start_low(out: nn.Linear, value: float) -> None:
    """Make a sigmoid's last layer say `value` at first."""
    nn.init.normal_(out.weight, std=0.01)
    nn.init.constant_(out.bias, float(torch.logit(torch.tensor(value))))


class StateQ(nn.Module):
    """Q of the true Θ, without a picture: the first check that all learns, and control before it sees."""

    def __init__(self, state: int, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.body = PositionBody(state, config)
        start_low(self.body.head.out, config.first_value)

    def encode(self, inputs: Inputs) -> tuple[Tensor, None]:
        return self.body.encode(theta_of(inputs.seen, self.config), inputs.state), None

    def score(self, encoding: Tensor, action: Tensor) -> Tensor:
        return self.body.head(encoding, action)


class PositionBody(nn.Module):
    """Scores actions on Θ (N, config.theta) and the state."""

    def __init__(self, state: int, config: CompactConfig) -> None:
        super().__init__()
        self.proprioception = config.proprioception
        width, inputs = config.features, config.theta + state * config.proprioception
        kind: Norm = "none" if config.norm == "none" else "layer"
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), normed(kind, width, flat=True), nn.ReLU(),
            nn.Linear(width, width), normed(kind, width, flat=True), nn.ReLU(),
        )  # fmt: skip
        self.head = LateHead(width, config.width)

    def encode(self, theta: Tensor, state: Tensor) -> Tensor:
        return self.head.encode(
            self.layers(torch.cat([theta, scaled_state(state)] if self.proprioception else [theta], 1))
        )


class PictureQ(nn.Module):
    """Q of small pictures: convolutions to flat features, to which actions are added late.

    `config.sight` says what passes from the features to the head. `pixels`: the features. `aux`: they and Θ̂, which is
    read from them. `bottleneck`: Θ̂ alone. Where there is a Θ̂, the gradient of L_q enters what reads it times 1 − β.
    """

    def __init__(self, size: tuple[int, int], state: int, config: CompactConfig) -> None:
        """`size`: height and width of the pictures."""
        super().__init__()
        self.config, self.sight = config, config.sight
        self.tower = Tower(size, config)
        self.theta = None if config.sight == "pixels" else nn.Linear(config.features, config.theta)
        joined = config.features + (config.theta if config.sight == "aux" else 0)
        self.body = PositionBody(state, config) if config.sight == "bottleneck" else FeatureBody(joined, state, config)
        start_low(self.body.head.out, config.first_value)

    def encode(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        features = self.tower(inputs.seen)
        if self.theta is None:
            return self.body.encode(features, inputs.state), None
        theta = self.theta(features)
        known = theta if self.sight == "bottleneck" else torch.cat([features, theta], 1)
        return self.body.encode(scaled_gradient(known, 1 - self.config.beta), inputs.state), theta

    def score(self, encoding: Tensor, action: Tensor) -> Tensor:
        return self.body.head(encoding, action)


class Tower(nn.Module):
    """Convolutions of stride 2 over pictures (N, 3, H, W), then one layer: (N, features)."""

    def __init__(self, size: tuple[int, int], config: CompactConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, (height, width) = 3, size
        for number, channels in enumerate(config.channels):
            kernel = 3 if number else 5
            layers += [
                nn.Conv2d(before, channels, kernel, stride=2, padding=kernel // 2),
                normed(config.norm, channels),
            ]
            layers += [nn.ReLU(inplace=True)]
            before, height, width = channels, (height + 1) // 2, (width + 1) // 2
        self.features = config.features
        kind: Norm = "none" if config.norm == "none" else "layer"
        # Before the last ReLU, whose gradient would come in another order of memory than that of its maps.
        layers.insert(-1, nn.Flatten())
        flat = [nn.Linear(before * height * width, self.features), normed(kind, self.features, flat=True), nn.ReLU()]
        self.layers = nn.Sequential(*layers, *flat)
        for module in self.layers:
            if isinstance(module, nn.Conv2d):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, picture: Tensor) -> Tensor:
        return self.layers(picture)


class FeatureBody(nn.Module):
    """Joins features with the state, and scores actions on both."""

    def __init__(self, features: int, state: int, config: CompactConfig) -> None:
        super().__init__()
        self.proprioception = config.proprioception
        self.join = nn.Linear(features + state * config.proprioception, config.features)
        self.head = LateHead(config.features, config.width)

    def encode(self, features: Tensor, state: Tensor) -> Tensor:
        parts = [features] + ([scaled_state(state).to(features.dtype)] if self.proprioception else [])
        return self.head.encode(torch.relu(self.join(torch.cat(parts, 1))))


def scaled_state(state: Tensor) -> Tensor:
    """The state (N, S) with lengths in decimetres, so that all is of order 1."""
    metres = {1, 3, 4} if state.shape[1] > SHORT_STATE else {1}
    return state * state.new_tensor([10.0 if i in metres else 1.0 for i in range(state.shape[1])])
