"""Who does what: collectors bring episodes, Bellman updaters label samples of them, the learner fits Q to the labels.

None of them knows of threads or processes; whoever runs them passes the data on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handeye import augment
from handeye.checkpoint import Tree
from handeye.errors import Misuse, need, need_one_of
from handeye.frames import FrameReplay
from handeye.learner import Learner, muon_and_adam
from handeye.modular.losses import perception_loss
from handeye.nn import device_of, low_precision
from handeye.policies import EpsilonMix, Remembered
from handeye.qtopt.acting import Greedy, NoiseConfig, Random
from handeye.qtopt.actions import ActionBounds, for_network
from handeye.qtopt.bellman import clip_targets, state_values, values_in_turn
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.members import Members, members_of
from handeye.qtopt.mirror import batch_in_mirror
from handeye.qtopt.networks import Inputs, QNetwork, known_of, theta_of, to_inputs
from handeye.rollout import BatchedEnv, episodes
from handeye.types import Episode, Observation, Policy

PolicyOf = Callable[[Any, list[np.random.Generator]], Policy]
"""Builds a policy of the world itself for an environment and a generator for each of its bins."""


class Crew(NamedTuple):
    """How many processes collect, and how many label."""

    collectors: int
    updaters: int


@dataclass(frozen=True)
class Exploration:
    """Shares of the environments that follow the scripted policy and the noisy guide; the others follow π_noisy."""

    scripted: float
    guided: float


@dataclass
class Collector:
    """Brings whole episodes of N environments; every round depends on the seed and its number alone."""

    env: BatchedEnv
    scripted: PolicyOf
    guide: PolicyOf
    bounds: ActionBounds
    maximiser: MaximiserConfig
    noise: NoiseConfig
    seed: int

    def collect(self, net: QNetwork, exploration: Exploration, number: int) -> tuple[list[Episode], list[Episode]]:
        """One episode of each environment: those of scripted policy and guide, and those of π_noisy.

        Both guide and greedy policy are mixed with random actions. An episode whose simulation diverged is left out.
        """
        rng = np.random.default_rng([self.seed, number])
        greedy = Remembered(Greedy(net, self.bounds, self.maximiser, int(rng.integers(2**63))))
        noise, epsilon = Random(self.bounds, self.noise, rng), self.noise.epsilon
        count = self.env.num_envs
        guided = EpsilonMix(noise, self.guide(self.env, rng.spawn(count)), rng, epsilon)
        parts = [self.scripted(self.env, rng.spawn(count)), guided, EpsilonMix(noise, greedy, rng, epsilon)]
        first, second = round(exploration.scripted * count), round((exploration.scripted + exploration.guided) * count)
        policy = Shared(parts, [slice(0, first), slice(first, second), slice(second, count)])
        ended = episodes(self.env, policy, seed=int(rng.integers(2**40)))
        given, own = ([e for e in part if not e.facts["diverged"].any()] for part in (ended[:second], ended[second:]))
        return given, own


@dataclass
class Shared:
    """Each of several policies acts in its share of the environments; one with an empty share is not asked."""

    policies: Sequence[Policy]
    shares: Sequence[slice]

    def __call__(self, observation: Observation, /) -> NDArray:
        asked = [
            (policy, share)
            for policy, share in zip(self.policies, self.shares, strict=True)
            if share.stop > share.start
        ]
        return np.concatenate([policy(observation)[share] for policy, share in asked])


@dataclass(frozen=True)
class LabelConfig:
    """Bellman targets. Raises ValueError for values that are none."""

    objective: Literal["bellman", "outcome"] = "bellman"
    """`outcome`: whether the episode succeeded, as in supervised grasp prediction (Levine et al.); no maximiser."""
    discount: float = 0.9
    """γ."""
    steps: int = 1
    """Steps ahead after which the value is asked for."""
    double: bool = True
    """The lesser of two networks' values; of members that learn together, what another says: see bellman.py."""
    lag: int = 500
    """Updates after which the second network takes over the averaged weights; members that learn together need none."""
    rewarded: float = 0.0
    """Least share of rewarded steps among those that are labelled."""
    shift_px: int = 0
    colour: float = 0.0
    """Augmentation, the same for s and s′: see augment.paired."""
    mirror: bool = False
    """Whether every second step is seen in the mirror, s and s′ alike: see mirror.py."""
    maximiser: MaximiserConfig = MaximiserConfig()

    def __post_init__(self) -> None:
        need_one_of(self, "objective", ("bellman", "outcome"))
        need(self, ("discount", "rewarded"), 0, 1)
        need(self, ("steps", "lag"), 1, 1_000_000)
        need(self, ("shift_px", "colour"), 0, 100)


