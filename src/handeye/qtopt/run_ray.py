"""The workers in processes of their own, on this machine or a cluster, by Ray.

A round of a collector depends on the seed and its number alone, a label on its sample and the networks: so it does not
matter who does it, and one that dies is begun anew and does it again.
"""

import os
import socket
from collections.abc import Callable, Iterable
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch

from handeye.checkpoint import Tree
from handeye.errors import Failure, Misuse
from handeye.frames import FrameReplay
from handeye.nn import keep_freed_memory
from handeye.qtopt.networks import QNetwork
from handeye.qtopt.workers import BellmanUpdater, Collector, Crew, Exploration, Label, Sample
from handeye.types import Episode

# Ray warns at every start, unless it is told that this will not matter.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
try:
    import ray
    from ray.exceptions import RayError
except ImportError as error:
    raise Failure('--runner ray needs a package: pip install "handeye[ray]"') from error

Make = Callable[[slice], Collector]
"""Builds the collector of a share of the environments, in the process that it is to work in."""


def spread(crew: Crew, make: Make, environments: int, updater: BellmanUpdater) -> tuple["Collectors", "Updaters"]:
    """Workers in processes of their own, that look like one collector and one updater."""
    return Collectors(crew.collectors, make, environments), Updaters(crew.updaters, updater)


def join(crew: Crew, environments: int) -> None:
    """Join the cluster at RAY_ADDRESS, or begin one on this machine, with a CPU for each process.

    Raises:
        Misuse: more collectors than environments.
        Failure: there is no cluster at RAY_ADDRESS, or it is too small.
    """
    if crew.collectors > environments:
        raise Misuse(f"collectors must be at most run.environments, which is {environments}, got {crew.collectors}")
    if not ray.is_initialized():
        _begin_ray(sum(crew))
    there = ray.cluster_resources().get("CPU", 0)
    if there < sum(crew):
        raise Failure(f"{sum(crew)} workers need a CPU each, and Ray has {there:.0f}: give fewer, or add machines")


def _begin_ray(processes: int) -> None:
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _need_answer(address)
    # Its own cluster is told what is there: more processes than cores take turns.
    size = {} if address else {"num_cpus": processes, "include_dashboard": False}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level="error", **size)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise Failure(f"Ray does not start (RAY_ADDRESS={address or ''}): {error}") from error


def _need_answer(address: str) -> None:
    """Raises: Failure if nothing answers at host:port, where Ray would try for minutes; the rest is Ray's to know."""
    host, _, port = address.rpartition("//")[-1].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), 10).close()
        except OSError as error:
            raise Failure(f"nothing answers at RAY_ADDRESS={address}: {error}") from error


class _Collecting:
    """A collector in a process of its own."""

    def __init__(self, make: Make, share: slice) -> None:
        _settle()
        self.collector = make(share)

    def collect(self, net: QNetwork, exploration: Exploration, number: int) -> tuple[list[Episode], list[Episode]]:
        return self.collector.collect(net, exploration, number)


class _Labelling:
    """A Bellman updater in a process of its own."""

    def __init__(self, updater: BellmanUpdater) -> None:
        _settle()
        self.updater = updater

    def label(self, nets: tuple[QNetwork, QNetwork], sample: Sample) -> Label:
        batch, rng = sample
        return self.updater.label(*nets, (_own(batch), rng))


def _settle() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


def _own(tree: Tree) -> Tree:
    """Copies of arrays, which Ray shares between processes and lets nobody write to."""
    return {name: _own(part) for name, part in tree.items()} if isinstance(tree, dict) else np.array(tree)


class Collectors:
    """Collectors of a share of the environments each, which look like one."""

    def __init__(self, count: int, make: Make, environments: int) -> None:
        edges = np.linspace(0, environments, count + 1).round().astype(int).tolist()
        self.environments, self.shares = environments, [slice(*ends) for ends in pairwise(edges)]
        self.actors = [_begin(_Collecting, make, share) for share in self.shares]

    def collect(self, net: QNetwork, exploration: Exploration, number: int, /) -> tuple[list[Episode], list[Episode]]:
        """One episode of each environment, as `Collector.collect` brings them."""
        shown = ray.put(net)
        parts = [part_of(exploration, self.environments, share) for share in self.shares]
        asked = [actor.collect.remote(shown, part, number) for actor, part in zip(self.actors, parts, strict=True)]
        given, own = zip(*_get(asked), strict=True)
        return list(chain(*given)), list(chain(*own))


class Updaters:
    """Bellman updaters, which look like one."""

    def __init__(self, count: int, updater: BellmanUpdater) -> None:
        self.updater, self.bounds, self.config = updater, updater.bounds, updater.config
        self.actors = [_begin(_Labelling, updater) for _ in range(count)]

    def sample(self, replay: FrameReplay, count: int, rng: np.random.Generator, steps: int, /) -> dict[str, Any]:
        """`count` steps to label, by the value so many `steps` ahead."""
        return self.updater.sample(replay, count, rng, steps)

    def label_all(self, average: QNetwork, lagged: QNetwork, samples: Iterable[Sample], /) -> list[Label]:
        """Labels of each sample, in their order."""
        given = list(samples)
        shown = ray.put((average, lagged)) if given else None
        asked = [self.actors[i % len(self.actors)].label.remote(shown, one) for i, one in enumerate(given)]
        return _get(asked)


def _begin(worker: type, *arguments: Any) -> Any:
    """A worker in a process of its own, which is begun anew, and given its task again, as often as it dies."""
    return ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(worker).remote(*arguments)


def part_of(exploration: Exploration, environments: int, share: slice) -> Exploration:
    """The exploration of a share of the environments, so that all of them together have it as it was asked for.

    Scripted policy, guide and greedy policy have the environments in this order.
    """
    size = share.stop - share.start
    ends = np.round(np.cumsum([exploration.scripted, exploration.guided]) * environments)
    scripted, guided = np.diff(np.clip(ends, share.start, share.stop), prepend=share.start) / size
    return Exploration(float(scripted), float(guided))


def _get(asked: list[Any]) -> Any:
    """What was asked for. Raises: Failure if a worker failed, and not by dying."""
    try:
        return ray.get(asked)
    except RayError as error:
        raise Failure(f"a worker failed: {error}") from error
