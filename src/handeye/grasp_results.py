"""What a policy does in the bin: the fixed protocol of grasping and its figures."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from handeye.envs.bin_config import world_of
from handeye.envs.grasp_policies import Oracle, Random, Scripted
from handeye.envs.grasping import ENVIRONMENT, GraspConfig, GraspVectorEnv, RewardSource, observation_space
from handeye.envs.objects import FAMILY_NAMES
from handeye.errors import Misuse, one_line
from handeye.metrics import wilson
from handeye.rollout import episodes_in_turn, policy_rng
from handeye.types import Episode, Observation, Policy

if TYPE_CHECKING:
    from handeye.grasp_config import GraspLearning
    from handeye.qtopt.workers import PolicyOf

SHAPE_COLUMNS = {"success": "is_success", "wedged": "wedged", "jammed": "jammed"}
PROTOCOL_EPISODES = 700
PROTOCOL_SEED = 7_000_000
WORLDS = 50
MOST_EPISODES = 1_000_000
WORLD_POLICIES: "dict[str, PolicyOf]" = {
    "grasp:random": Random,
    "grasp:scripted": Scripted,
    "grasp:oracle": lambda env, rngs: Oracle(env),
}
"""Policies of the world itself, each built with the environment and one generator for each of its bins."""


@dataclass(frozen=True)
class Learnt:
    """A grasping checkpoint: its configuration and its network."""

    config: "GraspLearning"
    net: Any


def load(name: str) -> Learnt:
    """The network of a final grasping checkpoint.

    Raises:
        CheckpointError: no such checkpoint, one of another task, or one whose weights do not fit.
    """
    # Torch comes with them, which a process that only collects does without.
    from handeye import checkpoint, grasp, grasp_config
    from handeye.checkpoint import CheckpointError

    tree = checkpoint.load(checkpoint.find(name))
    task = tree.get("task") if isinstance(tree, dict) else None
    if task != "grasp":
        raise CheckpointError(f"{name} is no grasping checkpoint (its task: {task})")
    try:
        config = grasp_config.read_config(tree["config"])
        return Learnt(config, grasp.load_net(config, tree["weights"]))
    except (KeyError, TypeError, AttributeError, RuntimeError, Misuse) as error:
        raise CheckpointError(f"{name} does not fit this version of handeye: {one_line(error)}") from error


class Known(NamedTuple):
    """A policy of the world or of a checkpoint: how it is built, what it acts in, with training objects, and which
    weights it has, after how many updates of each of its networks."""

    build: "PolicyOf"
    config: GraspConfig
    weights: str = ""
    updates: int = 0


def policy_of(name: str) -> Known:
    """Raises: Misuse for a name like grasp:… that is no policy of the world; CheckpointError as `load`."""
    if name in WORLD_POLICIES:
        return Known(WORLD_POLICIES[name], GraspConfig(observe="objects"))
    if name.startswith("grasp:"):
        raise Misuse(f"no policy {name!r}; valid: {', '.join(WORLD_POLICIES)}, or a checkpoint")
    from handeye import grasp
    from handeye.nn import weights_digest

    learnt = load(name)
    run = learnt.config.run
    observe: Any = "objects" if learnt.config.network == "state" else "image"
    return Known(
        lambda env, rngs: grasp.greedy(learnt.config, learnt.net),
        replace(learnt.config.env, observe=observe),
        weights_digest(learnt.net),
        run.updates_in(run.rounds),
    )


def load_policy(name: str, env: GraspVectorEnv | None = None) -> Policy:
    """Greedy policy of a checkpoint, or a policy of the world built with `env`.

    It takes one observation and returns an action (8,), or N of them and returns (N, 8).

    Raises:
        CheckpointError: as `load`.
        Misuse: a policy of the world without its environment; from the policy, observations of another environment.
    """
    build, config, *_ = policy_of(name)
    if name in WORLD_POLICIES:
        if env is None:
            raise Misuse(f"{name} knows the world itself: give its vector environment as env=…")
        return build(env, np.random.default_rng(0).spawn(env.num_envs))
    policy, space = build(None, []), observation_space(config)
    shapes = {part: space[part].shape or () for part in ("state", config.observe)}

    def act(observation: Observation, /) -> NDArray:
        for part, shape in shapes.items():
            got = observation[part].shape if part in observation else None
            if got is None or got[-len(shape) :] != shape:
                raise Misuse(f"{name} needs {part} of shape {shape}, got {got}; it acts in {_made(config)}")
        if observation["state"].ndim == 1:
            return policy({key: value[None] for key, value in observation.items()})[0]
        return policy(observation)

    return act


def _made(config: GraspConfig) -> str:
    """How an environment of this configuration is made."""
    usual = GraspConfig()
    names = [f.name for f in fields(config) if getattr(config, f.name) != getattr(usual, f.name)]
    changed = "".join(f", {name}={getattr(config, name)!r}" for name in names)
    return f'gym.make_vec("{ENVIRONMENT}", num_envs=…{changed})'


def check_episodes(episodes: int) -> None:
    """Raises: Misuse for too few or too many."""
    if not 1 <= episodes <= MOST_EPISODES:
        raise Misuse(f"--episodes must be in 1 … {MOST_EPISODES}, got {episodes}")


def acting(known: Known, env: GraspVectorEnv, rngs: list[np.random.Generator], noise: float = 0.0) -> Policy:
    """A policy at work in `env`; a share `noise` of its actions is π_noisy's."""
    policy = known.build(env, rngs)
    if not noise:
        return policy
    from handeye.grasp_config import bounds_of
    from handeye.qtopt.acting import NoiseConfig, Noisy

    return Noisy(policy, bounds_of(env.config), NoiseConfig(noise), rngs)


