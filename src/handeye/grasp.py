"""The grasping system put together: its networks, its stages in order, and its final checkpoint."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from handeye import checkpoint, grasp_logs
from handeye.envs import scene
from handeye.envs.bin_config import world_of
from handeye.envs.grasping import GraspConfig, GraspVectorEnv, observation_space
from handeye.errors import Failure, Misuse, differences
from handeye.frames import Fields
from handeye.grasp_config import CONTROL, GUIDES, GraspLearning, Observe, member_stages, read_config, trainings
from handeye.nn import seeded, weights_of
from handeye.policies import Remembered
from handeye.qtopt.acting import Greedy
from handeye.qtopt.members import Members, Weights, apart, joined, members_of
from handeye.qtopt.mirror import BothWays
from handeye.qtopt.networks import PictureQ, QNetwork, StateQ
from handeye.qtopt.paper_network import PaperQ
from handeye.qtopt.run_local import Frames, LocalRunner, Workers
from handeye.qtopt.spatial_network import SpatialQ, View
from handeye.qtopt.workers import BellmanUpdater, Collector, Crew
from handeye.rollout import episodes
from handeye.run import Plan, Results
from handeye.types import Policy

OBJECT_HEIGHT_M = 0.02
"""Of an object's middle, about, above the tray's bottom."""
MIDWAY_WORLDS, MIDWAY_SEED = 50, 6_000_000
"""Episodes of each kind of objects in an evaluation during training: others than those of the protocol."""
MEMBER_SEEDS = 1_000
"""From the seed of one member's training to that of the next."""


def new_net(config: GraspLearning) -> Any:
    """An untrained Q-network, of as many members as are configured."""
    if config.members > 1:
        return Members([new_net(config.alone) for _ in range(config.members)])
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


def plan(config: GraspLearning, seed: int, crew: Crew | None = None) -> Plan:
    """The stages of a training, in this process or with a `crew`; the replay memory is kept in the run's folder.

    Raises:
        Misuse, Failure: logs or the checkpoint to start from are missing, or do not fit, or there is no such crew, or
            no such device.
    """
    _need_device(config.run.device, crew)
    for of in trainings(config).values():
        grasp_logs.check(of.logs, of.observed, fields(of.observed), of.run.off_frames)
    started = start_weights(config) if config.start else None
    if crew is not None:
        _ray().join(crew, config.run.environments)

    def beginning(stage: str, of: GraspLearning) -> Callable[[Results, Path], LocalRunner]:
        member = 0 if stage == CONTROL else member_stages(config).index(stage)
        own = seed + MEMBER_SEEDS * member

        def begin(results: Results, folder: Path) -> LocalRunner:
            with seeded(own):
                net = new_net(of)
            if CONTROL in results:
                for one in members_of(net):
                    one.body.load_state_dict(weights_of("body", results[CONTROL]))
            if started is not None:
                net.load_state_dict(started[member])
            # A member's memory takes the place of the one before.
            memory = folder / "replay"
            return _runner(of, net, own, memory / stage if stage == CONTROL else memory, crew)

        return begin

    # So many collectors have random states of their own, and so another training.
    spread = {"collectors": crew.collectors} if crew is not None and crew.collectors > 1 else {}
    return [(stage, (of, spread) if spread else of, beginning(stage, of)) for stage, of in trainings(config).items()]


def _need_device(device: str, crew: Crew | None) -> None:
    """Raises: Misuse or Failure for one that cannot be used."""
    if device == "cpu":
        return
    if crew is not None:
        raise Misuse(f"run.device={device} needs --runner local: Ray's workers use the processor")
    if not torch.cuda.is_available():
        raise Failure(f"run.device={device}: torch {torch.__version__} finds no GPU here; give --run.device cpu")


def start_weights(config: GraspLearning) -> list[Weights]:
    """The weights that each of `member_stages` starts from.

    Raises: CheckpointError, or Misuse for those of another network.
    """
    tree = checkpoint.load(checkpoint.find(config.start))
    if not isinstance(tree, dict) or tree.get("task") != "grasp":
        raise Misuse(f"start={config.start} is no final checkpoint of grasping")
    try:
        return apart(load_net(config, tree["weights"]).state_dict(), len(member_stages(config)))
    except RuntimeError as error:
        changed = differences(_shape(read_config(tree["config"])), _shape(config))
        raise Misuse(f"start={config.start} is of another network: {'; '.join(changed)}") from error


