"""What a trained reaching system does: its networks, its trials, its figures, its policies."""

import csv
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handeye import checkpoint, planar_arm
from handeye.checkpoint import CheckpointError
from handeye.envs.reach_floor import floor_m
from handeye.envs.reaching import ACTIONS, PlanarReachConfig, PlanarReachVectorEnv, guide
from handeye.errors import Misuse, one_line
from handeye.evaluate import ReachTrials, distance_figures, reach_figures, run_reach_trials, sight_figures
from handeye.modular import networks
from handeye.policies import Remembered, random_policy
from handeye.reach import ReachConfig, held_out, new_control, new_perception, read_config
from handeye.types import Observation, Policy

NETS = ("initial", "naive", "finetuned", "control")
_PARTS: dict[str, tuple[str | None, str]] = {
    "sim_only": ("sim", "control"),
    "initial": ("adapted", "control"),
    "naive": ("naive_perception", "naive_control"),
    "finetuned": ("finetuned_perception", "finetuned_control"),
    "control": (None, "control"),
}
"""Which modules of a checkpoint make up a net: perception and control."""
STORED_TRIALS = 400
MOST_TRIALS = 100_000


@dataclass(frozen=True)
class ReachNets:
    """The networks of a checkpoint, by net: a perception and a control; `control` has no perception.

    Of a training stopped early only some are there; `sim_only` is what perception was before it was adapted.
    """

    name: str
    config: ReachConfig
    nets: dict[str, tuple[nn.Module | None, nn.Module]]

    def policy(self, net: str) -> Policy:
        """Greedy policy of a net; it needs `image`, or `state` = Θ for `control`."""
        perception, control = self.nets[net]
        if perception is None:
            return networks.greedy_on_theta(control)
        return networks.greedy_on_picture(perception, control)

    def trials(self, net: str, trials: dict[str, NDArray], domain: str, seed: int = 0) -> ReachTrials:
        """What a net does on trials, given as reset options; `seed` decides the camera domain's noise."""
        observe = "theta" if self.nets[net][0] is None else "image"
        env = _stage(trials, self.config.env, observe, domain)
        return run_reach_trials(env, Remembered(self.policy(net)), seed=seed, options=trials)


def load_nets(name: str, tree: checkpoint.Tree) -> ReachNets:
    """The networks of a final reaching checkpoint.

    Raises:
        CheckpointError: the tree is of another task, or its weights do not fit.
    """
    task = tree.get("task") if isinstance(tree, dict) else None
    if task != "reach":
        raise CheckpointError(f"{name} is no reaching checkpoint (its task: {task})")
    try:
        config = read_config(tree["config"])
        modules = {key: _filled(config.networks, key, weights) for key, weights in tree["modules"].items()}
        parts = {net: (see, act) for net, (see, act) in _PARTS.items() if act in modules and see in (None, *modules)}
        nets = {net: (None if see is None else modules[see], modules[act]) for net, (see, act) in parts.items()}
    except (KeyError, TypeError, AttributeError, RuntimeError, Misuse) as error:
        raise CheckpointError(f"{name} does not fit this version of handeye: {one_line(error)}") from error
    if not nets:
        raise CheckpointError(f"{name} has no control network yet: train it further than --until adapted")
    return ReachNets(name, config, nets)


def _filled(kind: str, key: str, weights: dict[str, torch.Tensor]) -> nn.Module:
    net = new_control(kind) if key.endswith("control") else new_perception(kind)
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    return net.eval().requires_grad_(False)


def _stage(trials: dict[str, NDArray], config: PlanarReachConfig, observe: str, domain: str) -> PlanarReachVectorEnv:
    return PlanarReachVectorEnv(len(trials["target_m"]), config, "disabled", observe=observe, domain=domain)


