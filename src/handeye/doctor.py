"""`handeye doctor`: what this machine has, how fast it is, and how to mend what is slow."""

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from handeye import checkpoint, planar_arm
from handeye.bench import seconds
from handeye.envs import camera_domain, reach_pictures
from handeye.modular.networks import perceive, perception_net
from handeye.reach import draw_sim

Finding = tuple[bool, str, str]
"""(fine, what was found, how to mend it)."""

EXTRAS = {"matplotlib": "report", "tensorboard": "tensorboard", "imageio_ffmpeg": "video"}


def examine(console: Console) -> int:
    """Print all findings. Returns 1 if something keeps handeye from working, else 0."""
    broken = 0
    for essential, check in ((True, _essentials), (False, _speed), (False, _extras)):
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
    yield free > 1, f"{free:.0f} GiB free here", "free some disk: a run takes up to 0.2 GiB"
    writable = os.access(Path.cwd(), os.W_OK)
    yield writable, f"{'can' if writable else 'cannot'} write here", "change to a folder of yours, or give --out"


def _speed() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    yield threads <= cores, f"{cores} cores, {threads} torch threads", f"set OMP_NUM_THREADS={cores}"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    mend = "nothing to do: networks run in float32 here, 2–3 times slower than on a processor with it"
    yield native, f"the processor {'multiplies' if native else 'does not multiply'} bf16 itself", mend
    gpu = torch.cuda.is_available()
    yield True, f"{torch.cuda.get_device_name() if gpu else 'no GPU'} (reaching trains on the processor)", ""
    pictures, theta = draw_sim(64, np.random.default_rng(0))
    net = perception_net()
    with torch.no_grad():
        see_ms = 1e3 / 64 * seconds(lambda: perceive(net, pictures[..., None]), 0.5)
    yield see_ms < 2, f"perception: {see_ms:.2f} ms a picture", "close what else runs: torch wants the cores alone"
    yield _drawing(theta)


def _drawing(theta: np.ndarray) -> Finding:
    scene = planar_arm.from_theta(theta)
    seeds = np.arange(len(theta), dtype=np.uint64)
    sim_us = 1e6 / len(theta) * seconds(lambda: reach_pictures.draw(*scene), 0.3)
    camera_us = 1e6 / len(theta) * seconds(lambda: camera_domain.draw(*scene, seeds), 0.3)
    found = f"drawing: {sim_us:.0f} µs a picture in sim, {camera_us:.0f} µs in the camera domain"
    return sim_us < 200, found, "close what else runs; check NUMBA_NUM_THREADS and NUMBA_DISABLE_JIT"


def _extras() -> Iterator[Finding]:
    for module, extra in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield there, f"{module} {'is' if there else 'is not'} installed", f'pip install "handeye[{extra}]"'
