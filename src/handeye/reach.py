"""The reaching system put together: its configuration, its stages in order, and its evaluation."""

import csv
import dataclasses
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handeye import checkpoint, pictures, planar_arm
from handeye.checkpoint import CheckpointError
from handeye.envs import camera_domain, reach_pictures
from handeye.envs.reach_floor import floor_m
from handeye.envs.reaching import ACTIONS, PlanarReachConfig, PlanarReachVectorEnv, draw_theta, guide
from handeye.errors import Misuse, need, need_one_of
from handeye.evaluate import distance_figures, reach_figures, run_reach_trials, sight_figures
from handeye.modular import keypoints, networks
from handeye.modular.control import ControlConfig, ControlStage
from handeye.modular.finetune import Combined, FinetuneConfig, FinetuneStage
from handeye.modular.perception import PerceptionConfig, PerceptionStage, SightLoss, Source, theta_loss
from handeye.nn import seeded
from handeye.policies import Remembered, random_policy
from handeye.run import Plan, Results
from handeye.types import FloatArray, Observation, Policy

STAGES = ("sim", "adapted", "control", "finetuned", "naive")
NETS = ("initial", "naive", "finetuned", "control")
HELD_OUT_SEED = 2
HELD_OUT = STORED_TRIALS = 400
MOST_EPISODES = 100_000


@dataclass(frozen=True)
class ReachConfig:
    """One training of the modular system, whole. Raises ValueError for values that make none."""

    networks: Literal["paper", "keypoints"] = "paper"
    """`paper`: three convolutions, and 5-400-300-9. `keypoints`: see modular/keypoints.py."""
    conv1: str = ""
    """A safetensors file with starting weights of the first convolution; only for `paper`."""
    env: PlanarReachConfig = PlanarReachConfig()
    guide_tolerance_steps: float = 1.0
    """The kinematic controller is done when every joint is nearer than this to its goal."""
    guide_polish: bool = False
    """Then it goes on with the move that brings the hand nearest, instead of holding."""
    real: str = ""
    """A folder of labelled second-domain pictures; empty: the synthetic camera domain."""
    camera_pictures: int = 1418
    camera_seed: int = 1
    """Of the synthetic second-domain training pictures."""
    sim: PerceptionConfig = PerceptionConfig()
    adapted: PerceptionConfig = PerceptionConfig(camera_share=0.75)
    control: ControlConfig = ControlConfig()
    finetuned: FinetuneConfig = FinetuneConfig()
    naive: FinetuneConfig = FinetuneConfig(beta=0.0)

    def __post_init__(self) -> None:
        need_one_of(self, "networks", ("paper", "keypoints"))
        need(self, ("camera_pictures",), 1, 1_000_000)
        need(self, ("camera_seed",), 0, 2**32)
        need(self, ("guide_tolerance_steps",), 0.5, 10)
        if self.conv1 and self.networks != "paper":
            raise Misuse("conv1 weights fit only networks=paper")


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


def draw_sim(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], FloatArray]:
    """The simulator as a source of labelled pictures: uniform poses, targets as in the task."""
    joints = planar_arm.random_joints(rng, count)
    target = planar_arm.hand(planar_arm.random_goals(rng, count))
    return reach_pictures.draw(target, joints), planar_arm.to_theta(target, joints)


def camera_source(config: ReachConfig) -> Source:
    """The second domain's training pictures, drawn with replacement. Raises: PictureError for a bad folder."""
    if config.real:
        shown, theta = pictures.read(Path(config.real))
    else:
        shown, theta = camera_domain.labelled(config.camera_pictures, config.camera_seed, label_noise=True)

    def draw(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], FloatArray]:
        which = rng.integers(len(shown), size=count)
        return shown[which], theta[which]

    return draw


