"""Augmentation of a still camera's few labelled pictures: targets are moved, and the arm turned about its shoulder.

The paper's network learnt 1418 pictures by heart: it read those to 0.8 px and new ones to 3.5 px. Where nothing but the
arm and the target moves, both can be taken from their places and put elsewhere, and the picture stays a true one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from handeye import planar_arm
from handeye.envs import reach_pictures
from handeye.modular.networks import LIFT_GREY
from handeye.modular.perception import Source
from handeye.squares import COLUMN, ROW, Grey, Squares, within
from handeye.types import FloatArray

BACKGROUND_QUANTILE = 0.7
"""Of a pixel's grey over all pictures: the arm is darker than what it hides, and is elsewhere most of the time."""
BRIGHTEST_RATIO = 1.25
UNTURNED = 0.25
"""Share of the pictures that are not turned."""

PATCH_PX = 5.5
"""The target, and what hangs about it, lies within this radius."""
SEARCH_PX = 6.0
"""The target's centre is searched for within this radius of where its label says."""
ARM_RADIUS_M = 0.09
CLEAR_M = SEARCH_PX * planar_arm.M_PER_PX + ARM_RADIUS_M
"""A target that is farther than this from the arm's axis can be taken out."""
BRIGHT_GREY = 80.0
"""What a background must have about a target that is moved: where it is dark, the target does not stand out."""
ALIKE = 20
"""A target comes from one of about this many places whose background is most like that of its new place."""
FEWEST = 30
"""With fewer targets to take, none is moved; with fewer pictures in the open, none is turned."""
MOVING_M = 0.16
"""The arm, its gripper, and the lens' error about them lie within this distance of the arm's axis."""


def background(pictures: NDArray[np.uint8]) -> Grey:
    """What stands behind the arm (H, W), of pictures (N, H, W) by a camera that does not move."""
    return np.quantile(pictures, BACKGROUND_QUANTILE, axis=0).astype(np.float32)


def axis_distance(points: NDArray, axis: NDArray) -> NDArray:
    """Distance (N, K) of points (N or 1, K, 2) from chains of straight segments (N, S, 2)."""
    nearest = np.array(np.inf, axis.dtype)
    for start, end in zip(axis.swapaxes(0, 1)[:-1], axis.swapaxes(0, 1)[1:], strict=True):
        along, away = (end - start)[:, None], points - start[:, None]
        part = np.clip((away * along).sum(-1) / (along**2).sum(-1), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(away - part[..., None] * along, axis=-1))
    return nearest


def arm_distance(target_m: NDArray, joints_rad: NDArray) -> NDArray:
    """Distance (N,) in metres of targets (N, 2) from the axis of the arm in poses (N, 3)."""
    return axis_distance(target_m[:, None], planar_arm.forward(joints_rad))[:, 0]


def arm_pixels(joints_rad: NDArray, to_px: Callable[[NDArray], NDArray]) -> NDArray[np.bool_]:
    """Which pixels (N, H, W) the arm may cover in poses (N, 3), of a camera that shows positions (K, 2) at pixels."""
    points = planar_arm.forward(joints_rad)
    axis_px = to_px(points.reshape(-1, 2)).reshape(points.shape).astype(np.float32)
    pixels = np.stack([COLUMN.ravel(), ROW.ravel()], 1)[None].astype(np.float32)
    covered = axis_distance(pixels, axis_px) <= MOVING_M / planar_arm.M_PER_PX
    return covered.reshape(len(points), *COLUMN.shape)


def resampled(pictures: Grey, back: NDArray) -> Grey:
    """Pictures (N, H, W) whose pixel p, in units of half a picture, is read at back · (p, 1), (N, 2, 3); outside: 0."""
    column, row = (2 * axis.astype(np.float32) / reach_pictures.SIZE_PX - 1 for axis in (COLUMN[:1], ROW[:, :1]))
    turn = back.astype(np.float32)[:, :, :, None, None]
    # By hand: torch's affine_grid takes longer than all the rest.
    grid = np.stack([turn[:, i, 0] * column + (turn[:, i, 1] * row + turn[:, i, 2]) for i in (0, 1)], -1)
    shown = torch.as_tensor(pictures)[:, None]
    return functional.grid_sample(shown, torch.as_tensor(grid), align_corners=False)[:, 0].numpy()


