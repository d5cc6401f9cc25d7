"""Stable-Baselines3's SAC with its CNN on our bin: python benchmarks/peer_sb3.py --minutes 30

Same bins, same 64×64 camera that follows the gripper, same rewards and γ as `grasp`; the rest is as SB3 has it. Prints
JSON: gradient and environment steps a second, and success over 100 grasps of held-out objects with Wilson's interval.
With `--given N` its memory begins with N transitions of the scripted policy and of the oracle, half of the bins each;
collecting them counts as time. `grasp` has such episodes all along.

SB3 is needed for this alone: pip install --no-deps --target DIR stable-baselines3 cloudpickle, then PYTHONPATH=DIR.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import stable_baselines3
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from handeye.envs.bin_config import world_of
from handeye.envs.grasp_policies import Oracle, Scripted
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.grasp_results import PROTOCOL_SEED
from handeye.metrics import wilson
from handeye.qtopt.workers import Shared
from handeye.rollout import episodes

WORLDS, GAMMA, JUDGED_AT_ONCE = 48, 0.9, 50


class Bins(VecEnv):
    """Our batch of bins as SB3 takes it."""

    render_mode = None

    def __init__(self, env: GraspVectorEnv) -> None:
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> dict[str, NDArray]:
        return self.env.reset(seed=self._seeds[0])[0]

    def step_async(self, actions: NDArray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple:
        observation, reward, terminated, truncated, info = self.env.step(self.actions)
        told: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(late)} for late in truncated]
        over = terminated | truncated
        for i in np.flatnonzero(over):
            told[i]["terminal_observation"] = info["final_obs"][i]
        return observation, reward, over, told

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        return [getattr(self, method_name)(*args, **options)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class Deadline(BaseCallback):
    """Ends the training when time is up."""

    def __init__(self, end_s: float) -> None:
        super().__init__()
        self.end_s = end_s

    def _on_step(self) -> bool:
        return time.perf_counter() < self.end_s


def give(model: Any, env: GraspVectorEnv, transitions: int, seed: int) -> None:
    """Fill the memory with what scripted policy and oracle do."""
    half, rngs = WORLDS // 2, np.random.default_rng(seed).spawn(WORLDS)
    policy = Shared([Scripted(env, rngs), Oracle(env)], [slice(0, half), slice(half, WORLDS)])
    model._last_obs = model.env.reset()
    for _ in range(transitions // WORLDS):
        action = policy({})
        observation, reward, over, told = model.env.step(action)
        model._store_transition(model.replay_buffer, model.policy.scale_action(action), observation, reward, over, told)
        model._last_obs = observation


def success(model: Any, grasps: int) -> list[bool]:
    """Of the first held-out scenes of the protocol, which end in a grasp."""
    worlds = min(JUDGED_AT_ONCE, grasps)
    env, found = GraspVectorEnv(worlds, GraspConfig(world=world_of("heldout")), "disabled"), []
    for first in range(0, grasps, worlds):
        seeds = range(PROTOCOL_SEED + first, PROTOCOL_SEED + first + worlds)
        ended = episodes(env, lambda seen: model.predict(seen, deterministic=True)[0], keep=(), seed=list(seeds))
        found += [bool(one.facts["is_success"][-1]) for one in ended]
    return found[:grasps]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    env = GraspVectorEnv(WORLDS, replace(GraspConfig(), observe="image"))
    model = SAC(
        "MultiInputPolicy", Bins(env), gamma=GAMMA, buffer_size=options.buffer, batch_size=options.batch,
        gradient_steps=options.gradient_steps, learning_starts=WORLDS * 20, seed=options.seed,
    )  # fmt: skip
    started = time.perf_counter()
    give(model, env, options.given, options.seed)
    begun = time.perf_counter()
    model.learn(10**9, Deadline(started + 60 * options.minutes))
    taken = time.perf_counter() - begun
    good = success(model, options.grasps)
    low, high = wilson(sum(good), len(good))
    return {
        "peer": f"stable-baselines3 {stable_baselines3.__version__} SAC, MultiInputPolicy",
        **vars(options),
        "env_steps": model.num_timesteps,
        "gradient_steps_done": model._n_updates,
        "given_s": begun - started,
        "env_steps_per_s": model.num_timesteps / taken,
        "gradient_steps_per_s": model._n_updates / taken,
        "success": sum(good) / len(good),
        "ci_low": low,
        "ci_high": high,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SB3's SAC on our bin")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--given", type=int, default=0, help="transitions of scripted policy and oracle")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--gradient-steps", type=int, default=4, help=f"for every {WORLDS} steps of the bins")
    parser.add_argument("--buffer", type=int, default=60_000, help="transitions kept, 25 kB each")
    parser.add_argument("--grasps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(measure(parser.parse_args()), indent=2))
