"""How fast grasping learns: the maximiser, the learner, and all workers together."""

import dataclasses
import importlib.util
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from handeye import experiments, grasp
from handeye.bench import Peak
from handeye.grasp_config import GraspLearning
from handeye.nn import centred, low_precision
from handeye.qtopt.actions import ActionBounds, for_network
from handeye.qtopt.cem import MaximiserConfig, best_actions
from handeye.qtopt.networks import Inputs, scorer
from handeye.qtopt.paper_network import SIZE_PX, PaperQ
from handeye.qtopt.workers import QLearner

BOUNDS = ActionBounds(0.06, 0.5, terminates=False)
STATES = 64
CHUNK = 16
"""Pictures that the naive maximiser encodes at once, for its memory's sake."""


def operations(work: Callable[[], object]) -> float:
    """Operations of products and convolutions in a call: two for each multiplication."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def once(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _inputs(states: int, size_px: int) -> Inputs:
    pictures = torch.randint(256, (states, size_px, size_px, 3), dtype=torch.uint8)
    return Inputs(centred(pictures), torch.rand(states, 3))


def _argmax(score: Callable[[Tensor], Tensor], states: int, config: MaximiserConfig) -> None:
    best_actions(score, states, BOUNDS, config, torch.Generator().manual_seed(0))


def _naive(net: Any, inputs: Inputs) -> Callable[[Tensor], Tensor]:
    """Values of actions (1, S, 8), every one with the picture encoded anew."""

    def score(action: Tensor) -> Tensor:
        parts = []
        for some in for_network(action, BOUNDS)[0].split(CHUNK):
            repeated = Inputs(*(part.expand(len(some), *part.shape[1:]) for part in inputs))
            with low_precision("cpu"):
                parts.append(net.score(net.encode(repeated)[0], some[:, None])[:, 0].float())
        return torch.cat(parts)[None]

    return score


@torch.no_grad()
def cem_paper(peak: Peak) -> dict[str, Any]:
    """CEM argmaxes a second with the paper's network, the picture encoded once, against once for every action."""
    net, inputs, config = PaperQ().eval(), _inputs(1, SIZE_PX), MaximiserConfig()

    def shared() -> None:
        _argmax(scorer(net, inputs, BOUNDS), 1, config)

    shared()
    ours, theirs = min(once(shared) for _ in range(3)), once(lambda: _argmax(_naive(net, inputs), 1, config))
    note = f"64 samples, 2 iterations, one state; {theirs / ours:.0f} times as fast; floor: {peak.kind} peak"
    floor = peak.flops / operations(shared)
    return {"value": 1 / ours, "unit": "states/s", "floor": floor, "peer": "the tower for every action",
            "peer_value": 1 / theirs, "note": note}  # fmt: skip


@torch.no_grad()
def cem_compact(peak: Peak) -> dict[str, Any]:
    """The same with one network of `grasp`, 64 states at once."""
    config = experiments.find("grasp").config.alone
    net, inputs = grasp.new_net(config).eval(), _inputs(STATES, config.env.view.width_px)

    def shared() -> None:
        _argmax(scorer(net, inputs, BOUNDS), STATES, config.collecting)

    shared()
    taken = min(once(shared) for _ in range(5))
    note = f"64 samples, 2 iterations (as in collecting), 64 states at once; floor: {peak.kind} peak"
    floor = STATES * peak.flops / operations(shared)
    return {"value": STATES / taken, "unit": "states/s", "floor": floor, "peer": None, "peer_value": None, "note": note}


def learner(peak: Peak) -> dict[str, Any]:
    """Updates a second of one network of `grasp`, labels given, at the batch of its configuration."""
    config = experiments.find("grasp").config.alone
    rates = {batch: _updates(config, batch) for batch in (64, config.learn.batch, 256)}
    value, flops = rates[config.learn.batch]
    note = "; ".join(f"batch {batch}: {rate:.1f}/s" for batch, (rate, _) in rates.items())
    note += f"; floor: {peak.kind} peak"
    floor = peak.flops / flops
    return {"value": value, "unit": "updates/s", "floor": floor, "peer": None, "peer_value": None, "note": note}


