"""The grasping system put together: its configuration, its stages in order, and its final checkpoint."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from handeye import checkpoint
from handeye.envs.grasp_policies import Oracle, Scripted
from handeye.envs.grasping import GraspConfig, GraspVectorEnv, observation_space
from handeye.errors import Misuse, need_one_of
from handeye.frames import Fields
from handeye.nn import seeded
from handeye.qtopt.acting import Greedy, NoiseConfig
from handeye.qtopt.actions import ActionBounds
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.networks import CompactConfig, PictureQ, QNetwork, StateQ
from handeye.qtopt.paper_network import SIZE_PX, PaperQ
from handeye.qtopt.run_local import LocalRunner, RunConfig
from handeye.qtopt.workers import Collector, LabelConfig, LearnConfig, PolicyOf
from handeye.run import Plan, Results
from handeye.types import Policy

Observe = Literal["image", "objects", "both"]
GUIDES: dict[str, PolicyOf] = {"oracle": lambda env, rngs: Oracle(env), "scripted": Scripted}
"""Policies of the world, built for an environment and a generator for each of its bins."""


@dataclass(frozen=True)
class GraspLearning:
    """One training of grasping, whole. Raises ValueError for values that make none."""

    env: GraspConfig = field(default_factory=GraspConfig)
    network: Literal["state", "picture", "paper"] = "picture"
    """`state`: positions of objects; `picture`: small pictures; `paper`: the paper's, for 472×472 pictures."""
    net: CompactConfig = CompactConfig()
    """Of `state` and `picture`."""
    guide: Literal["oracle", "scripted"] = "oracle"
    """Whom exploration follows where it is guided."""
    run: RunConfig = RunConfig()
    labels: LabelConfig = LabelConfig()
    learn: LearnConfig = LearnConfig()
    noise: NoiseConfig = NoiseConfig()
    acting: MaximiserConfig = MaximiserConfig()
    """How actions are chosen, in collecting and at last."""

    def __post_init__(self) -> None:
        need_one_of(self, "network", ("state", "picture", "paper"))
        need_one_of(self, "guide", tuple(GUIDES))
        view = self.env.view
        if self.network == "paper" and (view.height_px, view.width_px) != (SIZE_PX, SIZE_PX):
            raise Misuse(f"network=paper needs pictures of {SIZE_PX}×{SIZE_PX}, got {view.height_px}×{view.width_px}")

    @property
    def observed(self) -> GraspConfig:
        """The environment, observed as training needs it: what the simulator knows is a label, never an input."""
        knows = self.network == "picture" and self.net.sight != "pixels"
        observe: Observe = "objects" if self.network == "state" else "both" if knows else "image"
        return dataclasses.replace(self.env, observe=observe)

    @property
    def bounds(self) -> ActionBounds:
        return ActionBounds(self.env.move_m, self.env.turn_rad, self.env.termination == "learned")


def new_net(config: GraspLearning) -> Any:
    """An untrained Q-network."""
    space = observation_space(config.env)["state"]
    state = int(np.prod(space.shape or ()))
    if config.network == "paper":
        return PaperQ()
    if config.network == "state":
        return StateQ(state, config.net)
    return PictureQ((config.env.view.height_px, config.env.view.width_px), state, config.net)


def fields(config: GraspConfig) -> Fields:
    """What a frame of this environment holds."""
    spaces = observation_space(config).spaces
    return {name: (space.shape or (), space.dtype.type if space.dtype else float) for name, space in spaces.items()}


def plan(config: GraspLearning, seed: int) -> Plan:
    """The stages of a training; the replay memory is kept in the run's folder."""

    def begin(results: Results, folder: Path) -> LocalRunner:
        with seeded(seed):
            net = new_net(config)
        threads = 1 if config.run.overlap else 0
        env = GraspVectorEnv(config.run.environments, config.observed, "disabled", threads=threads)
        policies = GUIDES["scripted"], GUIDES[config.guide]
        collector = Collector(env, *policies, config.bounds, config.acting, config.noise, seed)
        configs = config.run, config.labels, config.learn
        return LocalRunner(net, collector, fields(config.observed), configs, seed, folder / "replay")

    return [("qtopt", config, begin)]


def final_checkpoint(config: GraspLearning, experiment: str, seed: int, results: Results) -> checkpoint.Tree:
    """What is shipped: the averaged network in half precision, and the configuration."""
    weights = {name: value.half() if value.is_floating_point() else value for name, value in results["qtopt"].items()}
    about = {"task": "grasp", "experiment": experiment, "seed": seed, "config": dataclasses.asdict(config)}
    return about | {"weights": weights}


def read_config(values: dict[str, Any]) -> GraspLearning:
    """A configuration from the nested dictionary that `dataclasses.asdict` makes of it."""
    return _read(GraspLearning, values)


def _read(kind: Any, values: dict[str, Any]) -> Any:
    """A dataclass from a nested dictionary of all its fields. Raises: KeyError for other fields."""
    default = kind()
    if values.keys() != {f.name for f in dataclasses.fields(kind)}:
        raise KeyError(f"fields of {kind.__name__}")
    parts = {name: getattr(default, name) for name in values}
    nested = {name: _read(type(part), values[name]) for name, part in parts.items() if dataclasses.is_dataclass(part)}
    plain = {name: tuple(value) if isinstance(parts[name], tuple) else value for name, value in values.items()}
    return kind(**plain | nested)


def greedy(config: GraspLearning, net: QNetwork) -> Policy:
    """π_eval of a network."""
    return Greedy(net, config.bounds, config.acting)


def load_net(config: GraspLearning, weights: dict[str, torch.Tensor]) -> nn.Module:
    """A network with weights, ready to act."""
    net: nn.Module = new_net(config)
    net.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    )
    return net.eval().requires_grad_(False)