def plan(config: ReachConfig, seed: int) -> Plan:
    """The stages of a training: SIM, adapted, control, fine-tuned, naive. Bad files are reported here."""
    camera = camera_source(config)
    kind, loss = config.networks, sight_loss(config.networks)
    if config.conv1:
        networks.load_conv1(new_perception(kind), config.conv1)

    def fresh(results: Results, name: str) -> nn.Module:
        net = new_perception(kind)
        net.load_state_dict(results[name])
        return net

    def sim(results: Results) -> PerceptionStage:
        with seeded(seed):
            net = new_perception(kind)
        if config.conv1:
            networks.load_conv1(net, config.conv1)
        return PerceptionStage(net, new_perception(kind), draw_sim, camera, config.sim, seed, loss)

    def adapted(results: Results) -> PerceptionStage:
        return PerceptionStage(
            fresh(results, "sim"), new_perception(kind), draw_sim, camera, config.adapted, seed, loss
        )

    def control(results: Results) -> ControlStage:
        with seeded(seed):
            net = new_control(kind)
        env = PlanarReachVectorEnv(config.control.environments, config.env, observe="theta")
        expert = guide(env, config.guide_tolerance_steps, config.guide_polish)
        return ControlStage(net, new_control(kind), env, expert, config.control, seed)

    def finetuned(results: Results, tuning: FinetuneConfig) -> FinetuneStage:
        control_net = new_control(kind)
        control_net.load_state_dict(results["control"])
        env = PlanarReachVectorEnv(tuning.environments, config.env, observe="theta")
        return FinetuneStage(
            Combined(fresh(results, "adapted"), control_net),
            Combined(new_perception(kind), new_control(kind)),
            env, guide(env, config.guide_tolerance_steps, config.guide_polish), draw_theta, camera, tuning, seed + tuning.seed,
        )  # fmt: skip

    seen = (kind, config.conv1, config.sim)
    second = (config.real, config.camera_pictures, config.camera_seed)
    acted = (kind, config.env, config.guide_tolerance_steps, config.guide_polish, config.control)
    both = (*seen, *second, config.adapted, *acted)
    return [
        ("sim", seen, sim),
        ("adapted", (*seen, *second, config.adapted), adapted),
        ("control", acted, control),
        ("finetuned", (*both, config.finetuned), lambda results: finetuned(results, config.finetuned)),
        ("naive", (*both, config.naive), lambda results: finetuned(results, config.naive)),
    ]


def final_checkpoint(config: ReachConfig, experiment: str, seed: int, results: Results) -> checkpoint.Tree:
    """What is shipped: every module once, in half precision, and which make up which net."""
    modules = {name: results[name] for name in ("sim", "adapted", "control")}
    for name in ("finetuned", "naive"):
        for part in ("perception", "control"):
            weights = results[name].items()
            modules[f"{name}_{part}"] = {k.removeprefix(part + "."): v for k, v in weights if k.startswith(part + ".")}
    half = {name: {k: v.half() for k, v in weights.items()} for name, weights in modules.items()}
    return {
        "task": "reach", "experiment": experiment, "seed": seed,
        "config": dataclasses.asdict(config), "modules": half,
    }  # fmt: skip


@dataclass(frozen=True)
class ReachNets:
    """The networks of a checkpoint: a perception and a control each; `control` sees the true Θ."""

    name: str
    config: ReachConfig
    nets: dict[str, tuple[nn.Module | None, nn.Module]]
    sim_only: nn.Module

    def policy(self, net: str) -> Policy:
        """Greedy policy of a net; it needs `image`, or `state` = Θ for `control`."""
        perception, control = self.nets[net]
        return (
            networks.greedy_on_theta(control) if perception is None else networks.greedy_on_picture(perception, control)
        )


def load_nets(name: str, tree: checkpoint.Tree) -> ReachNets:
    """The networks of a final reaching checkpoint.

    Raises:
        CheckpointError: the tree is of another task, or its weights do not fit.
    """
    if not isinstance(tree, dict) or tree.get("task") != "reach":
        raise CheckpointError(
            f"{name} is no reaching checkpoint (its task: {tree.get('task') if isinstance(tree, dict) else None})"
        )
    try:
        config = read_config(tree["config"])
        weights = tree["modules"]

        def perception(module: str) -> nn.Module:
            return _filled(new_perception(config.networks), weights[module])

        def control(module: str) -> nn.Module:
            return _filled(new_control(config.networks), weights[module])

        acting = control("control")
        nets: dict[str, tuple[nn.Module | None, nn.Module]] = {
            "initial": (perception("adapted"), acting),
            "naive": (perception("naive_perception"), control("naive_control")),
            "finetuned": (perception("finetuned_perception"), control("finetuned_control")),
            "control": (None, acting),
        }
        return ReachNets(name, config, nets, perception("sim"))
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{name} does not fit this version of handeye: {error}") from error


