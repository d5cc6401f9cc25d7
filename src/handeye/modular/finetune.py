"""End-to-end fine-tuning of perception and control with weighted losses."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handeye import augment
from handeye.checkpoint import Tree
from handeye.errors import need, need_one_of
from handeye.learner import Learner, Muon, muon_and_adam
from handeye.modular.control import Experience, ResumableEnv, remember, replay_of_theta
from handeye.modular.losses import q_targets, weighted_loss
from handeye.modular.networks import greedy_on_picture, perceive, perceive_float
from handeye.modular.perception import Source
from handeye.nn import to_float
from handeye.policies import EpsilonMix
from handeye.types import Observation, Policy

Draw = Callable[[NDArray], NDArray[np.uint8]]
"""The simulator's pictures (N, 84, 84) of Θ (N, 5)."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Weighted fine-tuning. Raises ValueError for values that train nothing."""

    steps: int = 1_000
    seed: int = 0
    """Added to the run's seed, so that fine-tuning can be repeated from the same networks."""
    beta: float = 0.8
    """β of L = β L_p + (1 − β) L_q at the bottleneck; 0 is the naive fine-tuning, 1 teaches perception by L_p alone."""
    optimiser: Literal["adam", "sgd", "muon", "muon-sgd"] = "adam"
    """Of perception and control. `muon`: Muon on the kernels of perception's convolutions, Adam on all else;
    `muon-sgd`: Muon on all of perception's kernels, SGD on all else."""
    momentum: float = 0.0
    """Nesterov momentum of SGD."""
    muon_rate: float = 0.003
    learning_rate: float = 0.001
    """At the start; it falls exponentially."""
    rate_end: float = 0.1
    """Share of the learning rate that is left at the end: the paper's 0.01 … 0.001 is a tenth."""
    clip_norm: float = 1.0
    """The gradient of what each optimiser moves is shortened to this length."""
    control_rate: float = 0.1
    """Learning rate of control, as a share of perception's: control has converged before, and soon unlearns."""
    task_batch: int = 64
    """Transitions for L_q; their pictures also count for L_p."""
    camera_batch: int = 192
    """Second-domain pictures for L_p."""
    augment: float = 0.0
    """Strength of the photometric augmentation of second-domain pictures, 0 … 1."""
    task_bound: float = 0.0
    """L_q's gradient at the Θ̂ of one picture is shortened to this length; 0: never. Few pictures hold most of it."""
    freeze_control: bool = False
    sum_gradients: bool = False
    """The ablation that divides both losses by `task_batch`."""
    epsilon: float = 0.1
    """Exploration of K-GPS."""
    environments: int = 16
    discount: float = 0.99
    replay: int = 50_000
    warm_up: int = 10_000
    """Transitions in the replay memory before the first update."""
    targets: Literal["seen", "true"] = "seen"
    """What the targets of L_q know of the next state: Θ̂, as perception sees it, or its true Θ."""
    target_rate: float = 0.01
    """Rate of the running average of the weights that gives the targets of L_q, and that is kept in the end."""

    def __post_init__(self) -> None:
        need(self, ("steps", "replay"), 1, 100_000_000)
        need(self, ("task_batch", "environments"), 1, 100_000)
        need(self, ("warm_up",), 1, self.replay)
        need(self, ("camera_batch", "seed"), 0, 100_000)
        need(self, ("learning_rate", "muon_rate", "rate_end", "control_rate", "target_rate"), 0, 1, above=True)
        need(self, ("clip_norm",), 0, 1e9, above=True)
        need(self, ("task_bound",), 0, 1e9)
        need_one_of(self, "optimiser", ("adam", "sgd", "muon", "muon-sgd"))
        need_one_of(self, "targets", ("seen", "true"))
        need(self, ("beta", "augment", "epsilon", "discount"), 0, 1)
        need(self, ("momentum",), 0, 0.9999)


class Combined(nn.Module):
    """Perception, then control."""

    def __init__(self, perception: nn.Module, control: nn.Module) -> None:
        super().__init__()
        self.perception, self.control = perception, control


