"""The grasping system put together: its configuration, its stages in order, and its final checkpoint."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from handeye import checkpoint, grasp_logs
from handeye.envs import scene
from handeye.envs.bin_config import world_of
from handeye.envs.grasp_policies import Oracle, Scripted
from handeye.envs.grasping import GraspConfig, GraspVectorEnv, observation_space
from handeye.errors import Misuse, differences, need, need_one_of
from handeye.frames import Fields
from handeye.nn import seeded, weights_of
from handeye.qtopt.acting import Greedy, NoiseConfig
from handeye.qtopt.actions import ActionBounds
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.mirror import BothWays
from handeye.qtopt.networks import CompactConfig, PictureQ, QNetwork, StateQ
from handeye.qtopt.paper_network import SIZE_PX, PaperQ
from handeye.qtopt.run_local import LocalRunner, RunConfig, Workers
from handeye.qtopt.spatial_network import SpatialQ, View
from handeye.qtopt.workers import BellmanUpdater, Collector, Crew, LabelConfig, LearnConfig, PolicyOf
from handeye.rollout import episodes
from handeye.run import Plan, Results
from handeye.types import Policy

OBJECT_HEIGHT_M = 0.02
"""Of an object's middle, about, above the tray's bottom."""
MIDWAY_WORLDS, MIDWAY_SEED = 50, 6_000_000
"""Episodes of each kind of objects in an evaluation during training: others than those of the protocol."""
Observe = Literal["image", "objects", "both"]
GUIDES: dict[str, PolicyOf] = {"oracle": lambda env, rngs: Oracle(env), "scripted": Scripted}
"""Policies of the world, built for an environment and a generator for each of its bins."""


@dataclass(frozen=True)
class PriorConfig:
    """Control on the true Θ, before it sees through the bottleneck; the rest is as in the main training.

    Raises ValueError for values that make no training.
    """

    rounds: int = 0
    """0: none; control begins untrained."""
    updates: int = 60
    learn: LearnConfig = LearnConfig(batch=256, learning_rate=1e-3, average_rate=0.01)

    def __post_init__(self) -> None:
        need(self, ("rounds", "updates"), 0, 1_000_000)


@dataclass(frozen=True)
class GraspLearning:
    """One training of grasping, whole. Raises ValueError for values that make none."""

    env: GraspConfig = field(default_factory=GraspConfig)
    network: Literal["state", "picture", "paper"] = "picture"
    """`state`: the true Θ; `picture`: small pictures; `paper`: the paper's, for 472×472 pictures."""
    net: CompactConfig = CompactConfig()
    """Of `state` and `picture`."""
    guide: Literal["oracle", "scripted"] = "oracle"
    """Whom exploration follows where it is guided."""
    run: RunConfig = RunConfig()
    labels: LabelConfig = LabelConfig()
    learn: LearnConfig = LearnConfig()
    prior: PriorConfig = PriorConfig()
    """Of `net.sight` bottleneck."""
    noise: NoiseConfig = NoiseConfig()
    collecting: MaximiserConfig = MaximiserConfig()
    """How actions are chosen in collecting."""
    acting: MaximiserConfig = MaximiserConfig()
    """How they are chosen in evaluations, and at last."""
    both_ways: bool = False
    """Whether evaluations, and the policy at last, ask the network about the mirror image too: see qtopt/mirror.py."""
    logs: tuple[str, ...] = ()
    """Folders of `handeye collect` that the memory of scripted and guided episodes begins with."""
    start: str = ""
    """A checkpoint whose weights the network begins with; empty: untrained."""

    def __post_init__(self) -> None:
        need_one_of(self, "network", ("state", "picture", "paper"))
        need_one_of(self, "guide", tuple(GUIDES))
        view = self.env.view
        if self.network == "picture" and self.net.merge == "spatial" and not self._knows_places:
            raise Misuse(
                "net.merge=spatial needs env.view.camera=follow, or shoulder with env.show_pose, got "
                f"{self.env.view.camera} and {self.env.show_pose}"
            )
        if self.network == "paper" and (view.height_px, view.width_px) != (SIZE_PX, SIZE_PX):
            raise Misuse(f"network=paper needs pictures of {SIZE_PX}×{SIZE_PX}, got {view.height_px}×{view.width_px}")
        self._need_mirror()
        self._need_stages()

    def _need_mirror(self) -> None:
        """Raises: Misuse for a mirror image of what is not alike on both sides."""
        camera = self.env.view.camera
        alike = camera == "follow" or self.network == "state"
        if self.labels.mirror and not alike:
            raise Misuse(f"labels.mirror needs env.view.camera=follow, got {camera}")
        if self.both_ways and (self.network == "state" or not alike):
            raise Misuse(
                f"both_ways needs pictures by env.view.camera=follow, got {self.network}, {camera}: give --no-both-ways"
            )

    def _need_stages(self) -> None:
        """Raises: Misuse for stages that have nothing to do or nothing to begin with."""
        if self.prior.rounds and (self.network, self.net.sight) != ("picture", "bottleneck"):
            raise Misuse(f"prior.rounds needs net.sight=bottleneck, got {self.network} and {self.net.sight}")
        if self.prior.rounds and self.start:
            raise Misuse(f"start={self.start} brings its own control: give prior.rounds=0")
        if not self.run.collect and not self.logs:
            raise Misuse("run.collect=False leaves nothing to learn from: give --logs")
        if self.run.sight_rounds and not self._tells:
            raise Misuse(f"run.sight_rounds needs net.sight=aux or bottleneck, got {self.network} and {self.net.sight}")

    @property
    def _knows_places(self) -> bool:
        """Whether it is known where in a picture a displacement leads."""
        camera = self.env.view.camera
        return camera == "follow" or (camera == "shoulder" and self.env.show_pose)

    @property
    def _tells(self) -> bool:
        """Whether the network tells Θ̂."""
        return self.network == "picture" and self.net.sight != "pixels"

    @property
    def observed(self) -> GraspConfig:
        """The environment, observed as training needs it: what the simulator knows is a label, never an input."""
        observe: Observe = "objects" if self.network == "state" else "both" if self._tells else "image"
        return dataclasses.replace(self.env, observe=observe)

    @property
    def bounds(self) -> ActionBounds:
        return bounds_of(self.env)


