"""The reaching system put together: its configuration, its stages in order, and its final checkpoint."""

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handeye import checkpoint, pictures, planar_arm
from handeye.checkpoint import CheckpointError
from handeye.envs import camera_domain, reach_pictures
from handeye.envs.reaching import PlanarReachConfig, PlanarReachVectorEnv, draw_theta, guide
from handeye.errors import Misuse, need, need_one_of, need_unset, one_line
from handeye.modular import keypoints, networks
from handeye.modular.control import ControlConfig, ControlStage
from handeye.modular.finetune import Combined, FinetuneConfig, FinetuneStage
from handeye.modular.perception import PerceptionConfig, PerceptionStage, SightLoss, Source, theta_loss
from handeye.nn import seeded, weights_of
from handeye.rearranging import StillCamera, rearranging_source
from handeye.run import Plan, Results, stage_key
from handeye.types import FloatArray, Policy

STAGES = ("sim", "adapted", "control", "finetuned", "naive")
HELD_OUT_SEED = 2
HELD_OUT = 400


@dataclass(frozen=True)
class ReachConfig:
    """One training of the modular system, whole. Raises ValueError for values that make none."""

    networks: Literal["paper", "keypoints"] = "paper"
    """`paper`: three convolutions, and 5-400-300-9. `keypoints`: see modular/keypoints.py."""
    conv1: str = ""
    """A safetensors file with starting weights of the first convolution; only for `paper`."""
    env: PlanarReachConfig = PlanarReachConfig()
    taught_radius_m: float = 0.0
    """δ of the trials by which control and fine-tuning learn; 0: the task's. Control that has learnt to come nearer
    than it must bears more of what perception gets wrong."""
    guide_tolerance_steps: float = 1.0
    """The kinematic controller is done when every joint is nearer than this to its goal."""
    guide_polish: bool = False
    """Then it goes on with the move that brings the hand nearest, instead of holding."""
    real: str = ""
    """A folder of labelled second-domain pictures; empty: the synthetic camera domain."""
    camera_pictures: int = 1418
    camera_seed: int = 1
    """Of the synthetic second-domain training pictures."""
    turn_rad: float = 0.5
    """Second-domain training pictures are turned about the shoulder by angles of this σ; 0: never."""
    move_share: float = 0.6
    """Share of those pictures whose target is moved. Both: see rearranging.py."""
    still_camera: bool = True
    """The second domain's camera does not move: `paper` is told what stands behind the arm there."""
    near_targets: float = planar_arm.NEAR_SHARE
    """Share of the scenes to learn to see that have the target near the arm; 0: poses and targets are independent."""
    sim: PerceptionConfig = PerceptionConfig()
    adapted: PerceptionConfig = PerceptionConfig(camera_share=0.75)
    control: ControlConfig = ControlConfig()
    finetuned: FinetuneConfig = FinetuneConfig()
    naive: FinetuneConfig = FinetuneConfig(beta=0.0)

    def __post_init__(self) -> None:
        need_one_of(self, "networks", ("paper", "keypoints"))
        need(self, ("camera_pictures",), 1, 1_000_000)
        need(self, ("camera_seed",), 0, 2**32)
        need(self, ("turn_rad",), 0, 3.2)
        need(self, ("move_share", "near_targets"), 0, 1)
        need(self, ("taught_radius_m",), 0, self.env.success_radius_m)
        need(self, ("guide_tolerance_steps",), 0.5, 10)
        if self.conv1 and self.networks != "paper":
            raise Misuse("conv1 weights fit only networks=paper")
        if not self.still_camera and self.networks != "paper":
            raise Misuse("still_camera says something to networks=paper only")
        need_unset(self.env, ("observe", "domain"), "env")


def geometry() -> keypoints.Geometry:
    """The Baxter arm and its picture as the keypoint networks need to know them."""

    def plain(*arrays: NDArray) -> tuple[float, ...]:
        return tuple(float(value) for array in arrays for value in array)

    return keypoints.Geometry(
        along_m=plain(planar_arm.LINK_ALONG_M),
        down_m=plain(planar_arm.LINK_DOWN_M),
        low=plain(planar_arm.TARGET_LOW_M, planar_arm.LOWER_RAD),
        high=plain(planar_arm.TARGET_HIGH_M, planar_arm.UPPER_RAD),
        origin_px=(float(reach_pictures.SHOULDER_PX[0]), float(reach_pictures.SHOULDER_PX[1])),
        m_per_px=planar_arm.M_PER_PX,
    )