def stored_trials() -> dict[str, NDArray]:
    """The 400 start poses, targets and goal poses of the fixed protocol, drawn once: reset options of M trials."""
    text = (resources.files("handeye.envs") / "reach_trials.csv").read_text()
    rows = np.array([[float(value) for value in row] for row in list(csv.reader(text.splitlines()))[1:]])
    return {"joints_rad": rows[:, :3], "target_m": rows[:, 3:5], "goal_joints_rad": rows[:, 5:]}


def choose_trials(episodes: int, seed: int | None) -> dict[str, NDArray]:
    """The first of the stored trials, or fresh ones drawn from `seed`. Raises: Misuse for too many or none."""
    if not 1 <= episodes <= MOST_TRIALS:
        raise Misuse(f"--episodes must be in 1 … {MOST_TRIALS}, got {episodes}")
    if seed is None:
        stored = stored_trials()
        most = len(stored["target_m"])
        if episodes > most:
            raise Misuse(f"the fixed protocol has {most} trials, got --episodes {episodes}; --seed K draws any number")
        return {name: values[:episodes] for name, values in stored.items()}
    rng = np.random.default_rng(seed)
    joints, goals = planar_arm.random_joints(rng, episodes), planar_arm.random_goals(rng, episodes)
    return {"joints_rad": joints, "target_m": planar_arm.hand(goals), "goal_joints_rad": goals}


def evaluate(name: str, episodes: int | None, seed: int | None, domain: str) -> dict[str, Any]:
    """`handeye evaluate` for reaching: the dictionary of `--json`.

    Raises:
        CheckpointError: no such checkpoint, or one of another task.
        Misuse: more trials than are stored, or none.
    """
    trials = choose_trials(STORED_TRIALS if episodes is None else episodes, seed)
    sight: dict[str, Any] = {}
    if name in WORLD_POLICIES:
        config = PlanarReachConfig()
        env = _stage(trials, config, "theta", domain)
        ended = run_reach_trials(env, WORLD_POLICIES[name](env), seed=seed or 0, options=trials)
        nets = {name.split(":")[1]: reach_figures(ended)}
    else:
        loaded = load_nets(name, checkpoint.load(checkpoint.find(name)))
        config = loaded.config.env
        shown = [net for net in NETS if net in loaded.nets]
        nets = {net: reach_figures(loaded.trials(net, trials, domain, seed or 0)) for net in shown}
        sight = measure_sight(loaded, domain)
    nets["floor"] = distance_figures(floor_m(trials["joints_rad"], trials["target_m"], config))
    return {
        "task": "reach", "checkpoint": name, "domain": domain, "episodes": len(trials["target_m"]), "seed": seed,
        "success_radius_cm": 100 * config.success_radius_m, "max_steps": config.max_steps,
        "nets": nets, "perception": sight,
    }  # fmt: skip


def measure_sight(loaded: ReachNets, domain: str) -> dict[str, Any]:
    """Errors of the perception networks in pixels, on held-out pictures of the domain."""
    shown, theta = held_out(domain)
    seeing = {net: perception for net, (perception, _) in loaded.nets.items() if perception is not None}
    return {net: sight_figures(see(perception, shown), theta) for net, perception in seeing.items()}


@torch.no_grad()
def see(perception: nn.Module, shown: NDArray[np.uint8], batch: int = 64) -> NDArray:
    """Θ̂ (N, 5) of pictures (N, 84, 84)."""
    parts = torch.as_tensor(shown[..., None]).split(batch)
    return torch.cat([networks.perceive(perception, part) for part in parts]).numpy()


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
    loaded = load_nets(name, checkpoint.load(checkpoint.find(name)))
    if net not in loaded.nets:
        raise CheckpointError(f"{name} has no net {net!r}: its training was stopped before")
    policy = loaded.policy(net)

    def act(observation: Observation, /) -> Any:
        if next(iter(observation.values())).ndim in (1, 3):
            return int(policy({key: value[None] for key, value in observation.items()})[0])
        return policy(observation)

    return act