def _optimisers(net: Combined, config: FinetuneConfig) -> list[torch.optim.Optimizer]:
    """Those of perception, then that of control, unless it is frozen."""
    descent: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    if config.optimiser in ("sgd", "muon-sgd"):
        descent = partial(torch.optim.SGD, momentum=config.momentum, nesterov=config.momentum > 0)
    sight = list(net.perception.parameters())
    if config.optimiser == "muon":
        optimisers = muon_and_adam(net.perception, config.muon_rate, config.learning_rate)
    elif config.optimiser == "muon-sgd":
        kernels, biases = ([p for p in sight if (p.ndim > 1) == kernel] for kernel in (True, False))
        optimisers = [Muon(kernels, config.muon_rate), descent(biases, lr=config.learning_rate)]
    else:
        optimisers = [descent(sight, lr=config.learning_rate)]
    if not config.freeze_control:
        optimisers.append(descent(net.control.parameters(), lr=config.learning_rate * config.control_rate))
    return optimisers


class FinetuneStage:
    """Task samples from the replay of the combined network's own trials; perception samples from both domains."""

    def __init__(
        self,
        net: Combined,
        average: Combined,
        env: ResumableEnv,
        guide: Policy,
        draw: Draw,
        camera: Source,
        config: FinetuneConfig,
        seed: int,
    ) -> None:  # fmt: skip
        """`average` has the shape of `net`; `env` observes `state` = Θ, whose pictures `draw` draws."""
        self.net, self.average, self.draw, self.camera, self.config = net, average, draw, camera, config
        self.steps, self.done = config.steps, 0
        self.rng = np.random.default_rng(seed)
        self.replay = replay_of_theta(config.replay)
        self.learner = Learner(net, average, _optimisers(net, config), config.clip_norm)
        sighted = greedy_on_picture(net.perception, net.control)

        def act(observation: Observation, /) -> NDArray:
            return sighted({"image": draw(observation["state"])[..., None]})

        self.policy = EpsilonMix(guide, act, self.rng, config.epsilon)
        self.experience = Experience(env, self.policy, seed)

    def step(self) -> dict[str, float]:
        """One step of all environments and one update. Returns L_p, L_q, and what trials ended like."""
        config = self.config
        while len(self.replay) < config.warm_up:
            remember(self.replay, self.experience.step(), config.discount)
        remember(self.replay, self.experience.step(), config.discount)
        batch = {name: torch.as_tensor(v) for name, v in self.replay.sample(config.task_batch, self.rng).items()}
        with torch.no_grad():
            ahead = self.average.control(self._ahead(batch["next_theta"]))
            targets = q_targets(batch["reward"], batch["discount"], ahead)
        loss, sight, task = self._losses(batch, targets)
        scale = config.rate_end ** (self.done / self.steps)
        self.learner.update(loss, scale, config.target_rate)
        self.done += 1
        values = {"l_p": sight.item(), "l_q": task.item(), "rate": config.learning_rate * scale}
        return values | self.experience.summary()

    def _losses(self, batch: dict[str, torch.Tensor], targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        config = self.config
        seen = perceive(self.net.perception, self._pictures(batch["theta"]))
        seen_all, theta_all = seen, batch["theta"]
        if config.camera_batch and config.beta:
            pictures, theta = self.camera(config.camera_batch, self.rng)
            shown = to_float(pictures[..., None])
            if config.augment:
                shown = augment.photometric(shown, self.rng, config.augment)
            seen_all = torch.cat([seen, perceive_float(self.net.perception, shown)])
            theta_all = torch.cat([theta_all, torch.as_tensor(theta)])
        args = (seen, seen_all, theta_all, self.net.control, batch["action"], targets)
        return weighted_loss(*args, config.beta, config.sum_gradients, config.task_bound)

    def _ahead(self, theta: torch.Tensor) -> torch.Tensor:
        """Θ of the next states, by which the targets judge them."""
        return theta if self.config.targets == "true" else perceive(self.average.perception, self._pictures(theta))

    def _pictures(self, theta: torch.Tensor) -> NDArray[np.uint8]:
        return self.draw(theta.numpy())[..., None]

    def state(self) -> Tree:
        return self.learner.state() | {
            "replay": self.replay.state(),
            "experience": self.experience.state(),
            "rng": self.rng.bit_generator.state,
            "done": self.done,
        }

    def load_state(self, state: Tree) -> None:
        self.learner.load_state(state)
        self.replay.load_state(state["replay"])
        self.experience.load_state(state["experience"])
        self.rng.bit_generator.state = state["rng"]
        self.done = state["done"]

    def result(self) -> dict[str, torch.Tensor]:
        return self.average.state_dict()
