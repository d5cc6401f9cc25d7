"""A contact sheet that moves: several grasps at once, seen over the shoulder."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from handeye import grasp_results
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.envs.rendering import CameraConfig
from handeye.rollout import episodes, policy_rng
from handeye.types import Episode, Observation, Policy
from handeye.video import BAD, GOOD, INK, PAPER, QUIET, check_suffix, font, write

FILMED = 8
COLUMNS = 4
VIEW = CameraConfig(camera="shoulder", width_px=240, height_px=192, shadows=True)
GAP_PX, CAPTION_PX, HEADER_PX = 8, 24, 30
FRAME_MS = 200


@dataclass
class Recorder:
    """A policy that takes a picture of every bin whenever it is asked."""

    env: GraspVectorEnv
    policy: Policy
    moments: list[NDArray[np.uint8]] = field(default_factory=list)

    def __call__(self, observation: Observation, /) -> NDArray:
        self.note()
        return self.policy(observation)

    def note(self) -> None:
        """Remember the present moment."""
        self.moments.append(self.env.picture(VIEW))


def write_grasps(name: str, config: GraspConfig, seeds: Sequence[int], path: Path, noise: float = 0.0) -> None:
    """Film the episodes of the first seeds, as `grasp_results.play` runs them.

    Raises:
        Misuse: `path` has another suffix than .gif, .webp or .mp4.
        Failure: a package is missing, or the file cannot be written.
    """
    check_suffix(path)
    write(path, film(name, config, seeds[:FILMED], noise=noise), FRAME_MS)


def film(
    name: str, config: GraspConfig, seeds: Sequence[int], title: str | None = None, noise: float = 0.0
) -> list[Image.Image]:
    """One frame for each step of the longest episode; who ended stays as it ended."""
    # Policies of the world look at no pictures, and drawing them changes nothing that happens.
    seen = replace(config, observe="objects") if name in grasp_results.WORLD_POLICIES else config
    env = GraspVectorEnv(len(seeds), seen, "disabled")
    policy = grasp_results.acting(grasp_results.policy_of(name), env, [policy_rng(seed) for seed in seeds], noise)
    recorder = Recorder(env, policy)
    ended = episodes(env, recorder, keep=(), seed=list(seeds))
    recorder.note()
    above = f"{name}, {config.world.split} objects" if title is None else title
    return [_frame(above, pictures, step, ended) for step, pictures in enumerate(recorder.moments)]


def _frame(title: str, pictures: NDArray[np.uint8], step: int, ended: list[Episode]) -> Image.Image:
    columns = _columns(len(ended))
    across, down = VIEW.width_px + GAP_PX, VIEW.height_px + CAPTION_PX + GAP_PX
    rows = -(-len(ended) // columns)
    frame = Image.new("RGB", (columns * across + GAP_PX, HEADER_PX + rows * down), PAPER)
    pen = ImageDraw.Draw(frame)
    pen.text((GAP_PX, 6), title, INK, font(16))
    for i, episode in enumerate(ended):
        left, top = GAP_PX + i % columns * across, HEADER_PX + i // columns * down
        frame.paste(Image.fromarray(pictures[i]), (left, top))
        text, colour = _caption(step, episode)
        if step >= len(episode.reward):
            pen.rectangle((left, top, left + VIEW.width_px - 1, top + VIEW.height_px - 1), outline=colour, width=3)
        pen.text((left, top + VIEW.height_px + 4), text, colour, font(14))
    return frame


def _columns(count: int) -> int:
    """At most `COLUMNS`, and no emptier a last row than must be."""
    return -(-count // -(-count // COLUMNS))


def _caption(step: int, episode: Episode) -> tuple[str, str]:
    """What is written below an episode at `step`, and its colour."""
    length = len(episode.reward)
    if step < length:
        return f"step {step}", QUIET
    if episode.facts["is_success"][-1]:
        return f"step {length}   grasped", GOOD
    return f"step {length}   {grasp_results.failure(episode)}", BAD
