"""Every named experiment: a configuration, a line about it, and its cost on 2 cores."""

import difflib
from dataclasses import dataclass, replace
from typing import Any

from handeye.envs.grasping import GraspConfig
from handeye.envs.reaching import PlanarReachConfig
from handeye.envs.rendering import CameraConfig
from handeye.errors import Misuse
from handeye.grasp import GraspLearning
from handeye.modular.control import ControlConfig
from handeye.modular.finetune import FinetuneConfig
from handeye.modular.perception import PerceptionConfig
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.networks import CompactConfig
from handeye.qtopt.run_local import RunConfig
from handeye.qtopt.workers import LabelConfig, LearnConfig
from handeye.reach import ReachConfig


class UnknownExperiment(Misuse):
    """No experiment has this name; the message gives the nearest."""


@dataclass(frozen=True)
class Experiment:
    """A named configuration."""

    task: str
    line: str
    cost: str
    config: Any


REACH_PAPER = ReachConfig(
    env=PlanarReachConfig(near_share=0.5),
    sim=PerceptionConfig(steps=15_000, learning_rate=2e-3, muon_rate=0.01),
    adapted=PerceptionConfig(steps=40_000, learning_rate=2e-3, muon_rate=0.01, camera_share=0.75),
    control=ControlConfig(
        steps=80_000,
        batch=512,
        learning_rate=2e-3,
        discount=0.97,
        epsilon_over=0.3,
        replay=500_000,
        target_rate=0.01,
    ),
    finetuned=FinetuneConfig(steps=300, discount=0.97, optimiser="sgd", learning_rate=0.01),
    naive=FinetuneConfig(steps=300, discount=0.97, optimiser="sgd", learning_rate=0.01, beta=0.0),
)
"""The paper's constants. What it does not state is listed, with reasons, in docs/reaching.md."""

REACH_QUICK = replace(
    REACH_PAPER,
    sim=replace(REACH_PAPER.sim, steps=800),
    adapted=replace(REACH_PAPER.adapted, steps=500),
    control=replace(REACH_PAPER.control, steps=9_000, batch=256),
    finetuned=replace(REACH_PAPER.finetuned, steps=100, warm_up=1_000),
    naive=replace(REACH_PAPER.naive, steps=100, warm_up=1_000),
)

REACH_BEST = replace(
    REACH_PAPER,
    networks="keypoints",
    move_share=0.0,
    env=PlanarReachConfig(success_radius_m=0.01, max_steps=200, near_share=0.5),
    guide_polish=True,
    sim=PerceptionConfig(steps=5_000, muon_rate=0.01),
    adapted=PerceptionConfig(steps=10_000, muon_rate=0.01, camera_share=0.5, augment=0.5),
    control=replace(REACH_PAPER.control, steps=40_000, batch=256, learning_rate=1e-3),
    finetuned=FinetuneConfig(steps=250, discount=0.97, optimiser="sgd", learning_rate=0.003),
    naive=FinetuneConfig(steps=250, discount=0.97, optimiser="sgd", learning_rate=0.003, beta=0.0),
)
"""Any change that keeps nine actions, the 84×84 grey picture and the bottleneck."""

GRASP_STATE = GraspLearning(
    env=GraspConfig(show_pose=True),
    network="state",
    run=RunConfig(rounds=260, updates=60),
    labels=LabelConfig(lag=300, maximiser=MaximiserConfig(samples=32, elites=4)),
    learn=LearnConfig(batch=256, learning_rate=1e-3, average_rate=0.01),
)
"""Objects' positions in place of pictures."""

GRASP_PIXELS = GraspLearning(
    net=CompactConfig(merge="spatial", channels=(16, 32, 32, 32), norm="none", features=128),
    run=RunConfig(rounds=560, first_rounds=30, updates=45, off_frames=150_000, on_frames=250_000, evaluate_every=28),
    labels=LabelConfig(lag=300, maximiser=MaximiserConfig(samples=32, elites=4)),
    learn=LearnConfig(optimiser="muon", muon_rate=0.01, learning_rate=1e-3, labelled=4_096),
)
"""Pictures by the camera that follows the gripper, and what the gripper knows of itself."""

GRASP_QUICK = replace(GRASP_PIXELS, run=replace(GRASP_PIXELS.run, rounds=190))
"""The same in a fifth of the rounds."""

GRASP_AUX = replace(GRASP_PIXELS, net=replace(GRASP_PIXELS.net, sight="aux", beta=0.5))
"""The picture's features also tell where the nearest objects are."""

GRASP_MODULAR = replace(
    GRASP_PIXELS,
    net=CompactConfig(sight="bottleneck", channels=(16, 32, 64), norm="none", beta=0.5),
)
"""Nothing passes from the picture to the head but where the nearest objects are."""

GRASP_SHOULDER = replace(
    GRASP_PIXELS,
    env=replace(GRASP_PIXELS.env, show_pose=True, view=CameraConfig(camera="shoulder")),
    run=replace(GRASP_PIXELS.run, rounds=2_000),
)
"""The paper's camera, over the shoulder."""

GRASP_PAPER = GraspLearning(
    env=GraspConfig(view=CameraConfig(camera="shoulder", width_px=472, height_px=472)),
    network="paper",
    guide="scripted",
    run=RunConfig(rounds=100_000, environments=16, updates=100, scripted_first=1.0, guided_start=0.0, guided_end=0.0,
                  off_frames=30_000, on_frames=30_000),
    labels=LabelConfig(lag=6_000, colour=1.0),
    learn=LearnConfig(batch=32, optimiser="sgd", learning_rate=1e-4, weight_decay=7e-5, average_rate=1e-4),
)  # fmt: skip
"""The paper's network, optimiser, averages and exploration, at the size of its pictures."""

EXPERIMENTS = {
    "reach-quick": Experiment("reach", "the whole modular system, small: see it learn", "3 min", REACH_QUICK),
    "reach-paper": Experiment("reach", "the paper's setting: networks, losses, constants", "1.5 h", REACH_PAPER),
    "reach-best": Experiment("reach", "best result on the same trials: keypoints and kinematics", "1 h", REACH_BEST),
    "grasp-state": Experiment("grasp", "positions of objects instead of pictures: all learns", "15 min", GRASP_STATE),
    "grasp-quick": Experiment("grasp", "pictures, for a few minutes: better than the script", "10 min", GRASP_QUICK),
    "grasp-pixels": Experiment("grasp", "64×64 pictures by a camera that follows the gripper", "30 min", GRASP_PIXELS),
    "grasp-aux": Experiment("grasp", "the same, and where objects are is learnt as well", "30 min", GRASP_AUX),
    "grasp-modular": Experiment("grasp", "the same through a bottleneck of positions", "30 min", GRASP_MODULAR),
    "grasp": Experiment("grasp", "the best recipe of these", "30 min", GRASP_PIXELS),
    "grasp-shoulder": Experiment("grasp", "64×64 pictures by the paper's camera", "2 h", GRASP_SHOULDER),
    "grasp-paper": Experiment("grasp", "the paper's network at 472×472: for a GPU", "weeks", GRASP_PAPER),
}


def find(name: str) -> Experiment:
    """The experiment called `name`. Raises: UnknownExperiment."""
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, n=3, cutoff=0.4) or list(EXPERIMENTS)
        raise UnknownExperiment(f"no experiment {name!r}; nearest: {', '.join(near)} (all: handeye experiments)")
    return EXPERIMENTS[name]
