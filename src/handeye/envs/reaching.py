"""`handeye/PlanarReach-v0`: planar reaching with three joints of a Baxter arm, seen by a still camera."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from handeye import planar_arm
from handeye.envs import camera_domain, reach_pictures
from handeye.envs.batching import MODES, ends, need_batch, need_mask, reseed
from handeye.envs.single import SingleEnv
from handeye.errors import Misuse, need, need_one_of
from handeye.types import Observation, Policy

ENVIRONMENT = "handeye/PlanarReach-v0"
ACTIONS = 9
HOLD = 1
DOMAINS = ("sim", "camera")
OBSERVE = ("image", "theta", "both")


@dataclass(frozen=True)
class PlanarReachConfig:
    """Rules of the task. Defaults are the paper's where it states them, else those of docs/reaching.md.

    Raises:
        ValueError: a value makes no task; the message names it and what is valid.
    """

    step_rad: float = 0.04
    """How far one action moves one joint."""
    success_radius_m: float = 0.05
    """δ: a trial succeeds within this distance."""
    success_steps: int = 3
    """Consecutive steps within δ that end a trial."""
    distance_weight: float = 1e-3
    """λ in r = λ(δ/d − 1), the reward of a step outside δ."""
    success_reward: float = 1.0
    limit_reward: float = -1.0
    """Reward of a step into a joint limit, which ends the trial."""
    max_steps: int = 300
    """A trial is truncated after this many steps."""
    near_share: float = 0.0
    """Share of trials that start within `near_rad` a joint of a pose at the target: a training aid."""
    near_rad: float = 0.3
    observe: Literal["image", "theta", "both"] = "image"
    """Observation: `image` (84, 84, 1) uint8, `state` = the true Θ (5,) float32, or both."""
    domain: Literal["sim", "camera"] = "sim"
    """Who draws the picture: the plain simulator or the synthetic camera domain."""

    def __post_init__(self) -> None:
        need(self, ("step_rad", "success_radius_m"), 0, 1, above=True)
        need(self, ("success_steps", "max_steps"), 1, 100_000)
        need(self, ("near_share",), 0, 1)
        need(self, ("near_rad",), 0, 10)
        need(self, ("distance_weight", "success_reward", "limit_reward"), -1e6, 1e6)
        need_one_of(self, "observe", OBSERVE)
        need_one_of(self, "domain", DOMAINS)


def _within_limits(joints_rad: NDArray) -> NDArray[np.float64]:
    """Poses (N, 3) in double precision. Raises: Misuse for one beyond the limits by more than rounding."""
    inside = np.clip(joints_rad.astype(np.float64), planar_arm.LOWER_RAD, planar_arm.UPPER_RAD)
    if not np.allclose(joints_rad, inside, rtol=0, atol=1e-6):
        low, high = planar_arm.LOWER_RAD.tolist(), planar_arm.UPPER_RAD.tolist()
        raise Misuse(f"joints_rad must be within {low} … {high}, got {joints_rad.tolist()}")
    return inside


def observation_space(config: PlanarReachConfig) -> spaces.Dict:
    """Space of one environment's observation."""
    size = reach_pictures.SIZE_PX
    parts: dict[str, spaces.Space] = {}
    if config.observe != "theta":
        parts["image"] = spaces.Box(0, 255, (size, size, 1), np.uint8)
    if config.observe != "image":
        # The start of a trial may lie a hair outside the target region once rounded to float32.
        parts["state"] = spaces.Box(-0.01, 1.01, (5,), np.float32)
    return spaces.Dict(parts)


