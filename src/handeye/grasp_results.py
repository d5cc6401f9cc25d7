"""What a policy does in the bin: the fixed protocol of grasping and its figures."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from handeye.envs.bin import BinConfig
from handeye.envs.grasp_policies import Oracle, Scripted
from handeye.envs.grasping import GraspConfig, GraspVectorEnv, RewardSource, action_space
from handeye.envs.objects import FAMILY_NAMES
from handeye.errors import Misuse
from handeye.metrics import wilson
from handeye.rollout import episodes as run_episodes
from handeye.types import Episode, Observation, Policy

SHAPE_COLUMNS = {"success": "is_success", "wedged": "wedged", "jammed": "jammed"}
PROTOCOL_EPISODES = 700
PROTOCOL_SEED = 7_000_000
WORLDS = 50
MOST_EPISODES = 1_000_000
HELD_OUT_MODELS = 48
"""Scenes of five held-out objects: 240 shapes."""


def random_actions(env: GraspVectorEnv, seed: int) -> Policy:
    """Uniform within the bounds of the actions."""
    rng, box = np.random.default_rng(seed), action_space(env.config)

    def act(observation: Observation, /) -> NDArray:
        return rng.uniform(box.low, box.high, (env.num_envs, *box.shape))

    return act


WORLD_POLICIES: dict[str, Callable[[GraspVectorEnv, int], Policy]] = {
    "grasp:random": random_actions,
    "grasp:scripted": lambda env, seed: Scripted(env, np.random.default_rng(seed)),
    "grasp:oracle": lambda env, seed: Oracle(env),
}
"""Policies of the world itself, each built with the environment and a seed."""


def world_of(objects: str) -> BinConfig:
    """The default bin with `train` or `heldout` objects."""
    return BinConfig() if objects == "train" else BinConfig(split="heldout", models=HELD_OUT_MODELS)


def evaluate(
    name: str, episodes: int, seed: int | None, objects: str, console: Console, reward: RewardSource = "truth"
) -> dict[str, Any]:
    """`handeye evaluate` for grasping: the dictionary of `--json`. Without a seed the protocol's scenes are used.

    `reward` names who pays: `truth` or `pictures`.

    Raises:
        Misuse: no such policy, or too few or too many episodes.
    """
    if name not in WORLD_POLICIES:
        raise Misuse(f"no policy {name!r}; valid: {', '.join(WORLD_POLICIES)}")
    if not 1 <= episodes <= MOST_EPISODES:
        raise Misuse(f"--episodes must be in 1 … {MOST_EPISODES}, got {episodes}")
    config = GraspConfig(world=world_of(objects), observe="objects", reward_source=reward)
    env = GraspVectorEnv(min(WORLDS, episodes), config, "disabled")
    first = PROTOCOL_SEED if seed is None else seed * MOST_EPISODES
    ended: list[Episode] = []
    with console.status(f"{name}: grasping") as status:
        while len(ended) < episodes:
            policy = WORLD_POLICIES[name](env, first + len(ended))
            ended += run_episodes(env, policy, keep=(), seed=first + len(ended))
            status.update(f"{name}: {len(ended)} of {episodes} grasps")
    about = {"task": "grasp", "checkpoint": name, "objects": objects, "episodes": episodes, "seed": seed}
    return about | {"reward_source": reward} | grasp_figures(ended[:episodes])


def grasp_figures(ended: list[Episode]) -> dict[str, Any]:
    """Success with Wilson's interval, what failed episodes failed of, lengths and returns."""
    success = [bool(episode.facts["is_success"][-1]) for episode in ended]
    paid = [bool(episode.facts["rewarded"][-1]) for episode in ended]
    low, high = wilson(sum(success), len(success))
    failures = Counter(failure(episode) for episode, good in zip(ended, success, strict=True) if not good)
    return {
        "success": sum(success) / len(success),
        "ci_low": low,
        "ci_high": high,
        "label_success": sum(paid) / len(paid),
        "label_errors": {
            "false_positive": sum(said and not good for said, good in zip(paid, success, strict=True)),
            "false_negative": sum(good and not said for said, good in zip(paid, success, strict=True)),
        },
        "steps_mean": float(np.mean([len(episode.reward) for episode in ended])),
        "return_mean": float(np.mean([episode.reward.sum(dtype=np.float64) for episode in ended])),
        "failures": dict(failures.most_common()),
        "multi_object": sum(int(episode.facts["objects_held"][-1]) > 1 for episode in ended),
        "shapes": shape_table(ended),
    }


def shape_table(ended: list[Episode]) -> dict[str, dict[str, int]]:
    """Of each family of objects that episodes were about: how many, and how many succeeded, wedged and jammed."""
    last = [
        {name: episode.facts[name][-1] for name in ("family", "is_success", "wedged", "jammed")} for episode in ended
    ]
    table = {}
    for number, family in enumerate(FAMILY_NAMES):
        own = [facts for facts in last if facts["family"] == number]
        if own:
            counts = {name: sum(bool(facts[fact]) for facts in own) for name, fact in SHAPE_COLUMNS.items()}
            table[family] = {"episodes": len(own)} | counts
    return table


def failure(episode: Episode) -> str:
    """What an unsuccessful episode failed of: what kept it from going on, or else the earliest in its course."""
    last = {name: values[-1] for name, values in episode.facts.items()}
    if last["diverged"]:
        return "diverged"
    for name in ("wedged", "jammed"):
        if last[name]:
            return name
    if not last["closed"]:
        return "never closed" if episode.truncated else "stopped too early"
    if not last["pressed"]:
        return "missed"
    if last["rose"]:
        return "slipped"
    return "timed out" if episode.truncated else "not lifted"
