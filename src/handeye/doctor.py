"""`handeye doctor`: what this machine has, how fast it is, and how to mend what is slow."""

import importlib.util
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from handeye import checkpoint, planar_arm
from handeye.bench import seconds
from handeye.envs import camera_domain, reach_pictures
from handeye.errors import EXTRAS
from handeye.modular.networks import perceive, perception_net
from handeye.nn import multiplied_in
from handeye.reach import draw_sim

Finding = tuple[bool, str, str]
"""(fine, what was found, how to mend it)."""

REINSTALL = 'pip uninstall mujoco mujoco-warp warp-lang, then pip install "handeye[grasp]": an upgrade across versions \
loses files'
BUSY = "close what else runs"


def examine(console: Console) -> int:
    """Print all findings. Returns 1 if something keeps handeye from working, else 0."""
    broken = 0
    for essential, check in ((True, _essentials), (True, _bin), (False, _speed), (False, _bin_speed), (False, _extras)):
        for fine, found, mend in check():
            broken += essential and not fine
            console.print(f"{'ok  ' if fine else 'LOOK'}  {found}", markup=False, highlight=False)
            if not fine:
                console.print(f"      → {mend}", markup=False, highlight=False)
    return int(broken > 0)


def _essentials() -> Iterator[Finding]:
    packages = ", ".join(f"{name} {version(name)}" for name in ("handeye", "torch", "numba", "gymnasium", "numpy"))
    yield True, f"Python {platform.python_version()}, {packages}", ""
    pictures, theta = draw_sim(1, np.random.default_rng(0))
    drawn = pictures.min() < 50 and pictures.max() == 255
    yield drawn, f"a picture drawn: grey {pictures.min()} … {pictures.max()}", "reinstall numba"
    with torch.no_grad():
        seen = perceive(perception_net(), pictures[..., None])
    yield bool(torch.isfinite(seen).all()), "a network run on it", "reinstall torch"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.safetensors"
        checkpoint.save(path, {"theta": theta})
        same = np.array_equal(checkpoint.load(path)["theta"], theta)
    yield same, "a checkpoint written and read", "reinstall safetensors"
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield free > 1, f"{free:.0f} GiB free here", "free some disk: reaching takes up to 0.2 GiB a run, grasping 6"
    writable = os.access(Path.cwd(), os.W_OK)
    yield writable, f"{'can' if writable else 'cannot'} write here", "change to a folder of yours, or give --out"


def _speed() -> Iterator[Finding]:
    cores = _cores()
    threads = torch.get_num_threads()
    yield threads <= cores, f"{cores} cores, {threads} torch threads", f"set OMP_NUM_THREADS={cores}"
    low = multiplied_in() == torch.bfloat16
    mend = "nothing to do: trainings take up to three times as long as where bf16 is fast"
    yield low, f"networks multiply in {'bf16' if low else 'float32'}, in which this processor is faster", mend
    gpu = torch.cuda.is_available()
    yield (
        True,
        f"{torch.cuda.get_device_name() if gpu else 'no GPU'} (grasping trains on one with --run.device cuda)",
        "",
    )
    pictures, theta = draw_sim(64, np.random.default_rng(0))
    net = perception_net()
    with torch.no_grad():
        see_ms = 1e3 / 64 * seconds(lambda: perceive(net, pictures[..., None]), 0.5)
    yield see_ms < 2, f"perception: {see_ms:.2f} ms a picture", f"{BUSY}: torch wants the cores alone"
    yield _drawing(theta)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _drawing(theta: np.ndarray) -> Finding:
    scene = planar_arm.from_theta(theta)
    seeds = np.arange(len(theta), dtype=np.uint64)
    sim_us = 1e6 / len(theta) * seconds(lambda: reach_pictures.draw(*scene), 0.3)
    camera_us = 1e6 / len(theta) * seconds(lambda: camera_domain.draw(*scene, seeds), 0.3)
    found = f"drawing: {sim_us:.0f} µs a picture in sim, {camera_us:.0f} µs in the camera domain"
    return sim_us < 200, found, f"{BUSY}; check NUMBA_NUM_THREADS and NUMBA_DISABLE_JIT"


