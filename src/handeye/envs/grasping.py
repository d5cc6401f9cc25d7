"""`handeye/Grasp-v0`: grasp anything from a bin with a parallel gripper, in a closed loop on pictures."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from handeye.envs import known, rendering
from handeye.envs.batching import MODES, ends, need_batch, need_mask, reseed
from handeye.envs.bin import Bin
from handeye.envs.bin_config import BinConfig
from handeye.envs.course import Course
from handeye.envs.rendering import CameraConfig, Look
from handeye.envs.single import SingleEnv
from handeye.envs.subtraction import Judge, SubtractionConfig
from handeye.errors import Misuse, need, need_one_of
from handeye.types import FloatArray, Observation

ENVIRONMENT = "handeye/Grasp-v0"
WORLD = 1
"""Raised whenever the same configuration, seed and actions give other episodes."""
ACTION = 8
STATE, POSE = 3, 4
"""Numbers in `state` always, and of the gripper's pose."""
SINE, COSINE, CLOSE, OPEN, TERMINATE = 3, 4, 5, 6, 7
"""Places in an action after the displacement (3)."""
OBSERVE = ("image", "objects", "both")
RewardSource = Literal["truth", "pictures"]
LARGE = CameraConfig(camera="shoulder", width_px=640, height_px=512)


@dataclass(frozen=True)
class GraspConfig:
    """Rules of the task. Raises ValueError for values that make no task."""

    world: BinConfig = field(default_factory=BinConfig)
    view: CameraConfig = field(default_factory=CameraConfig)
    observe: Literal["image", "objects", "both"] = "image"
    """Beside `state`: the picture, or what the simulator knows: `objects`, where they are from the fingertips along the
    tray's axes, nearest first, and `pose`, how the gripper stands (envs/known.py)."""
    max_steps: int = 20
    reward_source: RewardSource = "truth"
    """Who says whether a grasp succeeded: the simulator, or two pictures as on a robot (`envs/subtraction.py`)."""
    subtraction: SubtractionConfig = field(default_factory=SubtractionConfig)
    success_reward: float = 1.0
    step_reward: float = -0.05
    """Of every step before the last."""
    move_m: float = 0.06
    """Furthest displacement of an action along each axis."""
    turn_rad: float = 0.5
    """Furthest rotation of an action about the vertical."""
    lift_m: float = 0.08
    """A grasp succeeds when an object is held this much above where it lay."""
    termination: Literal["heuristic", "learned"] = "heuristic"
    stop_height_m: float = 0.13
    """Heuristic: an episode ends when the gripper is closed, above this, and sent upwards again. Learned: a success
    needs the gripper above this when the action says stop."""
    slow_below_m: float = 0.0
    """Below this height a descent is shortened to `slow_share` of it; 0: never."""
    slow_share: float = 0.5
    show_pose: bool = False
    """Whether `state` goes on with the gripper's x and y (m), and sine and cosine of twice its yaw: turned by half a
    circle, two fingers are the same."""
    bottom_bonus: float = 0.0
    """Paid once an episode, when the fingertips first come within `bottom_m` of the bottom; `state` tells if it was."""
    bottom_m: float = 0.02
    bottom_penalty: float = 0.0
    """Subtracted for a step sent below the lowest height."""
    wall_penalty: float = 0.0
    """Subtracted for a step sent beyond the sides."""
    auto_ascend: bool = False
    """A step that closes the fingers is sent straight up by `move_m`, whatever its displacement says."""

    def __post_init__(self) -> None:
        need(self, ("max_steps",), 1, 10_000)
        need(self, ("move_m", "turn_rad", "lift_m"), 0, 3, above=True)
        need(self, ("success_reward", "step_reward", "bottom_bonus", "bottom_penalty", "wall_penalty"), -100, 100)
        need(self, ("stop_height_m", "slow_below_m", "bottom_m"), 0, 10)
        need(self, ("slow_share",), 0, 1)
        need_one_of(self, "termination", ("heuristic", "learned"))
        need_one_of(self, "observe", OBSERVE)
        need_one_of(self, "reward_source", get_args(RewardSource))


