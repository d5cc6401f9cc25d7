"""Networks of `reach-best`: perception through keypoints, control through kinematic features.

Both keep the five-number bottleneck Θ between them and the gradient that passes through it.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from handeye.modular.networks import Darkness


@dataclass(frozen=True)
class Geometry:
    """A planar arm and the camera that sees it, as plain numbers: what Θ means.

    `along_m` and `down_m` are the links' offsets, `low` and `high` the range of each of the five numbers of Θ
    (target x, y in metres, then joints in radians), `origin_px` the first joint in the picture, y down.
    """

    along_m: tuple[float, ...]
    down_m: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    origin_px: tuple[float, float]
    m_per_px: float

    def metric(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Target (N, 2) in metres and joints (N, 3) in radians of Θ (N, 5)."""
        low, high = theta.new_tensor(self.low), theta.new_tensor(self.high)
        values = low + theta * (high - low)
        return values[:, :2], values[:, 2:]

    def links(self, joints_rad: Tensor) -> Tensor:
        """Vectors (N, 3, 2) in metres from joint to joint to hand."""
        heading = joints_rad.cumsum(1)
        along, down = heading.new_tensor(self.along_m), heading.new_tensor(self.down_m)
        x = along * heading.cos() - down * heading.sin()
        y = -along * heading.sin() - down * heading.cos()
        return torch.stack([x, y], -1)

    def points_px(self, theta: Tensor) -> Tensor:
        """Where elbow, wrist, hand and target (N, 4, 2) are in the picture, in pixels."""
        target, joints = self.metric(theta)
        points_m = torch.cat([self.links(joints).cumsum(1), target[:, None]], 1)
        flip = theta.new_tensor([1, -1]) / self.m_per_px
        return theta.new_tensor(self.origin_px) + points_m * flip


class KeypointPerception(nn.Module):
    """Pictures (N, 1, 84, 84) → Θ̂ (N, 5), by where the elbow, the wrist, the hand and the target are.

    A convolutional network gives each a heat map; a softmax over the picture turns it into a mean position, and
    angles of the lines between them give the joints. Two coordinate channels let it correct a camera's distortion.
    """

    POINTS = 4
    CELLS = 42
    """Side of a heat map; a cell is two pixels wide."""

    def __init__(self, geometry: Geometry, width: int = 64) -> None:
        super().__init__()
        self.geometry = geometry
        self.darkness = Darkness()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.ReLU(inplace=True))
        self.deep = nn.Sequential(
            nn.Conv2d(32, width, 3, stride=2, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=4, dilation=4), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, 4 * self.POINTS, 1), nn.PixelShuffle(2),
        )  # fmt: skip
        line = (torch.arange(84, dtype=torch.float32) + 0.5) / 42 - 1
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[[1, 0]]
        self.grid: Tensor
        self.centres_px: Tensor
        self.register_buffer("grid", grid, persistent=False)
        self.register_buffer("centres_px", 2 * torch.arange(self.CELLS) + 1.0, persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        return self.theta(self.positions(self.heat(picture)))

    def heat(self, picture: Tensor) -> Tensor:
        """Logits (N, 4, 42, 42) of where elbow, wrist, hand and target are."""
        where = self.grid.expand(len(picture), -1, -1, -1)
        seen = torch.cat([self.darkness(picture), where], 1).contiguous(memory_format=torch.channels_last)
        return self.deep(self.stem(seen)).float()

    def positions(self, heat: Tensor) -> Tensor:
        """Mean positions (N, 4, 2) in pixels of heat maps (N, 4, 42, 42)."""
        share = heat.flatten(2).softmax(-1).view_as(heat)
        x = (share.sum(2) * self.centres_px).sum(-1)
        y = (share.sum(3) * self.centres_px).sum(-1)
        return torch.stack([x, y], -1)

    def theta(self, points_px: Tensor) -> Tensor:
        """Θ̂ (N, 5) of elbow, wrist, hand and target (N, 4, 2) in pixels."""
        g = self.geometry
        flip = points_px.new_tensor([g.m_per_px, -g.m_per_px])
        elbow, wrist, hand, target = ((points_px - points_px.new_tensor(g.origin_px)) * flip).unbind(1)
        headings = [
            torch.atan2(-link[:, 1], link[:, 0]) - math.atan2(down, along)
            for link, down, along in zip((elbow, wrist - elbow, hand - wrist), g.down_m, g.along_m, strict=True)
        ]
        joints = torch.stack([headings[0], headings[1] - headings[0], headings[2] - headings[1]], 1)
        low, high = points_px.new_tensor(g.low), points_px.new_tensor(g.high)
        middle = ((low + high) / 2)[2:]
        joints = torch.remainder(joints - middle + math.pi, 2 * math.pi) - math.pi + middle
        return (torch.cat([target, joints], 1) - low) / (high - low)

    def loss(self, picture: Tensor, theta: Tensor) -> Tensor:
        """Cross-entropy between the heat maps and the points of Θ (N, 5), each shared by its four nearest cells.

        The mean position of such a share is the point itself, so the softmax's mean is right below a cell.
        """
        cell = ((self.geometry.points_px(theta) - 1) / 2).clamp(0, self.CELLS - 1.001)
        corner, part = cell.floor().long(), cell - cell.floor()
        logits = self.heat(picture).flatten(2).log_softmax(-1)
        total = logits.new_zeros(())
        for down in (0, 1):
            for right in (0, 1):
                index = (corner[..., 1] + down) * self.CELLS + corner[..., 0] + right
                weight = (part[..., 0] if right else 1 - part[..., 0]) * (part[..., 1] if down else 1 - part[..., 1])
                total = total - (weight * logits.gather(2, index[..., None])[..., 0]).mean()
        return total


def keypoint_loss(net: nn.Module, pictures: Tensor, theta: Tensor) -> Tensor:
    """`KeypointPerception.loss`, as perception's training calls it."""
    return cast(KeypointPerception, net).loss(pictures, theta)


class KinematicControl(nn.Module):
    """Θ (N, 5) → Q-values (N, 9), with the arm's forward kinematics as input features."""

    FEATURES = 5 + 6 + 2 * 4 + 6 + 1

    def __init__(self, geometry: Geometry, width: int = 256, actions: int = 9) -> None:
        super().__init__()
        self.geometry = geometry
        self.layers = nn.Sequential(
            nn.Linear(self.FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, actions)
        )

    def forward(self, theta: Tensor) -> Tensor:
        return self.layers(self.features(theta))

    def features(self, theta: Tensor) -> Tensor:
        """Θ, joint sines and cosines, the error at four scales, the hand's motion per joint, the distance."""
        target, joints = self.geometry.metric(theta)
        links = self.geometry.links(joints)
        hand = links.sum(1)
        # A joint turns all links after it about itself: the hand moves across the line from joint to hand.
        lever = links.flip(1).cumsum(1).flip(1)
        motion = torch.stack([lever[..., 1], -lever[..., 0]], -1)
        error = target - hand
        scaled = [torch.tanh(error / scale) for scale in (0.02, 0.06, 0.2, 0.6)]
        parts = [2 * theta - 1, joints.sin(), joints.cos(), *scaled, motion.flatten(1), error.norm(dim=1, keepdim=True)]
        return torch.cat(parts, 1)