def _bin() -> Iterator[Finding]:
    """What grasping needs: physics and pictures. Nothing where neither is installed, which `_extras` tells."""
    if not _can_grasp():
        return
    try:
        yield from _bin_works()
    except Exception as error:
        yield False, f"the bin does not work: {type(error).__name__}: {error}", REINSTALL


def _can_grasp() -> bool:
    return all(importlib.util.find_spec(name) for name in ("mujoco", "mujoco_warp", "warp"))


def _bin_works() -> Iterator[Finding]:
    from handeye.envs import rendering
    from handeye.envs.rendering import CameraConfig

    yield True, ", ".join(f"{name} {version(name)}" for name in ("mujoco", "mujoco-warp", "warp-lang")), ""
    env = _small_bin(0)
    before = env.bin.tip_m[:, 2].copy()
    env.bin.step(np.arange(env.num_envs), np.array([[0, 0, -0.03, 0]] * env.num_envs), env.bin.closed.copy())
    fell = before - env.bin.tip_m[:, 2]
    moved = bool((fell > 0.02).all() and not env.bin.diverged.any())
    yield moved, f"{env.num_envs} bins simulated, grippers sent down 3 cm went {100 * fell.mean():.1f} cm", REINSTALL
    started = time.perf_counter()
    picture = env.picture(CameraConfig(camera="shoulder"))
    first_s, colours = time.perf_counter() - started, len(np.unique(picture[0].reshape(-1, 3), axis=0))
    found = f"a bin drawn on {rendering.device()}: {colours} colours, grey {picture[0].min()} … {picture[0].max()}"
    yield colours > 20 and float(picture[0].std()) > 10, found, REINSTALL
    folder = rendering.kernel_folder()
    mend = "set WARP_CACHE_PATH to a folder of yours: else every process compiles its kernels anew, for seconds"
    found = f"first picture after {first_s:.1f} s; compiled kernels are kept in {folder}"
    yield os.access(folder, os.W_OK), found, mend


def _small_bin(threads: int) -> Any:
    from handeye.envs.bin_config import BinConfig
    from handeye.envs.grasping import GraspConfig, GraspVectorEnv

    config = GraspConfig(world=BinConfig(models=2, placements=1), observe="objects")
    env = GraspVectorEnv(8, config, "disabled", threads=threads)
    env.reset(seed=0)
    return env


def _bin_speed() -> Iterator[Finding]:
    if not _can_grasp():
        return
    from handeye.envs.rendering import CameraConfig

    single, every = _step_us(1), _step_us(0)
    cores = _cores()
    yield single < 60, f"physics: {single:.0f} µs a step on one thread", BUSY
    found = f"physics: {every:.0f} µs a step on {cores} {'core' if cores == 1 else 'cores'}"
    yield cores == 1 or every < 0.8 * single, found, f"{BUSY}: more threads bring little while others hold the cores"
    env = _small_bin(0)
    frame_ms = 1e3 / env.num_envs * seconds(lambda: env.picture(CameraConfig()), 0.5)
    yield frame_ms < 4, f"pictures: {frame_ms:.2f} ms for 64×64", BUSY


def _step_us(threads: int) -> float:
    """Microseconds of a time step of a bin when eight are simulated together, after the objects have settled."""
    env = _small_bin(threads)
    everyone, still, world = np.arange(env.num_envs), np.zeros((env.num_envs, 4)), env.config.world
    step = seconds(lambda: env.bin.step(everyone, still, env.bin.closed.copy()), 0.3)
    return 1e6 * step / env.num_envs / round(world.step_s / world.timestep_s)


def _extras() -> Iterator[Finding]:
    for module, extra in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield there, f"{module} {'is' if there else 'is not'} installed", f'pip install "handeye[{extra}]"'