def new_perception(kind: str) -> nn.Module:
    """An untrained perception network, `paper` or `keypoints`."""
    return networks.perception_net() if kind == "paper" else keypoints.KeypointPerception(geometry())


def new_control(kind: str) -> nn.Module:
    """An untrained control network, `paper` or `keypoints`."""
    return networks.control_net() if kind == "paper" else keypoints.KinematicControl(geometry())


def sight_loss(kind: str) -> SightLoss:
    """What perception of this kind is trained by before the fine-tuning."""
    return theta_loss if kind == "paper" else keypoints.keypoint_loss


def draw_sim(
    count: int, rng: np.random.Generator, near: float = planar_arm.NEAR_SHARE
) -> tuple[NDArray[np.uint8], FloatArray]:
    """The simulator as a source of labelled pictures, a share `near` of them with the target near the arm."""
    target, joints = planar_arm.random_scenes(rng, count, near)
    return reach_pictures.draw(target, joints), planar_arm.to_theta(target, joints)


def second_camera(config: ReachConfig) -> StillCamera:
    """The second domain's training pictures and their Θ. Raises: PictureError."""
    if config.real:
        return StillCamera(*pictures.read(Path(config.real)))
    count, seed, near = config.camera_pictures, config.camera_seed, config.near_targets
    return StillCamera(*camera_domain.labelled(count, seed, True, near))


@dataclass(frozen=True)
class Stages:
    """The stages of a training, each begun from the results so far."""

    config: ReachConfig
    seed: int
    still: StillCamera

    @cached_property
    def camera(self) -> Source:
        """Second-domain pictures, drawn with replacement and rearranged."""
        config = self.config
        return rearranging_source(self.still, config.turn_rad, config.move_share, config.near_targets)

    def sim(self, results: Results) -> PerceptionStage:
        """Perception on simulated pictures, from fresh weights."""
        with seeded(self.seed):
            net = new_perception(self.config.networks)
        if self.config.conv1:
            networks.load_conv1(net, self.config.conv1)
        if self.config.sim.camera_share:
            self._tell(net)
        return self._perception(net, self.config.sim)

    def adapted(self, results: Results) -> PerceptionStage:
        """Perception with a share of second-domain pictures, from `sim`."""
        net = self._perceiving(results["sim"])
        self._tell(net)
        return self._perception(net, self.config.adapted)

    def control(self, results: Results) -> ControlStage:
        """Control on the true Θ."""
        with seeded(self.seed):
            net = new_control(self.config.networks)
        env, expert = self._world(self.config.control.environments)
        return ControlStage(net, new_control(self.config.networks), env, expert, self.config.control, self.seed)

    def tuned(self, results: Results, tuning: FinetuneConfig) -> FinetuneStage:
        """Both end to end, from `adapted` and `control`."""
        kind, seed = self.config.networks, self.seed + tuning.seed
        control = new_control(kind)
        control.load_state_dict(results["control"])
        net = Combined(self._perceiving(results["adapted"]), control)
        average = Combined(new_perception(kind), new_control(kind))
        env, expert = self._world(tuning.environments)
        return FinetuneStage(net, average, env, expert, draw_theta, self.camera, tuning, seed)

    def _tell(self, net: nn.Module) -> None:
        """What stands behind the arm in the second domain, where that is to be told."""
        if self.config.networks == "paper" and self.config.still_camera:
            networks.stand_before(net, self.still.behind)

    def _perceiving(self, weights: checkpoint.Tree) -> nn.Module:
        net = new_perception(self.config.networks)
        net.load_state_dict(weights)
        return net

    def _perception(self, net: nn.Module, training: PerceptionConfig) -> PerceptionStage:
        kind = self.config.networks
        sim = partial(draw_sim, near=self.config.near_targets)
        return PerceptionStage(net, new_perception(kind), sim, self.camera, training, self.seed, sight_loss(kind))

    def _world(self, environments: int) -> tuple[PlanarReachVectorEnv, Policy]:
        radius_m = self.config.taught_radius_m or self.config.env.success_radius_m
        env = PlanarReachVectorEnv(environments, self.config.env, observe="theta", success_radius_m=radius_m)
        return env, guide(env, self.config.guide_tolerance_steps, self.config.guide_polish)