def _updates(config: GraspLearning, batch: int) -> tuple[float, float]:
    """Updates a second, and operations of one."""
    net, average, lagged = (grasp.new_net(config) for _ in range(3))
    worker = QLearner(net, average, lagged, BOUNDS, dataclasses.replace(config.learn, batch=batch), config.labels.lag)
    rng, view = np.random.default_rng(0), config.env.view
    image = rng.integers(256, size=(batch, view.height_px, view.width_px, 3), dtype=np.uint8)
    rows = {"image": image, "state": rng.random((batch, 3), np.float32)}
    action = rng.uniform(-0.05, 0.05, (batch, 8)).astype(np.float32)
    labelled = {"observation": rows, "action": action, "target": rng.random(batch, np.float32)}

    def update() -> None:
        worker.update(labelled, 1.0)

    flops = operations(update)
    taken = [once(update) for _ in range(12)]
    return 1 / float(np.median(taken[2:])), flops


def pipeline() -> dict[str, Any]:
    """Transitions that `grasp` collects a second while it labels and learns, and which worker waits for which."""
    config = experiments.find("grasp").config
    run = dataclasses.replace(
        config.run, first_rounds=2, rounds=12, evaluate_every=0, off_frames=20_000, on_frames=20_000
    )
    config = dataclasses.replace(config, run=run)
    with TemporaryDirectory() as folder:
        [(_, _, begin)] = grasp.plan(config, 0)
        stage: Any = begin({}, Path(folder))
        before = [stage.step() for _ in range(4)][-1]
        started = time.perf_counter()
        late = [stage.step() for _ in range(run.rounds - 4)]
        total = time.perf_counter() - started
    frames = late[-1]["frames"] - before["frames"]
    spent = {name: sum(v[name] for v in late) / total for name in ("collect_s", "label_s", "learn_s", "wait_s")}
    learnt = run.updates * config.learn.batch * len(late) / total
    note = f"{learnt / config.learn.reuse:.0f} labelled and {learnt:.0f} learnt a second; share of time: "
    note += ", ".join(f"{name.removesuffix('_s')} {100 * share:.0f} %" for name, share in spent.items())
    note += " (of one core; learning has the other, then both; whoever is free labels; wait: the learner's)"
    return {"value": frames / total, "unit": "frames/s", "floor": None, "peer": None, "peer_value": None, "note": note}


PEER = "PyBullet's Kuka bin, 64×64, one core"
PEER_S = 15.0


def kuka() -> float | None:
    """Steps a second of PyBullet's Kuka bin with pictures and restarts; None where it is not installed.

    For it: pip install pybullet gym==0.26.2 'setuptools<81' (of the package only this one environment is used).
    """
    root = importlib.util.find_spec("pybullet_envs")
    if root is None or root.submodule_search_locations is None or importlib.util.find_spec("gym") is None:
        return None
    # The packages' own initialisation registers dozens of environments with a Gym that is no more.
    for name in ("", ".bullet"):
        package = types.ModuleType("pybullet_envs" + name)
        package.__path__ = [str(Path(place, *name.split(".")[1:])) for place in root.submodule_search_locations]
        sys.modules["pybullet_envs" + name] = package
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bin_of = importlib.import_module("pybullet_envs.bullet.kuka_diverse_object_gym_env").KukaDiverseObjectEnv
        env = bin_of(renders=False, isDiscrete=False, maxSteps=20, numObjects=5, width=64, height=64)
        env.reset()
    rng, steps, started = np.random.default_rng(0), 0, time.perf_counter()
    while time.perf_counter() - started < PEER_S:
        steps += 1
        if env.step(rng.uniform(-1, 1, env.action_space.shape[0]))[2]:
            env.reset()
    return steps / (time.perf_counter() - started)