def bounds_of(env: GraspConfig) -> ActionBounds:
    """What an action may be in this environment."""
    return ActionBounds(env.move_m, env.turn_rad, env.termination == "learned")


def new_net(config: GraspLearning) -> Any:
    """An untrained Q-network."""
    space = observation_space(config.env)["state"]
    state = int(np.prod(space.shape or ()))
    if config.network == "paper":
        return PaperQ()
    if config.network == "state":
        return StateQ(state, config.net)
    size = config.env.view.height_px, config.env.view.width_px
    if config.net.merge == "spatial":
        return SpatialQ(size, state, view_of(config.env), config.net)
    return PictureQ(size, state, config.net)


def view_of(config: GraspConfig) -> View:
    """Where displacements at the height of objects appear to the camera: one that moves along, or the still one."""
    view, follows = config.view, config.view.camera == "follow"
    if follows:
        eye, aim = scene.FOLLOW_OFFSET_M, np.array([0, 0, scene.FOLLOW_AIM_M])
    else:
        eye, aim = (np.array(place) - scene.ORIGIN_M for place in (scene.SHOULDER_M, scene.SHOULDER_AIM_M))
    axes = scene.axes_looking(eye[None], aim[None])[0]
    half = np.tan(np.deg2rad(scene.FOVY_DEG[view.camera]) / 2)
    scale = np.array([view.height_px / view.width_px / half, -1 / half, -1.0])
    whole = scale[:, None] * axes.T
    origin = whole @ (np.array([0, 0, OBJECT_HEIGHT_M]) - eye)
    rows = np.column_stack([whole[:, :2] * config.move_m, origin])
    return View(tuple((float(a), float(b), float(c)) for a, b, c in rows), 0.0 if follows else 1 / config.move_m)