def means(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each of the figures that were measured several times."""
    return {name: float(np.mean([values[name] for values in measured])) for name in measured[0]}


Sample = tuple[dict[str, Any], np.random.Generator]
"""Steps to label, and the randomness to label them with: so it does not matter who does it, nor when."""
Label = tuple[dict[str, Any], float]
"""`observation`, `action` and `target` (N,) of steps; and the share of targets that were clipped."""


@dataclass(frozen=True)
class BellmanUpdater:
    """Labels samples with the averaged and the lagged network."""

    bounds: ActionBounds
    config: LabelConfig

    def sample(self, replay: FrameReplay, count: int, rng: np.random.Generator, steps: int) -> dict[str, Any]:
        """`count` steps to label, by the value so many `steps` ahead."""
        return replay.sample(count, rng, self.config.discount, steps, self.config.rewarded)

    def label_all(self, average: QNetwork, lagged: QNetwork, samples: Iterable[Sample]) -> list[Label]:
        """Labels of each sample."""
        return [self.label(average, lagged, sample) for sample in samples]

    def label(self, average: QNetwork, lagged: QNetwork, sample: Sample) -> Label:
        """Labels of one sample, which may lose its pictures to their augmentation."""
        (batch, rng), config = sample, self.config
        if config.mirror:
            batch = batch_in_mirror(batch, rng.random(len(batch["action"])) < 0.5)
        now, then = batch["observation"], batch["next_observation"]
        if "image" in now and (config.shift_px or config.colour):
            now["image"], then["image"] = augment.paired(
                now["image"], then["image"], rng, config.shift_px, config.colour
            )
        if config.objective == "outcome":
            return {"observation": now, "action": batch["action"], "target": batch["outcome"]}, 0.0
        device = device_of(average)
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**63)))
        asked = to_inputs(then, device), self.bounds, config.maximiser, generator
        if isinstance(average, Members):
            value = values_in_turn(average.nets, config.double, *asked)
        else:
            value = state_values(average, lagged if config.double else None, *asked)
        reward, discount = (torch.as_tensor(batch[name], device=device) for name in ("reward", "discount"))
        targets = clip_targets(reward, discount, value)
        return {"observation": now, "action": batch["action"], "target": targets.target.cpu().numpy()}, targets.clipped


@dataclass(frozen=True)
class LearnConfig:
    """Fitting Q. Raises ValueError for values that fit nothing."""

    batch: int = 128
    optimiser: Literal["adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = 5e-4
    muon_rate: float = 0.0
    """Of Muon on the convolutions; 0 leaves them to Adam, which has the rest."""
    weight_decay: float = 1e-4
    """Of AdamW and SGD."""
    average_rate: float = 0.005
    """Rate of the running average of the weights that labels and acts."""
    reuse: int = 2
    """How often a labelled sample is learnt from, on average."""
    labelled: int = 2_048
    """Labelled samples kept."""

    def __post_init__(self) -> None:
        need(self, ("batch", "reuse", "labelled"), 1, 1_000_000)
        need(self, ("learning_rate", "average_rate"), 0, 1, above=True)
        need(self, ("weight_decay", "muon_rate"), 0, 1)
        need_one_of(self, "optimiser", ("adamw", "muon", "sgd"))
        if self.optimiser == "muon" and self.weight_decay != LearnConfig.weight_decay:
            raise Misuse(f"weight_decay says nothing to optimiser=muon, got {self.weight_decay}")
        if self.optimiser != "muon" and self.muon_rate:
            raise Misuse(f"muon_rate says nothing to optimiser={self.optimiser}, got {self.muon_rate}")


def optimisers(net: nn.Module, config: LearnConfig) -> list[torch.optim.Optimizer]:
    """What moves the weights: the paper's SGD with momentum 0.9, AdamW, or Muon beside Adam."""
    if config.optimiser == "sgd":
        return [torch.optim.SGD(net.parameters(), config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)]
    if config.optimiser == "muon":
        return muon_and_adam(net, config.muon_rate, config.learning_rate)
    rate, decay = config.learning_rate, config.weight_decay
    return [torch.optim.AdamW(net.parameters(), rate, weight_decay=decay, fused=True)]


class Lesson(NamedTuple):
    """N observations, and as a network takes them; actions (N, 8) taken there, and what Q should be (N,)."""

    observation: Observation
    inputs: Inputs
    action: Tensor
    target: Tensor


def _loss(net: Any, lesson: Lesson, sight_alone: bool) -> tuple[Tensor, dict[str, float]]:
    """What a network's weights should make less, and figures about it."""
    device = lesson.target.device
    with low_precision(device):
        encoding, seen = net.encode(lesson.inputs)
        logits = net.score(encoding, lesson.action[:, None])[:, 0].float()
    task = nn.functional.binary_cross_entropy_with_logits(logits, lesson.target)
    values = {"l_q": task.item(), "q_mean": logits.sigmoid().mean().item(), "target": lesson.target.mean().item()}
    if seen is None:
        return task, values
    sight = perception_loss(seen.float(), theta_of(known_of(lesson.observation, device), net.config))
    return sight if sight_alone else task + net.config.beta * sight, values | {"l_p": sight.item()}


Each = Callable[[Callable[[Learner], Any], Sequence[Learner]], Iterable[Any]]
"""What asks for something of each of several learners, as `map` does one after the other."""


class QLearner:
    """Fits Q to labels by cross-entropy, Θ̂ to what the simulator knows, and averages the weights."""

    def __init__(
        self, net: Any, average: Any, lagged: Any, bounds: ActionBounds, config: LearnConfig, lag: int, each: Each = map
    ) -> None:
        """`average` and `lagged` have the shape of `net`; members share nothing, so `each` may do them side by side."""
        self.net, self.average, self.lagged = net, average, lagged
        self.bounds, self.config, self.lag, self.each = bounds, config, lag, each
        pairs = zip(members_of(net), members_of(average), strict=True)
        self.learners = [Learner(member, its_average, optimisers(member, config)) for member, its_average in pairs]
        lagged.load_state_dict(net.state_dict())
        for part in (average, lagged):
            part.eval().requires_grad_(False)
        self.done = 0

    def update(self, batch: dict[str, Any], scale: float, sight_alone: bool = False) -> dict[str, float]:
        """One step with learning rates times `scale`; with `sight_alone` of L_p only.

        Returns the losses and what Q says on average; of several members, the means over them.
        """
        self.net.train()
        lesson, rate = self._lesson(batch), max(self.config.average_rate, 1 / (1 + self.done))

        def teach(learner: Learner) -> dict[str, float]:
            loss, measured = _loss(learner.net, lesson, sight_alone)
            learner.update(loss, scale, rate)
            return measured

        measured = list(self.each(teach, self.learners))
        self.done += 1
        if self.done % self.lag == 0:
            self.lagged.load_state_dict(self.average.state_dict())
        return means(measured)

    def _lesson(self, batch: dict[str, Any]) -> Lesson:
        device, seen = device_of(self.net), batch["observation"]
        action = for_network(torch.as_tensor(batch["action"], device=device), self.bounds)
        return Lesson(seen, to_inputs(seen, device), action, torch.as_tensor(batch["target"], device=device))

    def state(self) -> Tree:
        members = [learner.state() for learner in self.learners]
        return {"members": members, "lagged": self.lagged.state_dict(), "done": self.done}

    def load_state(self, state: Tree) -> None:
        for learner, own in zip(self.learners, state["members"], strict=True):
            learner.load_state(own)
        self.lagged.load_state_dict(state["lagged"])
        self.done = state["done"]
