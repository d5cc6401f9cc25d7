"""Stored episodes of grasping as a learner takes them: checked against what it learns in, then read in their order."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handeye.envs.grasping import ENVIRONMENT, WORLD, GraspConfig
from handeye.episodes import Manifest, read_column, read_episodes, read_manifest
from handeye.errors import Failure, Misuse, differences
from handeye.frames import Fields
from handeye.types import Episode

SAME_WORLD = ("split", "timestep_s", "step_s", "grip_s", "reach_m", "lowest_m", "highest_m")
"""Of the world: what episodes of one training have in common. They may begin otherwise, among other objects."""


def check(folders: Sequence[str], env: GraspConfig, fields: Fields, room: int) -> None:
    """Whether stores hold what is learnt from: episodes of this task, with these parts of observations.

    Args:
        env: the task. Its scenes may be others, but not of another split of objects.
        room: frames that are kept of all stores.

    Raises:
        Misuse: a store is of something else, or together they hold more frames than are kept.
        Failure: there is no store, or none that can be read.
    """
    for folder in folders:
        manifest = read_manifest(folder)
        _check_task(folder, manifest, env)
        _check_fields(folder, manifest, fields)
    held = frames(folders)
    if folders and not held:
        raise Failure(f"no episodes yet in {', '.join(folders)}")
    if held > room:
        raise Misuse(f"the logs hold {held} frames, of which {room} would be kept: give --run.off-frames {held}")


def frames(folders: Sequence[str]) -> int:
    """How many all episodes of stores have. Raises: Failure for stores that cannot be read."""
    return sum(int((read_column(folder, "length") + 1).sum()) for folder in folders)


def read(folders: Sequence[str], fields: Fields) -> Iterator[Episode]:
    """All episodes of stores, with the parts of observations that are learnt from. Raises: Failure for corrupt ones."""
    for folder in folders:
        for episode in read_episodes(Path(folder)):
            yield episode._replace(observation={name: episode.observation[name] for name in fields})


def _check_task(folder: str, manifest: Manifest, env: GraspConfig) -> None:
    """Raises: Misuse naming what is another than here."""
    about = manifest.about
    if about.environment != ENVIRONMENT or not isinstance(about.config.get("env"), dict):
        raise Misuse(f"{folder} holds episodes of {about.environment}, not of {ENVIRONMENT}")
    if (world := about.config.get("world")) != WORLD:
        raise Misuse(f"{folder} holds episodes of version {world} of the world, which is {WORLD} by now: collect anew")
    changed = differences(_rules(about.config["env"]), _rules(asdict(env)))
    if changed:
        raise Misuse(f"{folder} holds episodes of another setting: {'; '.join(changed)}")


def _rules(env: dict[str, Any]) -> dict[str, Any]:
    """What episodes of one training have in common; what a store is too old to say is as by default."""
    usual = json.loads(json.dumps(asdict(GraspConfig())))
    known = usual | json.loads(json.dumps(env))
    parts = {name: usual[name] | known[name] for name in ("view", "subtraction", "world")}
    rules = known | parts | {"world": {name: parts["world"][name] for name in SAME_WORLD}}
    return {name: value for name, value in rules.items() if name != "observe"}


def _check_fields(folder: str, manifest: Manifest, fields: Fields) -> None:
    """Raises: Misuse for a part of observations that is missing or has another shape."""
    for name, (shape, _) in fields.items():
        spec = manifest.fields.get(f"observation/{name}")
        if spec is None:
            raise Misuse(f"{folder} does not hold {name}, which is learnt from: collect with --observe both")
        if tuple(spec["shape"]) != tuple(shape):
            raise Misuse(f"{folder} holds {name} of shape {tuple(spec['shape'])}, here it is {tuple(shape)}")