def _filled(net: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    net.load_state_dict({key: value.float() for key, value in weights.items()})
    return net.eval().requires_grad_(False)


def read_config(values: dict[str, Any]) -> ReachConfig:
    """A configuration from the nested dictionary that `dataclasses.asdict` makes of it."""
    parts = {"env": PlanarReachConfig, "sim": PerceptionConfig, "adapted": PerceptionConfig, "control": ControlConfig}
    parts |= {"finetuned": FinetuneConfig, "naive": FinetuneConfig}
    return ReachConfig(**{key: parts[key](**value) if key in parts else value for key, value in values.items()})


def stored_trials() -> dict[str, NDArray]:
    """The 400 start poses, targets and goal poses of the fixed protocol, drawn once: reset options of M trials."""
    text = (resources.files("handeye.envs") / "reach_trials.csv").read_text()
    rows = np.array([[float(value) for value in row] for row in list(csv.reader(text.splitlines()))[1:]])
    return {"joints_rad": rows[:, :3], "target_m": rows[:, 3:5], "goal_joints_rad": rows[:, 5:]}


def choose_trials(episodes: int, seed: int | None) -> dict[str, NDArray]:
    """The first of the stored trials, or fresh ones drawn from `seed`. Raises: ValueError for too many or none."""
    if not 1 <= episodes <= MOST_EPISODES:
        raise Misuse(f"--episodes must be in 1 … {MOST_EPISODES}, got {episodes}")
    if seed is None:
        stored = stored_trials()
        most = len(stored["target_m"])
        if episodes > most:
            raise Misuse(f"the fixed protocol has {most} trials, got --episodes {episodes}; --seed K draws any number")
        return {name: values[:episodes] for name, values in stored.items()}
    rng = np.random.default_rng(seed)
    joints, goals = planar_arm.random_joints(rng, episodes), planar_arm.random_goals(rng, episodes)
    return {"joints_rad": joints, "target_m": planar_arm.hand(goals), "goal_joints_rad": goals}


def evaluate_policies(
    config: PlanarReachConfig, policies: dict[str, Any], trials: dict[str, NDArray], domain: str, seed: int
) -> dict[str, Any]:
    """Figures of each policy on the same trials. A policy is made by a function of its environment.

    `seed` decides the camera domain's noise. `floor` is added: the best final distance of any policy.
    """
    count = len(trials["target_m"])
    nets: dict[str, Any] = {}
    for name, make in policies.items():
        env = PlanarReachVectorEnv(
            count, config, "disabled", observe="both" if name == "control" else "image", domain=domain
        )
        nets[name] = reach_figures(run_reach_trials(env, make(env), seed=seed, options=trials))
    best = floor_m(trials["joints_rad"], trials["target_m"], config)
    return nets | {"floor": distance_figures(best)}


def evaluate(name: str, episodes: int | None, seed: int | None, domain: str) -> dict[str, Any]:
    """`handeye evaluate` for reaching: the dictionary of `--json`."""
    trials = choose_trials(STORED_TRIALS if episodes is None else episodes, seed)
    if name in WORLD_POLICIES:
        config = PlanarReachConfig()
        nets = evaluate_policies(config, {name.split(":")[1]: WORLD_POLICIES[name]}, trials, domain, seed or 0)
        sight = {}
    else:
        loaded = load_nets(name, checkpoint.load(checkpoint.find(name)))
        config = loaded.config.env
        policies = {net: (lambda env, net=net: Remembered(loaded.policy(net))) for net in NETS}
        nets = evaluate_policies(config, policies, trials, domain, seed or 0)
        sight = measure_sight(loaded, domain)
    return {
        "task": "reach", "checkpoint": name, "domain": domain, "episodes": len(trials["target_m"]), "seed": seed,
        "success_radius_cm": 100 * config.success_radius_m, "max_steps": config.max_steps,
        "nets": nets, "perception": sight,
    }  # fmt: skip


def measure_sight(loaded: ReachNets, domain: str) -> dict[str, Any]:
    """Errors of the perception networks in pixels, on held-out pictures of the domain."""
    shown, theta = held_out(domain)
    seen_by = {"sim_only": loaded.sim_only} | {net: pair[0] for net, pair in loaded.nets.items() if pair[0] is not None}
    return {net: sight_figures(see(perception, shown), theta) for net, perception in seen_by.items()}


@torch.no_grad()
def see(perception: nn.Module, shown: NDArray[np.uint8], batch: int = 64) -> NDArray:
    """Θ̂ (N, 5) of pictures (N, 84, 84)."""
    parts = torch.as_tensor(shown[..., None]).split(batch)
    return torch.cat([networks.perceive(perception, part) for part in parts]).numpy()


def held_out(domain: str) -> tuple[NDArray[np.uint8], FloatArray]:
    """400 pictures that no training sees, with true labels."""
    if domain == "camera":
        return camera_domain.labelled(HELD_OUT, HELD_OUT_SEED, label_noise=False)
    return draw_sim(HELD_OUT, np.random.default_rng(HELD_OUT_SEED))


WORLD_POLICIES = {
    "reach:guide": guide,
    "reach:random": lambda env: random_policy(ACTIONS, np.random.default_rng(0)),
}
"""Policies of the world itself, each built with the environment."""


def load_policy(name: str, net: str = "finetuned", env: PlanarReachVectorEnv | None = None) -> Policy:
    """Greedy policy of a checkpoint's net, or a policy of the world built with `env`.

    It takes one observation and returns an int, or N of them and returns (N,).

    Raises:
        CheckpointError: no such checkpoint.
        Misuse: no such net, or a policy of the world without its environment.
    """
    if name in WORLD_POLICIES:
        if env is None:
            raise Misuse(f"{name} knows the world itself: give its vector environment as env=…")
        return WORLD_POLICIES[name](env)
    if net not in NETS:
        raise Misuse(f"net must be one of {', '.join(NETS)}, got {net!r}")
    policy = load_nets(name, checkpoint.load(checkpoint.find(name))).policy(net)

    def act(observation: Observation, /) -> Any:
        if next(iter(observation.values())).ndim in (1, 3):
            return int(policy({key: value[None] for key, value in observation.items()})[0])
        return policy(observation)

    return act