def plan(config: ReachConfig, seed: int) -> Plan:
    """The stages of a training in order, each with all that decides its result.

    Raises:
        PictureError: the folder of second-domain pictures is not as it must be.
        Failure: the file of first-layer weights is not.
    """
    if config.conv1:
        networks.load_conv1(new_perception(config.networks), config.conv1)
    stages = Stages(config, seed, second_camera(config))
    # Files by what is in them: a path may hold something else by now.
    photographs = _digest(stages.still.pictures, stages.still.theta) if config.real else ""
    first = _digest(np.fromfile(config.conv1, np.uint8)) if config.conv1 else ""
    shown = (photographs, config.camera_pictures, config.camera_seed, config.turn_rad, config.move_share)
    sim = (config.networks, first, config.near_targets, config.sim)
    seen = (*sim, *shown, config.still_camera) if config.sim.camera_share else sim
    adapted = (*sim, *shown, config.still_camera, config.adapted)
    guided = (config.guide_tolerance_steps, config.guide_polish)
    acted = (config.networks, config.env, config.taught_radius_m, *guided, config.control)
    return [
        ("sim", seen, lambda results, _: stages.sim(results)),
        ("adapted", adapted, lambda results, _: stages.adapted(results)),
        ("control", acted, lambda results, _: stages.control(results)),
        ("finetuned", (*adapted, *acted, config.finetuned), lambda results, _: stages.tuned(results, config.finetuned)),
        ("naive", (*adapted, *acted, config.naive), lambda results, _: stages.tuned(results, config.naive)),
    ]


def _digest(*arrays: NDArray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def final_checkpoint(config: ReachConfig, experiment: str, seed: int, results: Results) -> checkpoint.Tree:
    """What a training ends with: every module trained so far once, and the configuration."""
    modules: dict[str, dict[str, Any]] = {k: results[k] for k in ("sim", "adapted", "control") if k in results}
    for name in {"finetuned", "naive"} & results.keys():
        for part in ("perception", "control"):
            modules[f"{name}_{part}"] = weights_of(part, results[name])
    about = {"task": "reach", "experiment": experiment, "seed": seed, "config": dataclasses.asdict(config)}
    return about | {"modules": {name: modules[name] for name in sorted(modules)}}


def finished(name: str, final: checkpoint.Tree) -> Results:
    """The stages that `final_checkpoint` was made of, each with its `key` and `result`; `name` is for errors.

    Of a shipped checkpoint they are as its weights were rounded: see `packed`.

    Raises:
        CheckpointError: it is of another task or version.
    """
    if not isinstance(final, dict) or final.get("task") != "reach":
        raise CheckpointError(f"{name} is no final checkpoint of reaching")

    try:
        config, seed = read_config(final["config"]), final["seed"]
        keys = {stage: stage_key(decided, seed) for stage, decided, _ in plan(config, seed)}
        made: Results = {}
        for module, weights in final["modules"].items():
            stage, _, part = module.partition("_")
            result = made.setdefault(stage, {"key": keys[stage], "result": {}})["result"]
            before = f"{part}." if part else ""
            result |= {before + weight: value.float() for weight, value in weights.items()}
        return made
    except (KeyError, TypeError, AttributeError, Misuse) as error:
        raise CheckpointError(f"{name} does not fit this version of handeye: {one_line(error)}") from error


def packed(final: checkpoint.Tree) -> checkpoint.Tree:
    """A final checkpoint as small as it is shipped.

    Perception's kernels are rounded to bf16, by which they are multiplied; sums of 18,496 products that all but
    cancel do not bear any other rounding. Fine-tuned controls are in half precision. Control on the true Θ stays as it
    is: rounding turns near ties between its actions.
    """

    def small(module: str, name: str, value: torch.Tensor) -> torch.Tensor:
        if module.endswith("control"):
            return value if module == "control" else value.half()
        return value.bfloat16() if name.endswith("weight") else value

    modules = {m: {name: small(m, name, v) for name, v in part.items()} for m, part in final["modules"].items()}
    return final | {"modules": modules}


def read_config(values: dict[str, Any]) -> ReachConfig:
    """A configuration from the nested dictionary that `dataclasses.asdict` makes of it."""
    parts = {"env": PlanarReachConfig, "sim": PerceptionConfig, "adapted": PerceptionConfig, "control": ControlConfig}
    parts |= {"finetuned": FinetuneConfig, "naive": FinetuneConfig}
    return ReachConfig(**{key: parts[key](**value) if key in parts else value for key, value in values.items()})


def held_out(domain: str) -> tuple[NDArray[np.uint8], FloatArray]:
    """400 pictures that no training sees, with true labels."""
    if domain == "camera":
        return camera_domain.labelled(HELD_OUT, HELD_OUT_SEED, label_noise=False)
    return draw_sim(HELD_OUT, np.random.default_rng(HELD_OUT_SEED))