def action_space(config: GraspConfig) -> spaces.Box:
    """Displacement in metres, rotation as sine and cosine, then close, open and terminate, which count above ½."""
    high = np.array([config.move_m] * 3 + [1, 1, 1, 1, 1], np.float32)
    low = np.array([-config.move_m] * 3 + [-1, -1, 0, 0, 0], np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def observation_space(config: GraspConfig) -> spaces.Dict:
    """`state`: fingers' opening 0 … 1, height in metres, share of the time gone by; with a bonus, if it was paid."""
    size = STATE + POSE * config.show_pose + (config.bottom_bonus != 0)
    parts: dict[str, spaces.Space] = {"state": spaces.Box(-1, 2, (size,), np.float32)}
    if config.observe != "objects":
        parts["image"] = spaces.Box(0, 255, (config.view.height_px, config.view.width_px, 3), np.uint8)
    if config.observe != "image":
        parts["objects"] = spaces.Box(-2, 2, (config.world.objects, 3), np.float32)
        parts["pose"] = spaces.Box(-2, 2, (known.POSE,), np.float32)
    return spaces.Dict(parts)


class GraspVectorEnv(gym.vector.VectorEnv):
    """N bins in one batch; environment i draws from its own generator, seeded `seed + i`.

    **What a mixed action does.** `terminate` above ½ ends the episode before anything moves, if termination is learned;
    else it is not looked at. Of `close` and `open` the larger counts, if above ½. Fingers go first, then the arm moves
    and turns, all within one step.

    **How an episode ends.** Terminated by its termination, or by success at the last step; truncated without success at
    the last step, or when the simulation diverged.

    `info`, each (N,): `is_success`, the truth; `rewarded`, what the reward in use said; `objects_held`, `height_m`,
    `diverged`; `wedged`, an object that would count as lifted touches tray or table; and those of `Course`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        config: GraspConfig | None = None,
        autoreset_mode: str = "same_step",
        render_mode: str | None = None,
        threads: int = 0,
        **fields: Any,
    ) -> None:
        """`threads` of physics and pictures, 0: all cores. `fields` replace fields of `config`."""
        need_batch(num_envs, autoreset_mode, render_mode)
        self.config = replace(config or GraspConfig(), **fields)
        self.num_envs, self.render_mode, self.threads = num_envs, render_mode, threads
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 5, "autoreset_mode": MODES[autoreset_mode]}
        self.single_action_space = action_space(self.config)
        self.single_observation_space = observation_space(self.config)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.rngs = [np.random.default_rng() for _ in range(num_envs)]
        self.bin = Bin(num_envs, self.config.world, threads)
        self.look = Look.plain(num_envs, self.bin.models[0])
        self.casters: dict[CameraConfig, rendering.Renderer] = {}
        view = self.config.view
        self.image = np.zeros((num_envs, view.height_px, view.width_px, 3), np.uint8)
        self.judge = Judge(self.config.subtraction, view.randomise, threads)
        self.steps = np.zeros(num_envs, np.int64)
        self.done = np.ones(num_envs, bool)
        self.course = Course(self.bin)
        self.success, self.rewarded, self.bonus_paid = np.zeros((3, num_envs), bool)

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> tuple:
        """`options`: `reset_mask` (N,) bool."""
        mask = need_mask(options or {}, self.num_envs)
        reseed(self.rngs, seed, mask)
        self._start(np.flatnonzero(mask))
        return self._observe(np.arange(self.num_envs)), self._info()

    def ease(self, share: float) -> None:
        """From 0, easy, to 1, as configured: how the episodes that begin from now on are placed.

        An easy episode begins with open fingers just above the object that stands clearest, in the placement of its
        scene that does; `share` is how far from there its start lies, and how rarely that placement is taken.

        Raises: Misuse for a share outside [0, 1].
        """
        if not 0 <= share <= 1:
            raise Misuse(f"ease must be in 0 (easy) … 1 (as configured), got {share}")
        self.bin.ease = float(share)

    def _start(self, which: NDArray) -> None:
        if not len(which):
            return
        self.bin.reset(which, [self.rngs[i] for i in which])
        level = rendering.LEVELS[self.config.view.randomise]
        for i in which:
            self.look.draw(i, self.bin.models[i], level, self.rngs[i])
        self.steps[which] = 0
        for flags in (self.done, self.success, self.rewarded, self.bonus_paid):
            flags[which] = False
        self.course.begin(which)

    def step(self, actions: NDArray) -> tuple:
        actions = np.asarray(actions, np.float64)
        if actions.shape != (self.num_envs, ACTION) or not np.isfinite(actions).all():
            raise Misuse(f"actions must be finite numbers ({self.num_envs}, {ACTION}), got shape {actions.shape}")
        resting = self.done.copy()
        changed = ~resting
        reward, terminated, truncated = self._advance(actions, np.flatnonzero(~resting))
        if self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP:
            self._start(np.flatnonzero(resting))
            changed[:] = True
        self.done |= terminated | truncated
        observation, info = self._observe(np.flatnonzero(changed)), self._info()
        if self.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP and self.done.any():
            observation, info = self._restart(observation, info)
        return observation, reward, terminated, truncated, info

    def _advance(self, actions: NDArray, moving: NDArray) -> tuple[FloatArray, NDArray, NDArray]:
        """One step of the environments `moving`: rewards, terminations and truncations (N,)."""
        config, count = self.config, self.num_envs
        stop = np.zeros(count, bool)
        stop[moving] = self._stops(actions[moving], moving)
        going = moving[~stop[moving]]
        extra = self._move(actions[going], going) if len(going) else np.zeros(0)
        self.steps[moving] += 1
        last = np.zeros(count, bool)
        last[moving] = self.steps[moving] >= config.max_steps
        diverged = self.bin.diverged & ~self.done
        over = stop | last
        self._judge(np.flatnonzero(over & ~diverged))
        reward = np.zeros(count)
        reward[moving] = config.step_reward
        reward[over] = 0.0
        reward[going] += extra
        reward[over & self.rewarded] += config.success_reward
        terminated = (stop | (last & self.rewarded)) & ~diverged
        return reward.astype(np.float32), terminated, (last & ~terminated) | diverged

    def _judge(self, ended: NDArray) -> None:
        """Whether these episodes succeeded, in truth and by the reward in use."""
        config, height = self.config, self.bin.tip_m[ended, 2]
        high_enough = (config.termination == "heuristic") | (height > config.stop_height_m)
        self.success[ended] = self.objects_held[ended].any(1) & high_enough
        self.rewarded[ended] = self.success[ended]
        if config.reward_source == "pictures":
            # A robot knows its own hand: open or low, it lifts nothing.
            likely = ended[self.bin.closed[ended] & high_enough & (height > config.lift_m)]
            self.rewarded[ended] = False
            self.rewarded[likely] = self.judge(self.bin, self.look, likely)

    def _stops(self, actions: NDArray, which: NDArray) -> NDArray[np.bool_]:
        """Whether these actions end their episodes."""
        if self.config.termination == "learned":
            return actions[:, TERMINATE] > 0.5
        return self.raised[which] & (actions[:, 2] > 0)

    def _move(self, actions: NDArray, which: NDArray) -> NDArray:
        """Carry out actions; bonuses and penalties."""
        config, world = self.config, self.config.world
        wants = np.maximum(actions[:, CLOSE], actions[:, OPEN]) > 0.5
        closed = np.where(wants, actions[:, CLOSE] > actions[:, OPEN], self.bin.closed[which])
        move = np.empty((len(which), 4))
        move[:, :3] = np.clip(actions[:, :3], -config.move_m, config.move_m)
        move[:, 3] = np.clip(np.arctan2(actions[:, SINE], actions[:, COSINE]), -config.turn_rad, config.turn_rad)
        if config.auto_ascend:
            move[closed & ~self.bin.closed[which]] = [0, 0, config.move_m, 0]
        slow = (self.bin.tip_m[which, 2] < config.slow_below_m) & (move[:, 2] < 0)
        move[slow, 2] *= config.slow_share
        goal = self.bin.gripper[which] + move
        below = goal[:, 2] < world.lowest_m
        beyond = (np.abs(goal[:, :2]) > world.reach_m).any(1)
        self.bin.step(which, move, closed)
        self.course.note(which)
        reached = (self.bin.tip_m[which, 2] < config.bottom_m) & ~self.bonus_paid[which]
        self.bonus_paid[which] |= reached
        return reached * config.bottom_bonus - below * config.bottom_penalty - beyond * config.wall_penalty

    @property
    def raised(self) -> NDArray[np.bool_]:
        """Which grippers (N,) are closed and high enough for the heuristic to stop."""
        return self.bin.closed & (self.bin.tip_m[:, 2] > self.config.stop_height_m)

    @property
    def lifted(self) -> NDArray[np.bool_]:
        """Which objects (N, objects) are above where they lay, between the fingers."""
        return self._between(self.bin.risen_m > self.config.lift_m)

    @property
    def objects_held(self) -> NDArray[np.bool_]:
        """Which objects (N, objects) are lifted and touch neither tray nor table: the fingers alone hold them."""
        return self._between((self.bin.risen_m > self.config.lift_m) & ~self.bin.leaning)

    def _between(self, objects: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of these (N, objects) a finger presses, where both fingers press one: the same, or each its own."""
        touched = np.greater(self.bin.pressed, 0) & objects[..., None]
        return touched.any(-1) & touched.any(1).all(-1)[:, None]

    def _restart(self, observation: Observation, info: dict[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Start the finished environments anew; their last observation and facts go into `info`."""
        ended, which = ends(observation, info, self.done), np.flatnonzero(self.done)
        self._start(which)
        return self._observe(which), self._info() | ended

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": self.success.copy(),
            "rewarded": self.rewarded.copy(),
            "objects_held": self.objects_held.sum(1),
            "height_m": self.bin.tip_m[:, 2],
            "diverged": self.bin.diverged.copy(),
            "wedged": (self.lifted & self.bin.leaning).any(1),
            **self.course.facts(),
        }

    def _observe(self, changed: NDArray[np.intp]) -> Observation:
        """What all environments look like, of which those `changed` are drawn anew."""
        config = self.config
        state = [self.bin.aperture, self.bin.tip_m[:, 2], np.minimum(self.steps / config.max_steps, 1.0)]
        if config.show_pose:
            state += [*self.bin.gripper[:, :2].T, *known.turns(self.bin)]
        state += [self.bonus_paid] if config.bottom_bonus else []
        observation: Observation = {"state": np.stack(state, 1).astype(np.float32).clip(-1, 2)}
        if config.observe != "objects":
            self.image[changed] = self.picture(config.view, changed)
            observation["image"] = self.image.copy()
        if config.observe != "image":
            observation["objects"] = known.objects(self.bin).clip(-2, 2)
            observation["pose"] = known.pose(self.bin).clip(-2, 2)
        return observation

    def picture(self, view: CameraConfig, which: NDArray[np.intp] | None = None) -> NDArray[np.uint8]:
        """Pictures (n, H, W, 3) of bins `which` (n,), of all by default; views are randomised as theirs."""
        view = replace(view, randomise=self.config.view.randomise)
        if view not in self.casters:
            self.casters[view] = rendering.renderer(self.bin.models[0], self.num_envs, view, self.threads)
        bins, look = self.bin, self.look
        rows = np.arange(self.num_envs) if which is None else which
        eyes = rendering.eyes(view.camera, look, bins.gripper, bins.cam_pos, bins.cam_mat)
        geoms, looks = (bins.geom_pos[rows], bins.geom_mat[rows]), (look.size[rows], look.rgba[rows])
        return self.casters[view].draw(geoms, looks, (eyes[0][rows], eyes[1][rows], eyes[2][rows]))

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Large pictures (512, 640, 3) over the shoulder, one an environment."""
        return None if self.render_mode is None else tuple(self.picture(LARGE))


class GraspEnv(SingleEnv):
    """One bin."""

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 5}  # noqa: RUF012
    make_batch, title = GraspVectorEnv, ENVIRONMENT

    def ease(self, share: float) -> None:
        """As of the vector environment."""
        self.batch.ease(share)