def turned_theta(theta: NDArray, angle_rad: NDArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Θ (N, 5) after turns (N,) about the shoulder, counter-clockwise, and which of them stay within all limits."""
    target, joints = planar_arm.from_theta(theta)
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    target = np.stack([cos * target[:, 0] - sin * target[:, 1], sin * target[:, 0] + cos * target[:, 1]], axis=1)
    joints[:, 0] -= angle_rad
    s1 = joints[:, 0]
    allowed = planar_arm.in_region(target) & (planar_arm.LOWER_RAD[0] <= s1) & (s1 <= planar_arm.UPPER_RAD[0])
    return planar_arm.to_theta(target, joints), allowed


def turned_pictures(ratio: Grey, moves: NDArray[np.bool_], angle_rad: NDArray, centre_px: NDArray) -> Grey:
    """Pictures over their background (N, H, W), what `moves` in them turned counter-clockwise about a point (2,).

    All else, noise among it, stays where it is.
    """
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    x, y = 2 * centre_px / reach_pictures.SIZE_PX - 1
    rows = [np.stack([cos, -sin, x - cos * x + sin * y], 1), np.stack([sin, cos, y - sin * x - cos * y], 1)]
    # What comes from outside the picture is 0 there: background.
    return (resampled((ratio - 1) * moves, np.stack(rows, 1)) + 1) * np.where(moves, np.float32(1), ratio)


@dataclass(frozen=True)
class StillCamera:
    """Labelled pictures (N, 84, 84) uint8 with Θ (N, 5), all by one camera that does not move."""

    pictures: NDArray[np.uint8]
    theta: FloatArray

    @cached_property
    def behind(self) -> Grey:
        """The background (84, 84)."""
        return background(self.pictures)

    @cached_property
    def exposure(self) -> Grey:
        """Exposure (N, 1, 1) of each picture relative to the background."""
        ratio = (self.pictures + LIFT_GREY) / (self.behind + LIFT_GREY)
        return np.median(ratio, axis=(1, 2), keepdims=True).astype(np.float32)

    @cached_property
    def free(self) -> NDArray[np.intp]:
        """Which pictures show a target away from the arm, before a bright background."""
        target, joints = planar_arm.from_theta(self.theta)
        clear = arm_distance(target, joints) > CLEAR_M
        return np.flatnonzero(clear & (self.brightness(reach_pictures.to_px(target)) > BRIGHT_GREY))

    @cached_property
    def centres_px(self) -> NDArray:
        """Where the free targets (F, 2) appear: the middle of what is dark about the labelled place."""
        target, _ = planar_arm.from_theta(self.theta[self.free])
        near = within(SEARCH_PX, reach_pictures.to_px(target))
        dark = np.clip(0.85 * self.behind * self.exposure[self.free] - self.pictures[self.free], 0, None) * near
        total = dark.sum((1, 2)).clip(1e-6)
        return np.stack([(dark * COLUMN).sum((1, 2)) / total, (dark * ROW).sum((1, 2)) / total], 1)

    @cached_property
    def projection(self) -> NDArray:
        """Affine map (2, 3) from positions in metres to pixels, fitted to the free targets."""
        if len(self.free) < FEWEST:
            scale = np.array([[1.0, 0], [0, -1.0]]) / planar_arm.M_PER_PX
            return np.column_stack([scale, reach_pictures.SHOULDER_PX])
        target, _ = planar_arm.from_theta(self.theta[self.free])
        flat = np.column_stack([target, np.ones(len(target))])
        fit = np.linalg.lstsq(flat, self.centres_px, rcond=None)[0]
        # A second time, without targets that were not found.
        found = np.linalg.norm(flat @ fit - self.centres_px, axis=1) < 2
        return np.linalg.lstsq(flat[found], self.centres_px[found], rcond=None)[0].T

    def in_the_open(self, theta: NDArray) -> NDArray[np.bool_]:
        """Of scenes Θ (N, 5), whether the arm from the elbow on, and whether the target, is before the bright (N, 2).

        What stands before the dark looks another way there, if it is seen at all.
        """
        target, joints = planar_arm.from_theta(theta)
        elbow_on = planar_arm.forward(joints)[:, 1:]
        points = np.concatenate([elbow_on, (elbow_on[:, 1:] + elbow_on[:, :-1]) / 2], 1)
        grey = self.brightness(self.to_px(points.reshape(-1, 2))).reshape(len(points), -1)
        return np.stack([grey.min(1), self.brightness(self.to_px(target))], 1) > BRIGHT_GREY

    @cached_property
    def open(self) -> NDArray[np.bool_]:
        """`in_the_open` (N, 2) of the pictures."""
        return self.in_the_open(self.theta)

    @cached_property
    def arm_pixels(self) -> NDArray[np.bool_]:
        """Which pixels (N, 84, 84) the arm may cover."""
        return arm_pixels(planar_arm.from_theta(self.theta)[1], self.to_px)

    def to_px(self, position_m: NDArray) -> NDArray:
        """Pixels (N, 2) where this camera sees positions (N, 2)."""
        return position_m @ self.projection[:, :2].T + self.projection[:, 2]

    @cached_property
    def darkest(self) -> Grey:
        """Darkest grey (84, 84) of the background, smoothed, in the square of a target about each pixel."""
        smooth = functional.avg_pool2d(torch.as_tensor(self.behind)[None, None], 5, 1, 2)
        margin = int(PATCH_PX)
        return -functional.max_pool2d(-functional.pad(smooth, (margin,) * 4), 2 * margin + 1, 1)[0, 0].numpy()

    def brightness(self, centre_px: NDArray) -> NDArray:
        """`darkest` (N,) about points (N, 2); 0 outside the picture."""
        column, row = np.floor(centre_px).astype(int).T
        inside = (column >= 0) & (column < reach_pictures.SIZE_PX) & (row >= 0) & (row < reach_pictures.SIZE_PX)
        return np.where(inside, self.darkest[row * inside, column * inside], 0)

    @cached_property
    def by_brightness(self) -> tuple[NDArray, NDArray[np.intp]]:
        """Brightness (F,) of the background about the free targets, rising, and their order."""
        grey = self.brightness(self.centres_px)
        order = np.argsort(grey)
        return grey[order], order

    def emptied(self, which: NDArray[np.intp]) -> Grey:
        """Pictures `which` (indices into `free`) without their targets."""
        own, centre = self.free[which], self.centres_px[which]
        shown = self.pictures[own].astype(np.float32)
        about = Squares.about(centre, SEARCH_PX)
        empty = about.read(self.behind[None], 0) * self.exposure[own]
        about.put(shown, empty, about.within(SEARCH_PX, centre))
        return shown

    def with_target(self, base: Grey, exposure: Grey, taken: NDArray[np.intp], centre_px: NDArray) -> Grey:
        """Pictures without a target (N, H, W), of some exposure (N, 1, 1), with that of `taken` (N,) at points (N, 2).

        Before the background, the difference that the target makes to its own background is added. Before the arm
        only what is darker than the background shows, since the arm hides what hangs behind the target.
        """
        about, source = Squares.about(centre_px, PATCH_PX), self.free[taken]
        by = centre_px - self.centres_px[taken]
        before, behind = about.read(base, np.arange(len(base))), about.read(self.behind[None], 0) * exposure
        over = about.read_shifted(self.pictures, source, by) / self.exposure[source] * exposure
        under = about.read_shifted(self.behind[None], 0, by) * exposure
        middle = about.within(1.6, centre_px)
        disc = ((over * middle).sum((1, 2)) / middle.sum((1, 2)).clip(1))[:, None, None]
        cover = np.clip((under - over) / np.maximum(under - disc, 1), 0, 1)
        arm = np.clip((0.9 - before / (behind + 1)) / 0.2, 0, 1)
        grey = (1 - arm) * (before + over - under) + arm * ((1 - cover) * before + cover * disc)
        shown = base.copy()
        about.put(shown, grey, about.within(PATCH_PX, centre_px))
        return shown

    def turned(self, which: NDArray[np.intp], shown: Grey, theta: NDArray, angle_rad: NDArray) -> Grey:
        """Arm and target of `shown` (N, 84, 84), from pictures `which` and with Θ (N, 5), turned about the shoulder."""
        lifted, exposure = self.behind + LIFT_GREY, self.exposure[which]
        target, _ = planar_arm.from_theta(theta)
        moves = self.arm_pixels[which] | within(PATCH_PX, self.to_px(target))
        ratio = np.minimum((shown + LIFT_GREY) / (lifted * exposure), BRIGHTEST_RATIO).astype(np.float32)
        turned = turned_pictures(ratio, moves, angle_rad, self.to_px(np.zeros((1, 2)))[0])
        return turned * lifted * exposure - LIFT_GREY


def retargeted(
    camera: StillCamera, which: NDArray[np.intp], rng: np.random.Generator, near: float
) -> tuple[Grey, FloatArray, NDArray[np.bool_]]:
    """Pictures `which` (indices into `camera.free`) with targets elsewhere, Θ (N, 5), and which of them are so.

    A share `near` of the new places lies near the arm.
    """
    own = camera.free[which]
    _, joints = planar_arm.from_theta(camera.theta[own])
    target = planar_arm.random_targets(rng, joints, near)
    centre = camera.to_px(target)
    grey = camera.brightness(centre)
    greys, order = camera.by_brightness
    rank = np.searchsorted(greys, grey) + rng.integers(-ALIKE, ALIKE + 1, len(which))
    taken = order[np.clip(rank, 0, len(order) - 1)]
    shown = camera.with_target(camera.emptied(which), camera.exposure[own], taken, centre)
    return shown, planar_arm.to_theta(target, joints), grey > BRIGHT_GREY


def picked(
    turns: NDArray[np.bool_], every: NDArray[np.intp], open_ones: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.intp]:
    """For each of `turns` (N,) one of the open ones where it is true, else one of all."""
    anyone, seen = (pool[rng.integers(len(pool), size=len(turns))] for pool in (every, open_ones))
    return np.where(turns, seen, anyone)


def rearranging_source(
    camera: StillCamera,
    turn_rad: float,
    move_share: float,
    near: float = planar_arm.NEAR_SHARE,
) -> Source:
    """Draws a camera's labelled pictures with replacement, most of them rearranged.

    A share `move_share` is drawn from those whose target can be taken out, and the target put elsewhere. Three quarters
    are drawn from those in the open, and turned by a normal angle of σ `turn_rad`, unless that would leave a limit, the
    target region or the open. With too few in the open, none is turned.
    """
    every, free = np.arange(len(camera.pictures)), np.arange(len(camera.free))
    in_the_open, free_in_the_open = np.flatnonzero(camera.open.all(1)), np.flatnonzero(camera.open[camera.free, 0])
    movable = move_share if len(free) >= FEWEST else 0.0
    fewest = min(len(in_the_open), len(free_in_the_open)) if movable else len(in_the_open)
    unturned = UNTURNED if turn_rad and fewest >= FEWEST else 1.0
    if unturned == 1:
        in_the_open, free_in_the_open = every, free

    def draw(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], FloatArray]:
        turns = rng.random(count) >= unturned
        which = picked(turns, every, in_the_open, rng)
        shown, labels = camera.pictures[which].astype(np.float32), camera.theta[which]
        movers = np.flatnonzero(rng.random(count) < movable)
        if len(movers):
            taken = picked(turns[movers], free, free_in_the_open, rng)
            grey, label, done = retargeted(camera, taken, rng, near)
            moved = movers[done]
            shown[moved], labels[moved], which[moved] = grey[done], label[done], camera.free[taken[done]]
        angle = np.where(turns, rng.normal(0, turn_rad, count), 0.0)
        after, allowed = turned_theta(labels, angle)
        turned = np.flatnonzero(allowed & (angle != 0) & camera.in_the_open(after).all(1))
        if len(turned):
            shown[turned] = camera.turned(which[turned], shown[turned], labels[turned], angle[turned])
            labels[turned] = after[turned]
        return np.clip(shown + 0.5, 0, 255).astype(np.uint8), labels

    return draw
