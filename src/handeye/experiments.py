"""Every named experiment: a configuration, a line about it, and its cost on 2 cores."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from handeye import planar_arm
from handeye.envs.reaching import PlanarReachConfig
from handeye.errors import Misuse
from handeye.modular.control import ControlConfig
from handeye.modular.finetune import FinetuneConfig
from handeye.modular.perception import PerceptionConfig
from handeye.reach import ReachConfig


class UnknownExperiment(Misuse):
    """No experiment has this name; the message gives the nearest."""


@dataclass(frozen=True)
class Experiment:
    """A named configuration."""

    task: str
    line: str
    cost: str
    stored: Any
    """The configuration, or what gives it: those of grasping need packages that reaching does without."""

    @property
    def config(self) -> Any:
        return self.stored() if callable(self.stored) else self.stored


def _grasping(name: str) -> Callable[[], Any]:
    def load() -> Any:
        from handeye import grasp_experiments

        return getattr(grasp_experiments, name)

    return load


REACH_TUNING = FinetuneConfig(
    steps=3_000,
    discount=0.97,
    optimiser="muon-sgd",
    muon_rate=3e-3,
    learning_rate=0.01,
    rate_end=0.1,
    control_rate=0.002,
    task_bound=0.03,
    environments=64,
    target_rate=0.001,
)

SHORT_TUNING = FinetuneConfig(
    steps=100, discount=0.97, optimiser="sgd", learning_rate=0.01, rate_end=0.1, control_rate=0.02, warm_up=1_000
)

REACH_PAPER = ReachConfig(
    env=PlanarReachConfig(near_share=0.5),
    taught_radius_m=0.03,
    near_targets=0.75,
    sim=PerceptionConfig(steps=10_000, learning_rate=2e-3, muon_rate=0.01),
    adapted=PerceptionConfig(steps=70_000, learning_rate=1e-3, muon_rate=0.005, camera_share=0.75),
    control=ControlConfig(
        steps=80_000,
        batch=512,
        learning_rate=2e-3,
        discount=0.97,
        epsilon_over=0.3,
        replay=500_000,
        target_rate=0.01,
    ),
    finetuned=REACH_TUNING,
    naive=replace(REACH_TUNING, beta=0.0),
)
"""The paper's constants. What it does not state is listed, with reasons, in docs/reaching.md."""

SHORT_ADAPTATION = replace(REACH_PAPER.sim, steps=1_000, camera_share=REACH_PAPER.adapted.camera_share)
"""A seventieth of the adaptation, at the rates of `sim`."""

WEAK_TUNING = replace(REACH_TUNING, muon_rate=0.01, rate_end=0.03)

REACH_WEAK = replace(
    REACH_PAPER,
    adapted=replace(SHORT_ADAPTATION, steps=800),
    finetuned=WEAK_TUNING,
    naive=replace(WEAK_TUNING, beta=0.0),
)
"""Perception that adapts until Initial has about the paper's return leaves the fine-tuning something to mend, as in
the paper; and where so much is wrong, kernels can be turned three times as fast."""

REACH_QUICK = replace(
    REACH_PAPER,
    taught_radius_m=0.0,
    sim=replace(REACH_PAPER.sim, steps=1_000),
    adapted=SHORT_ADAPTATION,
    control=replace(REACH_PAPER.control, steps=12_000, batch=256),
    finetuned=SHORT_TUNING,
    naive=replace(SHORT_TUNING, beta=0.0),
)

REACH_BEST = replace(
    REACH_PAPER,
    networks="keypoints",
    near_targets=planar_arm.NEAR_SHARE,
    move_share=0.0,
    taught_radius_m=0.0,
    env=PlanarReachConfig(success_radius_m=0.01, max_steps=200, near_share=0.5),
    guide_polish=True,
    sim=PerceptionConfig(steps=5_000, muon_rate=0.01),
    adapted=PerceptionConfig(steps=10_000, muon_rate=0.01, camera_share=0.5, augment=0.5),
    control=replace(REACH_PAPER.control, steps=40_000, batch=256, learning_rate=1e-3),
    finetuned=FinetuneConfig(steps=250, discount=0.97, optimiser="sgd", learning_rate=0.003),
    naive=FinetuneConfig(steps=250, discount=0.97, optimiser="sgd", learning_rate=0.003, beta=0.0),
)
"""Any change that keeps nine actions, the 84×84 grey picture and the bottleneck."""

EXPERIMENTS = {
    "reach-quick": Experiment("reach", "the whole modular system, small: see it learn", "4 min", REACH_QUICK),
    "reach-paper": Experiment("reach", "the paper's setting: networks, losses, constants", "2 h", REACH_PAPER),
    "reach-weak": Experiment("reach", "the same with weaker sight: what fine-tuning mends", "45 min", REACH_WEAK),
    "reach-best": Experiment("reach", "best result on the same trials: keypoints and kinematics", "1 h", REACH_BEST),
    "grasp-state": Experiment(
        "grasp", "positions of objects instead of pictures: all learns", "7 min", _grasping("STATE")
    ),
    "grasp-quick": Experiment(
        "grasp", "pictures, for a few minutes: better than the script", "10 min", _grasping("QUICK")
    ),
    "grasp-pixels": Experiment(
        "grasp", "64×64 pictures by a camera that follows the gripper", "30 min", _grasping("PIXELS")
    ),
    "grasp-aux": Experiment("grasp", "the same, and where objects are is learnt as well", "30 min", _grasping("AUX")),
    "grasp-modular": Experiment("grasp", "the same through a bottleneck of positions", "30 min", _grasping("MODULAR")),
    "grasp": Experiment("grasp", "the best recipe of these: two networks at once", "30 min", _grasping("BEST")),
    "grasp-shoulder": Experiment("grasp", "64×64 pictures by the paper's camera", "1.7 h", _grasping("SHOULDER")),
    "grasp-paper": Experiment(
        "grasp", "the paper's network at 472×472: for a GPU (--run.device cuda)", "weeks", _grasping("PAPER")
    ),
}


def find(name: str) -> Experiment:
    """The experiment called `name`. Raises: UnknownExperiment."""
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, n=3, cutoff=0.4) or list(EXPERIMENTS)
        raise UnknownExperiment(f"no experiment {name!r}; nearest: {', '.join(near)} (all: handeye experiments)")
    return EXPERIMENTS[name]