class PlanarReachVectorEnv(gym.vector.VectorEnv):
    """N planar arms in one batch; environment i draws from its own generator, seeded `seed + i`.

    Action (N,) int: 3·joint + {0: decrease, 1: hold, 2: increase} by `step_rad`. `info` holds
    `distance_m`, `is_success` and `limit_hit`, each (N,).

    `reset(options=…)` takes `joints_rad` (N, 3) and `target_m` (N, 2) to set trials, and `reset_mask` (N,) bool.
    With autoreset `disabled` a finished environment stands still until it is reset.
    """

    def __init__(
        self,
        num_envs: int = 1,
        config: PlanarReachConfig | None = None,
        autoreset_mode: str = "same_step",
        render_mode: str | None = None,
        **fields: Any,
    ) -> None:
        need_batch(num_envs, autoreset_mode, render_mode)
        self.config = replace(config or PlanarReachConfig(), **fields)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 25, "autoreset_mode": MODES[autoreset_mode]}
        self.single_observation_space = observation_space(self.config)
        self.single_action_space = spaces.Discrete(ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.rngs = [np.random.default_rng() for _ in range(num_envs)]
        self.joints_rad = np.zeros((num_envs, 3))
        self.goal_joints_rad = np.zeros((num_envs, 3))
        self.target_m = np.zeros((num_envs, 2))
        self.steps_within = np.zeros(num_envs, np.int64)
        self.steps = np.zeros(num_envs, np.int64)
        self.done = np.ones(num_envs, bool)
        self.limit_hit = np.zeros(num_envs, bool)
        self.pictures = np.zeros((num_envs, reach_pictures.SIZE_PX, reach_pictures.SIZE_PX, 1), np.uint8)

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> tuple:
        options = options or {}
        mask = need_mask(options, self.num_envs)
        poses = _within_limits(np.asarray(options["joints_rad"])[mask]) if "joints_rad" in options else None
        reseed(self.rngs, seed, mask)
        self._start(np.flatnonzero(mask))
        if poses is not None:
            self.joints_rad[mask] = poses
        if "target_m" in options:
            self.target_m[mask] = np.asarray(options["target_m"], np.float64)[mask]
            # No pose is known for a target from outside, so the guide holds.
            goals = options.get("goal_joints_rad", self.joints_rad)
            self.goal_joints_rad[mask] = np.asarray(goals, np.float64)[mask]
        return self._observe(np.flatnonzero(mask)), self._info()

    def _start(self, which: NDArray) -> None:
        for i in which:
            self.joints_rad[i] = planar_arm.random_joints(self.rngs[i], 1)[0]
            self.goal_joints_rad[i] = planar_arm.random_goals(self.rngs[i], 1)[0]
            if self.config.near_share and self.rngs[i].random() < self.config.near_share:
                near = self.goal_joints_rad[i] + self.rngs[i].uniform(-self.config.near_rad, self.config.near_rad, 3)
                self.joints_rad[i] = np.clip(near, planar_arm.LOWER_RAD, planar_arm.UPPER_RAD)
        self.target_m[which] = planar_arm.hand(self.goal_joints_rad[which])
        self.steps_within[which] = self.steps[which] = 0
        self.done[which] = self.limit_hit[which] = False

    def step(self, actions: NDArray) -> tuple:
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or not ((actions >= 0) & (actions < ACTIONS)).all():
            raise Misuse(f"actions must be {self.num_envs} integers in 0 … {ACTIONS - 1}, got {actions!r}")
        resting = self.done.copy()
        changed = np.flatnonzero(~resting)
        if self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP:
            self._start(np.flatnonzero(resting))
            changed = np.arange(self.num_envs)
        reward, terminated = self._advance(actions, ~resting)
        truncated = ~resting & ~terminated & (self.steps >= self.config.max_steps)
        self.done |= terminated | truncated
        observation, info = self._observe(changed), self._info()
        if self.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP and self.done.any():
            observation, info = self._restart(observation, info)
        return observation, reward, terminated, truncated, info

    def _advance(self, actions: NDArray, moving: NDArray) -> tuple[NDArray, NDArray]:
        """Move the arms of the environments `moving`; rewards and terminations (N,)."""
        config = self.config
        rows = np.arange(self.num_envs)
        wanted = self.joints_rad.copy()
        wanted[rows, actions // 3] += np.where(moving, (actions % 3 - 1) * config.step_rad, 0.0)
        self.joints_rad = np.clip(wanted, planar_arm.LOWER_RAD, planar_arm.UPPER_RAD)
        self.limit_hit = (wanted != self.joints_rad).any(axis=1) | (self.limit_hit & ~moving)
        distance = self.distance_m
        within = distance <= config.success_radius_m
        self.steps += moving
        self.steps_within = np.where(moving, np.where(within, self.steps_within + 1, 0), self.steps_within)
        reached = moving & (self.steps_within >= config.success_steps) & ~self.limit_hit
        shaping = config.distance_weight * (config.success_radius_m / np.maximum(distance, 1e-9) - 1)
        reward = np.where(within, 0.0, shaping)
        reward = np.where(reached, config.success_reward, reward)
        reward = np.where(self.limit_hit, config.limit_reward, reward)
        return np.where(moving, reward, 0.0).astype(np.float32), reached | (moving & self.limit_hit)

    def _restart(self, observation: Observation, info: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Start the finished environments anew; their last observation and facts go into `info`."""
        which, ended = np.flatnonzero(self.done), ends(observation, info, self.done)
        self._start(which)
        return self._observe(which), self._info() | ended

    @property
    def distance_m(self) -> NDArray:
        """Distance (N,) between hand and target."""
        return np.linalg.norm(planar_arm.hand(self.joints_rad) - self.target_m, axis=-1)

    @property
    def theta(self) -> NDArray[np.float32]:
        """The true Θ (N, 5) ∈ [0, 1]⁵."""
        return planar_arm.to_theta(self.target_m, self.joints_rad)

    def _info(self) -> dict[str, Any]:
        success = self.done & (self.steps_within >= self.config.success_steps) & ~self.limit_hit
        return {"distance_m": self.distance_m, "is_success": success, "limit_hit": self.limit_hit.copy()}

    def _observe(self, changed: NDArray) -> Observation:
        """Observations (N, …); only the pictures of the environments `changed` are drawn anew."""
        observation: Observation = {}
        if self.config.observe != "theta":
            self.pictures[changed, ..., 0] = self._draw(changed)
            observation["image"] = self.pictures.copy()
        if self.config.observe != "image":
            observation["state"] = self.theta
        return observation

    def observation(self) -> Observation:
        """The current observations (N, …), as the last `reset` or `step` gave them."""
        return self._observe(np.empty(0, np.int64))

    def _draw(self, which: NDArray) -> NDArray[np.uint8]:
        target, joints = self.target_m[which], self.joints_rad[which]
        if self.config.domain == "sim":
            return reach_pictures.draw(target, joints)
        seeds = [self.rngs[i].integers(2**63) for i in which]
        return camera_domain.draw(target, joints, np.array(seeds, np.uint64))

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Large colour pictures (504, 504, 3), one an environment."""
        if self.render_mode is None:
            return None
        return tuple(reach_pictures.draw_colour(self.target_m, self.joints_rad))

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, for an exact resume."""
        names = ("joints_rad", "goal_joints_rad", "target_m", "steps_within", "steps", "done", "limit_hit", "pictures")
        return {name: getattr(self, name).copy() for name in names} | {
            "rngs": [rng.bit_generator.state for rng in self.rngs]
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        for name, value in state.items():
            if name != "rngs":
                setattr(self, name, np.array(value))
        for rng, saved in zip(self.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved


class PlanarReachEnv(SingleEnv):
    """One planar arm."""

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 25}  # noqa: RUF012
    make_batch, title = PlanarReachVectorEnv, ENVIRONMENT


def guide(env: PlanarReachVectorEnv, tolerance_steps: float = 1.0, polish: bool = False) -> Policy:
    """The kinematic controller of K-GPS: privileged, so it is built with the environment.

    Moves the first joint, in order, that is at least `tolerance_steps` steps away from the pose q* whose
    hand is at the target; holds when none is. `1` is the published rule; `0.5` ends nearer. With `polish` it does
    not hold, but makes the move after which the hand is nearest to the target.
    """

    def act(observation: Observation, /) -> NDArray:
        away = env.goal_joints_rad - env.joints_rad
        far = np.abs(away) >= tolerance_steps * env.config.step_rad
        joint = far.argmax(axis=1)
        towards = np.where(np.take_along_axis(away, joint[:, None], 1)[:, 0] > 0, 2, 0)
        there = _nearest_move(env) if polish else HOLD
        return np.where(far.any(axis=1), 3 * joint + towards, there)

    return act


def _nearest_move(env: PlanarReachVectorEnv) -> NDArray:
    """The action (N,) after which each hand is nearest to its target, within the limits."""
    moves = np.zeros((ACTIONS, 3))
    moves[np.arange(ACTIONS), np.arange(ACTIONS) // 3] = (np.arange(ACTIONS) % 3 - 1) * env.config.step_rad
    poses = env.joints_rad[:, None] + moves
    distance = np.linalg.norm(planar_arm.hand(poses) - env.target_m[:, None], axis=-1)
    beyond = ((poses < planar_arm.LOWER_RAD) | (poses > planar_arm.UPPER_RAD)).any(axis=-1)
    return np.where(beyond, np.inf, distance).argmin(axis=1)


def draw_theta(theta: NDArray) -> NDArray[np.uint8]:
    """The simulator's pictures (N, 84, 84) of bottleneck values Θ (N, 5)."""
    return reach_pictures.draw(*planar_arm.from_theta(theta))