def fields(config: GraspConfig) -> Fields:
    """What a frame of this environment holds."""
    spaces = observation_space(config).spaces
    return {name: (space.shape or (), space.dtype.type if space.dtype else float) for name, space in spaces.items()}


def control_of(config: GraspLearning) -> GraspLearning | None:
    """The training of control on the true Θ that comes first, if one does; it is the same for all ways of seeing."""
    prior, usual = config.prior, CompactConfig()
    if not prior.rounds:
        return None
    first = min(config.run.first_rounds, prior.rounds)
    run = dataclasses.replace(
        config.run, rounds=prior.rounds, updates=prior.updates, first_rounds=first, sight_rounds=0
    )
    net = dataclasses.replace(config.net, sight=usual.sight, channels=usual.channels, beta=usual.beta)
    return dataclasses.replace(
        config, network="state", net=net, run=run, learn=prior.learn, prior=PriorConfig(), both_ways=False
    )


def trainings(config: GraspLearning) -> dict[str, GraspLearning]:
    """What each stage trains, in order."""
    control = control_of(config)
    return ({"control": control} if control else {}) | {"qtopt": config}


def plan(config: GraspLearning, seed: int, crew: Crew | None = None) -> Plan:
    """The stages of a training, in this process or with a `crew`; the replay memory is kept in the run's folder.

    Raises:
        Misuse, Failure: logs or the checkpoint to start from are missing, or do not fit, or there is no such crew.
    """
    for of in trainings(config).values():
        grasp_logs.check(of.logs, of.observed, fields(of.observed), of.run.off_frames)
    started = start_weights(config) if config.start else None
    if crew is not None:
        _ray().join(crew, config.run.environments)

    def beginning(stage: str, of: GraspLearning) -> Callable[[Results, Path], LocalRunner]:
        def begin(results: Results, folder: Path) -> LocalRunner:
            with seeded(seed):
                net = new_net(of)
            if "control" in results:
                net.body.load_state_dict(weights_of("body", results["control"]))
            if started is not None:
                net.load_state_dict(started)
            memory = folder / "replay"
            return _runner(of, net, seed, memory if stage == "qtopt" else memory / stage, crew)

        return begin

    return [(stage, of, beginning(stage, of)) for stage, of in trainings(config).items()]


def start_weights(config: GraspLearning) -> dict[str, torch.Tensor]:
    """The weights that a training starts from. Raises: CheckpointError, or Misuse for those of another network."""
    tree = checkpoint.load(checkpoint.find(config.start))
    if not isinstance(tree, dict) or tree.get("task") != "grasp":
        raise Misuse(f"start={config.start} is no final checkpoint of grasping")
    try:
        return dict(load_net(config, tree["weights"]).state_dict())
    except RuntimeError as error:
        changed = differences(_shape(read_config(tree["config"])), _shape(config))
        raise Misuse(f"start={config.start} is of another network: {'; '.join(changed)}") from error


def _shape(config: GraspLearning) -> dict[str, Any]:
    """What decides which weights a network has."""
    view, state = config.env.view, observation_space(config.env)["state"].shape
    shape = {"network": config.network, "net": dataclasses.asdict(config.net)}
    return shape | {"picture": (view.height_px, view.width_px), "state": state}


