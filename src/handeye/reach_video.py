"""Videos of reaching trials: what is there, what the network sees, and where it believes things are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

from handeye import checkpoint, planar_arm, reach_results
from handeye.envs import reach_pictures
from handeye.envs.reaching import PlanarReachConfig, PlanarReachVectorEnv
from handeye.rollout import episodes
from handeye.types import Episode, Observation, Policy
from handeye.video import BAD, GOOD, INK, PAPER, QUIET, check_suffix, font, write

TRIALS = 6
COLUMNS = 2
PANEL_PX = 3 * reach_pictures.SIZE_PX
GAP_PX = 8
CAPTION_PX = 24
HEADER_PX = 30
MOST_FRAMES = 120
BELIEF = "#dc1e5a"


@dataclass(frozen=True)
class Actor:
    """Who is filmed: a policy made with its environment, and the perception whose belief is drawn, if it has one."""

    label: str
    make: Callable[[PlanarReachVectorEnv], Policy]
    perception: nn.Module | None = None
    config: PlanarReachConfig = PlanarReachConfig()
    sees: bool = True
    """Whether it acts on pictures; otherwise it is given the true Θ."""


@dataclass(frozen=True)
class Moment:
    """N trials at one step: poses (N, 3), targets (N, 2), the pictures (N, 84, 84), and the belief Θ̂ (N, 5)."""

    joints_rad: NDArray
    target_m: NDArray
    pictures: NDArray[np.uint8]
    belief: NDArray | None


@dataclass
class Recorder:
    """A policy that notes the state of its environment whenever it is asked."""

    env: PlanarReachVectorEnv
    policy: Policy
    perception: nn.Module | None
    moments: list[Moment] = field(default_factory=list)

    def __call__(self, observation: Observation, /) -> NDArray:
        self.note()
        return self.policy(observation)

    def note(self) -> None:
        """Remember the present moment."""
        pictures = self.env.pictures[..., 0].copy()
        belief = None if self.perception is None else reach_results.see(self.perception, pictures)
        self.moments.append(Moment(self.env.joints_rad.copy(), self.env.target_m.copy(), pictures, belief))


def write_trials(name: str, seed: int | None, domain: str, path: Path) -> None:
    """Film the fine-tuned net of checkpoint `name`, or a policy of the world, on a few trials.

    The trials are the first of the fixed protocol, or fresh ones drawn from `seed`.

    Raises:
        Misuse: no such domain, or `path` has another suffix than .gif, .webp or .mp4.
        Failure: no such checkpoint, a package is missing, or the file cannot be written.
    """
    check_suffix(path)
    write(path, film(find_actor(name), reach_results.choose_trials(TRIALS, seed), domain, seed or 0))


def find_actor(name: str) -> Actor:
    """A policy of the world, or of a checkpoint's net that has learnt most. Raises: CheckpointError: no such one."""
    if name in reach_results.WORLD_POLICIES:
        return Actor(name, reach_results.WORLD_POLICIES[name])
    loaded = reach_results.load_nets(name, checkpoint.load(checkpoint.find(name)))
    return actor_of(loaded, next(net for net in ("finetuned", "initial", "control") if net in loaded.nets))


def actor_of(loaded: reach_results.ReachNets, net: str) -> Actor:
    """The policy of one net of a checkpoint."""
    perception = loaded.nets[net][0]
    policy = loaded.policy(net)
    return Actor(f"{loaded.name}: {net}", lambda env: policy, perception, loaded.config.env, perception is not None)


def film(actor: Actor, trials: dict[str, NDArray], domain: str, seed: int = 0) -> list[Image.Image]:
    """Frames of M trials side by side; the last shows how they ended.

    Args:
        trials: reset options of M trials, as `reach_results.choose_trials` gives them.
        seed: decides the camera domain's noise.
    """
    observe = "image" if actor.sees else "both"
    env = PlanarReachVectorEnv(len(trials["target_m"]), actor.config, "disabled", observe=observe, domain=domain)
    recorder = Recorder(env, actor.make(env), actor.perception)
    ended = episodes(env, recorder, keep=(), seed=seed, options=trials)
    recorder.note()
    header = _header(actor, domain)
    stride = max(1, -(-len(recorder.moments) // MOST_FRAMES))
    shown = [*range(0, len(recorder.moments) - 1, stride), len(recorder.moments) - 1]
    return [_frame(header, recorder.moments[step], step, ended) for step in shown]


def _header(actor: Actor, domain: str) -> Image.Image:
    """The line above the trials, which says what is shown."""
    image = Image.new("RGB", (_width(), HEADER_PX), PAPER)
    pen = ImageDraw.Draw(image)
    place = "simulation" if domain == "sim" else "synthetic camera domain"
    pen.text((2 * GAP_PX, 6), f"{actor.label}, {place}", INK, font(16))
    words, colour = "right: the picture, which it does not need", QUIET
    if actor.perception is not None:
        words, colour = "outline: where it believes arm and target are   right: what it sees", BELIEF
    pen.text((_width() - 2 * GAP_PX, 8), words, colour, font(13), anchor="ra")
    return image


def _width() -> int:
    return COLUMNS * (2 * PANEL_PX + GAP_PX) + (COLUMNS + 1) * 2 * GAP_PX


def _frame(header: Image.Image, moment: Moment, step: int, ended: list[Episode]) -> Image.Image:
    belief = None if moment.belief is None else planar_arm.from_theta(moment.belief)
    large = reach_pictures.draw_colour(moment.target_m, moment.joints_rad, belief)
    row_px = PANEL_PX + CAPTION_PX + GAP_PX
    rows = -(-len(ended) // COLUMNS)
    frame = Image.new("RGB", (_width(), HEADER_PX + rows * row_px), PAPER)
    frame.paste(header, (0, 0))
    for i, episode in enumerate(ended):
        left = 2 * GAP_PX + i % COLUMNS * (2 * PANEL_PX + 3 * GAP_PX)
        top = HEADER_PX + i // COLUMNS * row_px
        _paste_trial(frame, (left, top), large[i], moment.pictures[i])
        text, colour = _caption(i, step, episode)
        ImageDraw.Draw(frame).text((left, top + PANEL_PX + 4), text, colour, font(14))
    return frame


def _paste_trial(frame: Image.Image, at: tuple[int, int], large: NDArray[np.uint8], seen: NDArray[np.uint8]) -> None:
    panel = (PANEL_PX, PANEL_PX)
    frame.paste(Image.fromarray(large).resize(panel, Image.Resampling.BOX), at)
    left, top = at[0] + PANEL_PX + GAP_PX, at[1]
    frame.paste(Image.fromarray(seen).resize(panel, Image.Resampling.NEAREST).convert("RGB"), (left, top))
    pen = ImageDraw.Draw(frame)
    for corner in (at[0], left):
        pen.rectangle((corner, top, corner + PANEL_PX - 1, top + PANEL_PX - 1), outline="#d5d3cb")


def _caption(i: int, step: int, episode: Episode) -> tuple[str, str]:
    """What is written below trial `i` at `step`, and its colour."""
    length = len(episode.reward)
    step = min(step, length)
    text = f"trial {i + 1}   step {step}   {100 * episode.facts['distance_m'][step]:.1f} cm"
    if step < length:
        return text, QUIET
    if episode.facts["is_success"][-1]:
        return f"{text}   reached", GOOD
    return f"{text}   {'hit a joint limit' if episode.facts['limit_hit'][-1] else 'not reached'}", BAD
