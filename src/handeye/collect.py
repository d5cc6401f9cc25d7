"""`handeye collect`: episodes of a policy, written to a store that can be continued."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from handeye import grasp_results
from handeye.envs.grasping import ENVIRONMENT, WORLD, GraspConfig
from handeye.envs.rendering import CameraConfig
from handeye.episodes import About, EpisodeWriter, read_column
from handeye.errors import Failure, Interrupted, Misuse
from handeye.grasp_video import write_grasps
from handeye.metrics import wilson
from handeye.progress import progress_bar, stop_signals
from handeye.types import Episode
from handeye.video import check_suffix

EXPERIMENTS = ("grasp",)
FIRST_SEED = 5 * 10**15
"""Seeds of collected episodes begin here, out of the way of those that evaluate."""


def seed_of(seed: int, number: int) -> int:
    """The seed of episode `number` of a collection with `--seed seed`."""
    return FIRST_SEED + seed * grasp_results.MOST_EPISODES + number


def find_policy(experiment: str, policy: str) -> str:
    """The full name of a policy that can collect. Raises: Misuse naming what can."""
    if experiment not in EXPERIMENTS:
        raise Misuse(f"nothing to collect from {experiment!r}; valid: {', '.join(EXPERIMENTS)}")
    names = {full.removeprefix("grasp:"): full for full in grasp_results.WORLD_POLICIES}
    short = policy.removeprefix("grasp:")
    if short in names:
        return names[short]
    from handeye import checkpoint

    if policy not in checkpoint.shipped() and not Path(policy).exists():
        raise Misuse(f"no policy {policy!r} to collect with; valid: {', '.join(names)}, or a checkpoint")
    grasp_results.load(policy)
    return policy


def collected(policy: str, options: Any) -> GraspConfig:
    """What a policy collects in: a checkpoint in what it was trained in, observed as it needs."""
    config = grasp_results.policy_of(policy).config
    config = replace(config, world=grasp_results.world_of(options.objects, config.world))
    if policy in grasp_results.WORLD_POLICIES:
        return replace(config, view=CameraConfig(camera=options.camera), observe=options.observe)
    return replace(config, observe="both") if options.observe == "both" else config


def command(options: Any, console: Console) -> None:
    """Collect as the options of the command say, film the first episodes if asked, and tell what is there.

    Raises: as `find_policy`, `collect` and `grasp_video.write_grasps`.
    """
    policy = find_policy(options.experiment, options.policy)
    if options.video is not None:
        check_suffix(Path(options.video))
    config = collected(policy, options)
    folder = Path(options.out)
    collect(policy, config, options.episodes, options.seed, folder, console, options.noise)
    if options.video is not None:
        seeds = range(seed_of(options.seed, 0), seed_of(options.seed, options.episodes))
        write_grasps(policy, config, seeds, Path(options.video), options.noise)
    console.print(_told(folder), markup=False, soft_wrap=True)


def collect(
    policy: str, config: GraspConfig, episodes: int, seed: int, folder: Path, console: Console, noise: float = 0.0
) -> None:
    """Append episodes to the store at `folder` until it holds `episodes`.

    Episode k is decided by `config`, `policy`, `noise`, `seed` and k alone. A simulation that diverged is left out, and
    the next k takes its place. So whoever is stopped and goes on ends with the same episodes in the same order.

    Args:
        policy: a full name, as `find_policy` gives it.
        noise: share of its actions that are random ones, as π_noisy's.

    Raises:
        Misuse: too few or too many episodes, or the folder holds those of another configuration, policy or seed.
        Failure: the folder cannot be written or read.
        Interrupted: the user stopped it; all episodes so far are saved.
    """
    grasp_results.check_episodes(episodes)
    weights = grasp_results.policy_of(policy).weights
    decided = {"env": asdict(config), "world": WORLD, "seed": seed}
    decided |= {name: value for name, value in {"noise": noise, "weights": weights}.items() if value}
    about = About(ENVIRONMENT, policy, decided)
    with stop_signals() as stopping, EpisodeWriter(folder, about) as store, progress_bar(console) as progress:
        success = _successes(folder)
        task = progress.add_task(policy, total=episodes, completed=len(success), facts="")
        first = int(read_column(folder, "seed")[-1]) + 1 if success else seed_of(seed, 0)
        for episode in _sound(policy, config, first, episodes - len(success), noise):
            store.add([episode])
            success.append(bool(episode.facts["is_success"][-1]))
            rate = 100 * sum(success) / len(success)
            progress.update(task, completed=len(success), facts=f"success {rate:.1f} %")
            if stopping:
                break
    if len(success) < episodes:
        raise Interrupted(f"stopped at episode {len(success)} of {episodes}")


def _successes(folder: Path) -> list[bool]:
    """Of each episode so far, whether it succeeded."""
    if not (folder / "manifest.json").is_file():
        return []
    last = np.cumsum(read_column(folder, "length") + 1) - 1
    return [bool(success) for success in read_column(folder, "facts/is_success")[last]]


def _sound(policy: str, config: GraspConfig, first: int, count: int, noise: float) -> Iterator[Episode]:
    """`count` episodes from seed `first` on, without those that diverged."""
    while count > 0:
        before = count
        for episode in grasp_results.play(policy, config, range(first, first + count), noise=noise):
            first = episode.provenance.seed + 1
            if not episode.facts["diverged"].any():
                count -= 1
                yield episode
        if count == before:
            raise Failure(f"all {count} simulations diverged: nothing can be collected with this configuration")


def figures(folder: Path) -> dict[str, Any]:
    """What a store of grasps holds: episodes, transitions, success with its interval, bytes."""
    success = _successes(folder)
    low, high = wilson(sum(success), len(success))
    return {
        "episodes": len(success),
        "transitions": int(read_column(folder, "length").sum()),
        "success": sum(success) / len(success),
        "ci_low": low,
        "ci_high": high,
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
    }


def _told(folder: Path) -> str:
    """What a finished collection says of itself, and what to do with it."""
    found = figures(folder)
    held = f"{found['episodes']} episodes, {found['transitions']} transitions, {found['bytes'] / 1e6:.1f} MB"
    rate, low, high = (100 * found[name] for name in ("success", "ci_low", "ci_high"))
    look = "import sys, handeye.episodes as e; print(next(e.read_episodes(sys.argv[1])).facts)"
    next_ = f'next: python -c "{look}" {shlex.quote(str(folder))}'
    return f"{folder}: {held}, success {rate:.1f} % ({low:.1f} … {high:.1f})\n{next_}"