def _runner(config: GraspLearning, net: Any, seed: int, memory: Path, crew: Crew | None) -> LocalRunner:
    """The rounds of one training; the workers of a `crew` have processes of their own."""
    make, seen = partial(_collector, config, seed), fields(config.observed)
    updater = BellmanUpdater(config.bounds, config.labels)
    everyone = config.run.environments
    collector, labeller = _ray().spread(crew, make, everyone, updater) if crew else (make(slice(0, everyone)), updater)
    workers = Workers(collector, labeller, partial(grasp_logs.read, config.logs, seen))
    midway = evaluation(config) if config.run.evaluate_every else None
    return LocalRunner(net, workers, seen, (config.run, config.learn), seed, memory, midway)


def _ray() -> ModuleType:
    """What runs workers in processes of their own: it needs an extra. Raises: Failure without it."""
    from handeye.qtopt import run_ray

    return run_ray


def _collector(config: GraspLearning, seed: int, share: slice) -> Collector:
    """The collector of a share of the environments, whose episodes no other share sees."""
    threads = 1 if config.run.overlap else 0
    env = GraspVectorEnv(share.stop - share.start, config.observed, "disabled", threads=threads)
    policies = GUIDES["scripted"], GUIDES[config.guide]
    return Collector(env, *policies, config.bounds, config.collecting, config.noise, seed + share.start * 2**32)


def evaluation(config: GraspLearning) -> Callable[[QNetwork], dict[str, float]]:
    """How well the greedy policy of a network does on training and on held-out objects: the same scenes every time."""
    seen: Observe = "objects" if config.network == "state" else "image"
    worlds = {
        objects: dataclasses.replace(config.env, world=world_of(objects), observe=seen)
        for objects in ("train", "heldout")
    }
    envs = {objects: GraspVectorEnv(MIDWAY_WORLDS, world, "disabled", threads=1) for objects, world in worlds.items()}

    def evaluate(net: QNetwork) -> dict[str, float]:
        ended = {o: episodes(env, greedy(config, net), keep=(), seed=MIDWAY_SEED) for o, env in envs.items()}
        return {o: float(np.mean([e.facts["is_success"][-1] for e in played])) for o, played in ended.items()}

    return evaluate


def final_checkpoint(config: GraspLearning, experiment: str, seed: int, results: Results) -> checkpoint.Tree:
    """What a training ends with: the averaged network of the last finished stage, and its configuration."""
    stage, of = [(stage, of) for stage, of in trainings(config).items() if stage in results][-1]
    about = {"task": "grasp", "experiment": experiment, "seed": seed, "config": dataclasses.asdict(of)}
    return about | {"weights": results[stage]}


def read_config(values: dict[str, Any]) -> GraspLearning:
    """A configuration from the nested dictionary that `dataclasses.asdict` makes of it."""
    return _read(GraspLearning, values)


def _read(kind: Any, values: dict[str, Any]) -> Any:
    """A dataclass from a nested dictionary of its fields; what an older version did not have is as by default.

    Raises: KeyError for other fields.
    """
    default = kind()
    unknown = values.keys() - {f.name for f in dataclasses.fields(kind)}
    if unknown:
        raise KeyError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    parts = {name: getattr(default, name) for name in values}
    nested = {name: _read(type(part), values[name]) for name, part in parts.items() if dataclasses.is_dataclass(part)}
    plain = {name: tuple(value) if isinstance(parts[name], tuple) else value for name, value in values.items()}
    return kind(**plain | nested)


def judge(config: GraspLearning, net: QNetwork) -> QNetwork:
    """What says how good an action is when it counts: the network, or it and the mirror."""
    return BothWays(net) if config.both_ways else net


def greedy(config: GraspLearning, net: QNetwork) -> Policy:
    """π_eval of a network; one of positions looks at no picture that is there as well."""
    act = Greedy(judge(config, net), config.bounds, config.acting)
    if config.network != "state":
        return act
    return lambda observation: act({name: part for name, part in observation.items() if name != "image"})


def load_net(config: GraspLearning, weights: dict[str, torch.Tensor]) -> nn.Module:
    """A network with weights, ready to act."""
    net: nn.Module = new_net(config)
    net.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    )
    return net.eval().requires_grad_(False)
