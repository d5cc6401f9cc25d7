"""Control: Q-learning on the true Θ, explored by K-GPS or by plain ε-greedy."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handeye.checkpoint import Tree
from handeye.errors import need, need_one_of
from handeye.learner import Learner, cosine
from handeye.modular.losses import q_loss, q_targets
from handeye.modular.networks import greedy_on_theta
from handeye.policies import EpsilonMix, linear, random_policy
from handeye.replay import Replay
from handeye.rollout import transitions
from handeye.types import Observation, Policy, Transition, discount


class ResumableEnv(Protocol):
    """A Gymnasium vector environment that can say and take back all of its state."""

    num_envs: int
    single_action_space: Any
    metadata: dict[str, Any]

    def step(self, actions: NDArray) -> tuple: ...

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple: ...

    def observation(self) -> Observation: ...

    def state(self) -> Tree: ...

    def load_state(self, state: Tree) -> None: ...


@dataclass(frozen=True)
class ControlConfig:
    """Q-learning of control. Raises ValueError for values that train nothing."""

    steps: int = 30_000
    """Updates."""
    environments: int = 64
    updates_per_step: int = 1
    """Updates after each step of all environments."""
    batch: int = 256
    learning_rate: float = 1e-3
    """Of Adam at the start; it falls to 0 along half a cosine."""
    discount: float = 0.99
    """γ."""
    exploration: Literal["k-gps", "epsilon-greedy"] = "k-gps"
    """Whom ε follows: the kinematic controller, or chance."""
    epsilon_start: float = 1.0
    epsilon_end: float = 0.1
    epsilon_over: float = 0.5
    """Share of the steps over which ε falls, linearly."""
    replay: int = 200_000
    warm_up: int = 5_000
    """Transitions in the replay memory before the first update."""
    target_rate: float = 0.005
    """Rate of the running average of the weights that gives targets, and that is kept in the end."""

    def __post_init__(self) -> None:
        need(self, ("steps", "replay"), 1, 100_000_000)
        need(self, ("environments", "updates_per_step", "batch"), 1, 100_000)
        need(self, ("warm_up",), 1, self.replay)
        need(self, ("learning_rate", "epsilon_over", "target_rate"), 0, 1, above=True)
        need(self, ("discount", "epsilon_start", "epsilon_end"), 0, 1)
        need_one_of(self, "exploration", ("k-gps", "epsilon-greedy"))


def replay_of_theta(capacity: int) -> Replay:
    """Transitions as Θ: a picture in simulation is a function of Θ, so it is drawn when it is needed."""
    theta, scalar = ((5,), np.float32), ((), np.float32)
    fields = {"theta": theta, "action": ((), np.int64), "reward": scalar, "discount": scalar, "next_theta": theta}
    return Replay(capacity, fields)


def remember(replay: Replay, batch: Transition, gamma: float) -> None:
    """Add a step of all environments, observed as `state` = Θ."""
    replay.add(
        theta=batch.observation["state"],
        action=batch.action,
        reward=batch.reward,
        discount=discount(batch.terminated, gamma),
        next_theta=batch.next_observation["state"],
    )


class ControlStage:
    """Q-learning with a replay memory; `env` observes `state` = Θ and restarts in the same step."""

    def __init__(
        self, net: nn.Module, average: nn.Module, env: ResumableEnv, guide: Policy, config: ControlConfig, seed: int
    ) -> None:
        """`average` has the shape of `net`. `guide` is privileged; ε-greedy does not ask it."""
        self.net, self.average, self.env, self.config = net, average, env, config
        self.learner = Learner(net, average, [torch.optim.Adam(net.parameters(), lr=config.learning_rate, fused=True)])
        self.steps, self.done = config.steps, 0
        self.rng = np.random.default_rng(seed)
        self.replay = replay_of_theta(config.replay)
        self.epsilon = linear(config.epsilon_start, config.epsilon_end, max(int(config.epsilon_over * self.steps), 1))
        actions = int(env.single_action_space.n)
        explorer = guide if config.exploration == "k-gps" else random_policy(actions, self.rng)
        self.policy = EpsilonMix(explorer, greedy_on_theta(net), self.rng)
        self.experience = Experience(env, self.policy, seed)

    def step(self) -> dict[str, float]:
        """One update, after collecting what is due. Returns loss, mean Q-value, ε and what trials ended like."""
        self.policy.epsilon = self.epsilon(self.done)
        while len(self.replay) < self.config.warm_up:
            remember(self.replay, self.experience.step(), self.config.discount)
        if self.done % self.config.updates_per_step == 0:
            remember(self.replay, self.experience.step(), self.config.discount)
        values = self._update()
        self.done += 1
        return values | {"epsilon": self.policy.epsilon} | self.experience.summary()

    def _update(self) -> dict[str, float]:
        batch = {name: torch.as_tensor(v) for name, v in self.replay.sample(self.config.batch, self.rng).items()}
        with torch.no_grad():
            targets = q_targets(batch["reward"], batch["discount"], self.average(batch["next_theta"]))
        values = self.net(batch["theta"])
        loss = q_loss(values, batch["action"], targets)
        self.learner.update(loss, cosine(self.done, self.steps), self.config.target_rate)
        return {"loss": loss.item(), "q_mean": values.mean().item()}

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


class Experience:
    """Endless steps of an environment under a policy, with a summary of the trials that ended lately."""

    WINDOW = 500

    def __init__(self, env: ResumableEnv, policy: Policy, seed: int) -> None:
        self.env, self.policy = env, policy
        observation, _ = env.reset(seed=seed)
        self.stream = transitions(env, policy, observation)
        self.returns = np.zeros(env.num_envs)
        self.ended: list[list[float]] = []

    def step(self) -> Transition:
        """One step of all environments."""
        batch = next(self.stream)
        self.returns += batch.reward
        over = batch.terminated | batch.truncated
        for i in np.flatnonzero(over):
            self.ended.append([float(self.returns[i]), float(batch.terminated[i] and batch.reward[i] > 0)])
        self.ended = self.ended[-self.WINDOW :]
        self.returns[over] = 0.0
        return batch

    def summary(self) -> dict[str, float]:
        """Mean return and success rate over the last trials that ended; nothing before the first."""
        if not self.ended:
            return {}
        mean_return, success = np.mean(self.ended, axis=0)
        return {"return": float(mean_return), "success": float(success)}

    def state(self) -> Tree:
        return {"env": self.env.state(), "returns": self.returns.copy(), "ended": self.ended}

    def load_state(self, state: Tree) -> None:
        self.env.load_state(state["env"])
        self.returns, self.ended = np.array(state["returns"]), state["ended"]
        self.stream = transitions(self.env, self.policy, self.env.observation())