def play(
    name: str, config: GraspConfig, seeds: Sequence[int], keep: Collection[str] | None = None, noise: float = 0.0
) -> Iterator[Episode]:
    """One episode of a policy of the world or of a checkpoint for each seed, in their order.

    Each depends on its own seed alone.

    Args:
        keep: the parts of the observations that the episodes hold; None: all.
        noise: as in `acting`.
    """
    known = policy_of(name)
    env = GraspVectorEnv(min(WORLDS, len(seeds)), config, "next_step")
    rngs = [policy_rng(seed) for seed in seeds[: env.num_envs]]
    for episode in episodes_in_turn(env, acting(known, env, rngs, noise), seeds, rngs, keep):
        origin = episode.provenance._replace(weights_step=known.updates, environment=ENVIRONMENT, policy=name)
        yield episode._replace(provenance=origin)


def protocol_seeds(seed: int | None, episodes: int) -> range:
    """The seeds of an evaluation's episodes: the protocol's, or fresh ones."""
    first = PROTOCOL_SEED if seed is None else seed * MOST_EPISODES
    return range(first, first + episodes)


def evaluated(name: str, objects: str) -> GraspConfig:
    """What a policy is evaluated in; those of the world need no pictures."""
    config = policy_of(name).config
    return replace(config, world=world_of(objects, config.world))


def evaluate(
    name: str, episodes: int, seed: int | None, objects: str, console: Console, reward: RewardSource = "truth"
) -> dict[str, Any]:
    """`handeye evaluate` for grasping: the dictionary of `--json`. Without a seed the protocol's scenes are used.

    `reward` names who pays: `truth` or `pictures`.

    Raises:
        Misuse: no such policy, or too few or too many episodes.
        CheckpointError: as `load`.
    """
    check_episodes(episodes)
    config = replace(evaluated(name, objects), reward_source=reward)
    ended: list[Episode] = []
    with console.status(f"{name}: grasping") as status:
        for episode in play(name, config, protocol_seeds(seed, episodes), keep=()):
            ended.append(episode)
            status.update(f"{name}: {len(ended)} of {episodes} grasps")
    about = {"task": "grasp", "checkpoint": name, "objects": objects, "episodes": episodes, "seed": seed}
    return about | {"reward_source": reward} | grasp_figures(ended)


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
        return "two objects" if last["paired"] else "missed"
    if last["rose"]:
        return "slipped"
    return "timed out" if episode.truncated else "not lifted"
