"""What is measured of grasping policies for their report: episodes of the fixed protocol, remembered beside the run."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

import handeye
from handeye import checkpoint, grasp, grasp_results, run
from handeye.envs.objects import FAMILY_NAMES
from handeye.errors import Failure, Misuse
from handeye.findings import Memory
from handeye.grasp_config import GraspLearning, read_config
from handeye.grasp_results import Learnt
from handeye.metrics import read_rows
from handeye.nn import weights_digest
from handeye.qtopt.networks import scorer, to_inputs
from handeye.qtopt.workers import LabelConfig
from handeye.types import Episode

OBJECTS = ("heldout", "train")
GRASPED = "grasped"


@dataclass(frozen=True)
class GraspRun:
    """A run as the report sees it; `learnt` is None while it is unfinished, `folder` is None for a checkpoint alone."""

    name: str
    folder: Path | None
    about: dict[str, Any]
    config: GraspLearning
    rows: list[dict[str, Any]]
    learnt: Learnt | None

    @property
    def experiment(self) -> str:
        """The experiment that it is a run of."""
        return str(self.about["experiment"])


def open_run(name: str) -> GraspRun:
    """A run's folder, or a checkpoint, of which only the network is known.

    Raises:
        Failure: there is no such run, it is not of grasping, or it does not fit this version.
    """
    folder = Path(name)
    if name in checkpoint.shipped() or not folder.is_dir():
        tree, learnt = checkpoint.load(checkpoint.find(name)), grasp_results.load(name)
        about = {key: tree[key] for key in ("experiment", "seed", "config")}
        return GraspRun(name, None, about, learnt.config, [], learnt)
    about = run.read_config(folder)
    try:
        config = read_config(about["config"])
    except (KeyError, TypeError, AttributeError, Misuse) as error:
        raise Failure(f"{name} is no run of grasping, or of another version of handeye: {error}") from error
    final = folder / "checkpoints" / "final.safetensors"
    learnt_one = grasp_results.load(name) if final.is_file() else None
    return GraspRun(name, folder, about, config, read_rows(folder / "metrics.jsonl"), learnt_one)


@dataclass(frozen=True)
class Grasp:
    """What the report keeps of an episode of T steps."""

    seed: int
    ending: str
    """`GRASPED`, or what it failed of."""
    family: str
    """Of the object that it was about."""
    held: int
    """Objects in the hand at the end."""
    reward: list[float]
    z_m: list[float]
    """Commanded displacement along z at each step, upwards positive."""
    q: list[float]
    """What the network predicted of each action taken; empty for policies of the world."""


@dataclass(frozen=True)
class Played:
    """Episodes of one policy with one kind of objects: the figures of `handeye evaluate`, and each of them."""

    figures: dict[str, Any]
    grasps: list[Grasp]


class GraspFindings:
    """Episodes of runs and of policies of the world, as they are asked for; each is played once."""

    def __init__(self, runs: list[GraspRun], out: Path, grasps: int, console: Console) -> None:
        """`out` keeps what is found of checkpoints without a run."""
        self.grasps, self.console = grasps, console
        self.paths = {
            r.name: (r.folder / "report" if r.folder else out / Path(r.name).stem) / "evaluation.json" for r in runs
        }
        self.memory = Memory(list(self.paths.values()))

    @cached_property
    def world(self) -> str:
        """Changes when the world does: its objects, physics or pictures."""
        config = dataclasses.replace(grasp_results.evaluated("grasp:oracle", "heldout"), observe="image")
        episode = next(grasp_results.play("grasp:oracle", config, [grasp_results.PROTOCOL_SEED]))
        hasher = hashlib.blake2b(f"{handeye.__version__} {version('mujoco')}".encode(), digest_size=8)
        for array in (episode.observation["image"], episode.facts["height_m"], episode.action):
            hasher.update(array.tobytes())
        return hasher.hexdigest()

    def of_run(self, of: GraspRun, objects: str) -> Played:
        """Episodes of a finished run's network."""
        assert of.learnt is not None
        acting = f"{json.dumps(dataclasses.asdict(of.config.acting))} {of.config.both_ways}"
        return self._played(
            of.name, self.paths[of.name], objects, f"{weights_digest(of.learnt.net)} {acting}", of.learnt
        )

    def of_world(self, name: str, objects: str) -> Played:
        """Episodes of a policy of the world, in the default rules; they are kept beside the first run."""
        return self._played(name, next(iter(self.paths.values())), objects, name, None)

    def _played(self, name: str, path: Path, objects: str, who: str, learnt: Learnt | None) -> Played:
        config = grasp_results.evaluated(name, objects)
        seeds = grasp_results.protocol_seeds(None, self.grasps)

        def compute() -> dict[str, Any]:
            self.console.print(f"{name}: {self.grasps} grasps of {objects} objects …", markup=False, soft_wrap=True)
            return dataclasses.asdict(_play(name, config, seeds, learnt))

        rules = json.dumps(dataclasses.asdict(config))
        found = self.memory.get(path, f"{self.grasps} grasps of {objects} by {who} {rules} {self.world}", compute)
        return Played(found["figures"], [Grasp(**grasp) for grasp in found["grasps"]])