def _shape(config: GraspLearning) -> dict[str, Any]:
    """What decides which weights a network has."""
    view, state = config.env.view, observation_space(config.env)["state"].shape
    shape = {"network": config.network, "net": dataclasses.asdict(config.net), "members": config.members}
    return shape | {"picture": (view.height_px, view.width_px), "state": state}


def _runner(config: GraspLearning, net: Any, seed: int, memory: Path, crew: Crew | None) -> LocalRunner:
    """The rounds of one training; the workers of a `crew` have processes of their own."""
    # Beside the learner all cores are shared fairly, and before its first update one would be idle; a crew has a core
    # for each.
    make, seen = partial(_collector, config, seed, 1 if crew else 0), fields(config.observed)
    updater = BellmanUpdater(config.bounds, config.labels)
    everyone = config.run.environments
    collector, labeller = _ray().spread(crew, make, everyone, updater) if crew else (make(slice(0, everyone)), updater)
    workers = Workers(collector, labeller, partial(grasp_logs.read, config.logs, seen))
    midway = evaluation(config) if config.run.evaluate_every else None
    frames = Frames(config.env.max_steps + 1, grasp_logs.frames(config.logs))
    return LocalRunner(net, workers, seen, (config.run, config.learn), seed, frames, memory, midway)


def _ray() -> ModuleType:
    """What runs workers in processes of their own: it needs an extra. Raises: Failure without it."""
    from handeye.qtopt import run_ray

    return run_ray


def _collector(config: GraspLearning, seed: int, threads: int, share: slice) -> Collector:
    """The collector of a share of the environments, whose episodes no other share sees."""
    env = GraspVectorEnv(share.stop - share.start, config.observed, "disabled", threads=threads)
    policies = GUIDES["scripted"], GUIDES[config.guide]
    return Collector(env, *policies, config.bounds, config.collecting, config.noise, seed + share.start * 2**32)


def evaluation(config: GraspLearning) -> Callable[[QNetwork], dict[str, float]]:
    """How well the greedy policy of a network does on training and on held-out objects: the same scenes every time."""
    seen: Observe = "objects" if config.network == "state" else "image"
    worlds = {
        objects: dataclasses.replace(config.env, world=world_of(objects, config.env.world), observe=seen)
        for objects in ("train", "heldout")
    }
    envs = {objects: GraspVectorEnv(MIDWAY_WORLDS, world, "disabled", threads=1) for objects, world in worlds.items()}

    def evaluate(net: QNetwork) -> dict[str, float]:
        def play(env: GraspVectorEnv) -> float:
            ended = episodes(env, Remembered(greedy(config, net)), keep=(), seed=MIDWAY_SEED)
            return float(np.mean([episode.facts["is_success"][-1] for episode in ended]))

        with ThreadPoolExecutor(len(envs)) as pool:
            return dict(zip(envs, pool.map(play, envs.values()), strict=True))

    return evaluate


def final_checkpoint(config: GraspLearning, experiment: str, seed: int, results: Results) -> checkpoint.Tree:
    """What a training ends with: the averaged networks of all finished members, and their configuration.

    Where none is finished, it is control.
    """
    done = [results[stage] for stage in member_stages(config) if stage in results]
    if done:
        weights, of = joined(done), config if config.together else dataclasses.replace(config, members=len(done))
    else:
        weights, of = results[CONTROL], trainings(config)[CONTROL]
    about = {"task": "grasp", "experiment": experiment, "seed": seed, "config": dataclasses.asdict(of)}
    return about | {"weights": weights}


def finished(name: str, final: checkpoint.Tree) -> Results:
    """Raises: Misuse, since a final checkpoint of grasping does not say by which workers it was made."""
    raise Misuse(f"reuse must be a run's folder for grasping, got {name}; to begin from its weights: --start {name}")


def packed(final: checkpoint.Tree) -> checkpoint.Tree:
    """A final checkpoint as small as it is shipped: in half precision."""
    return final | {"weights": {name: value.half() for name, value in final["weights"].items()}}


def judge(config: GraspLearning, net: QNetwork) -> QNetwork:
    """What says how good an action is when it counts: the network, or it and the mirror."""
    return BothWays(net) if config.both_ways else net


def greedy(config: GraspLearning, net: QNetwork) -> Policy:
    """π_eval of a network; one of positions looks at no picture that is there as well."""
    act = Greedy(judge(config, net), config.bounds, config.acting)
    if config.network != "state":
        return act
    return lambda observation: act({name: part for name, part in observation.items() if name != "image"})


def load_net(config: GraspLearning, weights: Weights) -> nn.Module:
    """A network with weights, ready to act."""
    net: nn.Module = new_net(config)
    net.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    )
    return net.eval().requires_grad_(False)
