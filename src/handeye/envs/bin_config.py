"""What a bin is like: sizes, times and limits, and which objects lie in it."""

from dataclasses import dataclass, replace

from handeye.errors import Misuse, need, need_one_of


@dataclass(frozen=True)
class BinConfig:
    """The world. Raises ValueError for values that make none."""

    objects: int = 5
    split: str = "train"
    models: int = 240
    """Scenes compiled for a split: each has other objects."""
    placements: int = 8
    """Settled placements kept of each scene."""
    timestep_s: float = 0.004
    step_s: float = 0.16
    """Simulated time of a step."""
    grip_s: float = 0.08
    """Of a step in which the fingers change, this much passes before the arm moves."""
    reach_m: float = 0.125
    """The gripper stays within this of the tray's middle, in x and y."""
    lowest_m: float = 0.006
    """Least height of the fingertips."""
    highest_m: float = 0.28
    start_m: tuple[float, float] = (0.18, 0.25)
    """Range of the fingertips' height at the start."""
    start_offset_m: float = 0.05
    """The start lies within this of the tray's middle, in x and y."""
    easy_start_m: float = 0.1
    """Height of the fingertips, above the object that stands clearest, at the easiest start; see `Bin.ease`."""
    spread_m: float = 0.1
    """Objects are dropped within this of the tray's middle, in x and y."""

    def __post_init__(self) -> None:
        need(self, ("objects",), 1, 20)
        need(self, ("models", "placements"), 1, 100_000)
        need_one_of(self, "split", ("train", "heldout"))
        need(self, ("timestep_s",), 0.0005, 0.01)
        need(self, ("step_s", "grip_s"), self.timestep_s, 2)
        if self.grip_s >= self.step_s:
            raise Misuse(f"grip_s must be less than step_s, {self.step_s:g}, got {self.grip_s:g}")
        need(self, ("reach_m", "spread_m"), 0, 0.5)
        need(self, ("start_offset_m",), 0, self.reach_m)
        need(self, ("lowest_m", "highest_m"), 0, 1)
        low, high = self.start_m
        if not self.lowest_m <= low <= high <= self.highest_m:
            limits = f"{self.lowest_m:g} … {self.highest_m:g}"
            raise Misuse(f"start_m must be a range within lowest_m … highest_m, {limits}, got {low:g} … {high:g}")
        need(self, ("easy_start_m",), self.lowest_m, self.highest_m)


DEFAULT = BinConfig()
HELD_OUT_MODELS = 48
"""Scenes of five held-out objects: 240 shapes."""
HELD_OUT_PLACEMENTS = 64
"""Of each: evaluations, which are not many, shall hardly meet one twice."""


def world_of(objects: str, like: BinConfig = DEFAULT) -> BinConfig:
    """A bin like another one, with `train` or `heldout` objects."""
    if objects == like.split:
        return like
    if objects == "train":
        return replace(like, split=objects, models=DEFAULT.models, placements=DEFAULT.placements)
    return replace(like, split=objects, models=HELD_OUT_MODELS, placements=HELD_OUT_PLACEMENTS)