def _play(name: str, config: Any, seeds: Sequence[int], learnt: Learnt | None) -> Played:
    """Episodes; their observations are dropped as soon as the network has judged them."""
    light, grasps = [], []
    for episode in grasp_results.play(name, config, seeds, keep=() if learnt is None else None):
        q = [] if learnt is None else predicted(learnt, episode)
        grasps.append(_grasp(episode, q, config.move_m))
        light.append(episode._replace(observation={}))
    return Played(grasp_results.grasp_figures(light), grasps)


def _grasp(episode: Episode, q: list[float], move_m: float) -> Grasp:
    last = {name: values[-1] for name, values in episode.facts.items()}
    return Grasp(
        seed=episode.provenance.seed,
        ending=GRASPED if last["is_success"] else grasp_results.failure(episode),
        family=FAMILY_NAMES[int(last["family"])],
        held=int(last["objects_held"]),
        reward=[round(float(reward), 6) for reward in episode.reward],
        z_m=[round(float(z), 5) for z in np.clip(episode.action[:, 2], -move_m, move_m)],
        q=[round(value, 5) for value in q],
    )


@torch.no_grad()
def predicted(learnt: Learnt, episode: Episode) -> list[float]:
    """Q (T) of each action that was taken, where it was taken."""
    seen = {name: values[:-1] for name, values in episode.observation.items()}
    score = scorer(grasp.judge(learnt.config, learnt.net), to_inputs(seen), learnt.config.bounds)
    taken = torch.as_tensor(np.asarray(episode.action, np.float32))
    return [float(value) for value in score(taken[:, None])[:, 0]]


def realised(reward: Sequence[float], labels: LabelConfig) -> list[float]:
    """What Q (T) should have said at each step: the discounted return from there, or the outcome, as it was labelled.

    After a time limit nothing more is earned.
    """
    if labels.objective == "outcome":
        return [float(reward[-1] > 0)] * len(reward)
    returns, following = [], 0.0
    for earned in reversed(reward):
        following = earned + labels.discount * following
        returns.append(following)
    return returns[::-1]


def by_step(series: Sequence[Sequence[float]]) -> list[NDArray]:
    """The values of every step, of all series that are so long."""
    return [np.array([x for x in step if x is not None]) for step in zip_longest(*series)]


def histograms(series: Sequence[Sequence[float]], low: float, high: float, bins: int) -> tuple[NDArray, NDArray]:
    """Of the values of every step: shares (steps, bins) between `low` and `high`, and means (steps,)."""
    steps = by_step(series)
    counts = [np.histogram(values, bins, (low, high))[0] / len(values) for values in steps]
    return np.array(counts), np.array([values.mean() for values in steps])


def overestimation(grasps: Sequence[Grasp], labels: LabelConfig) -> dict[str, float | None]:
    """Means over all steps: `q`, `realised` and their difference; the latter also of some of the steps alone.

    `clipped`: against returns that are cut at 0, as the labels are; `first`: of first steps; `grasped` and `failed`.
    """
    q = np.concatenate([grasp.q for grasp in grasps])
    real = np.concatenate([realised(grasp.reward, labels) for grasp in grasps])
    good = np.concatenate([[grasp.ending == GRASPED] * len(grasp.q) for grasp in grasps])
    first = np.concatenate([np.arange(len(grasp.q)) == 0 for grasp in grasps])
    over = q - real
    parts = {"difference": over, "clipped": q - real.clip(0), "first": over[first]}
    parts |= {"grasped": over[good], "failed": over[~good]}
    means = {name: float(values.mean()) if len(values) else None for name, values in parts.items()}
    return {"q": float(q.mean()), "realised": float(real.mean()), **means}
