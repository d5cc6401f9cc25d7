"""All workers in one process: while one round of episodes is collected, the learner works on the rounds before it."""

import copy
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handeye.checkpoint import Tree
from handeye.errors import Misuse, need
from handeye.frames import Fields, FrameReplay
from handeye.policies import linear
from handeye.qtopt.workers import BellmanUpdater, Collector, Exploration, LabelConfig, LearnConfig, QLearner
from handeye.replay import Replay
from handeye.types import Episode

Gathered = tuple[list[Episode], list[Episode]]


@dataclass(frozen=True)
class RunConfig:
    """How much is collected and learnt, and when. Raises ValueError for values that do neither."""

    rounds: int = 200
    """In each, every environment lives one episode."""
    first_rounds: int = 20
    """Rounds before the first update, scripted and guided."""
    environments: int = 48
    updates: int = 20
    """Of the learner in each round after the first ones."""
    scripted_first: float = 0.5
    scripted: float = 0.1
    """Share of scripted episodes, in the first rounds, where the guide has the others, and after."""
    guided_start: float = 0.5
    guided_end: float = 0.1
    guided_over: float = 0.5
    """Share of guided episodes after the first rounds, from start to end over this share of the rounds."""
    on_policy_start: float = 0.3
    on_policy_end: float = 0.7
    on_policy_over: float = 0.5
    """Share of the labelled samples that come from the learner's own episodes, likewise."""
    off_frames: int = 100_000
    on_frames: int = 100_000
    """Frames kept of scripted and guided episodes, and of the learner's own."""
    evaluate_every: int = 0
    """Rounds from one evaluation to the next; 0: none."""
    overlap: bool = True
    """Whether collecting and learning run side by side; the result is the same."""

    def __post_init__(self) -> None:
        need(self, ("rounds", "environments", "off_frames", "on_frames"), 1, 1_000_000_000)
        need(self, ("first_rounds",), 1, self.rounds)
        need(self, ("updates", "evaluate_every"), 0, 1_000_000)
        need(self, ("scripted_first", "scripted", "guided_start", "guided_end"), 0, 1)
        need(self, ("on_policy_start", "on_policy_end"), 0, 1)
        need(self, ("guided_over", "on_policy_over"), 0, 1, above=True)


SLACK = 60_000
"""Frames that may be written between two saves."""


class LocalRunner:
    """A training stage of rounds: exact whether interrupted or not, overlapped or not."""

    def __init__(
        self,
        net: Any,
        collector: Collector,
        observation: Fields,
        configs: tuple[RunConfig, LabelConfig, LearnConfig],
        seed: int,
        folder: Path | None = None,
        evaluate: Any = None,
    ) -> None:  # fmt: skip
        """`observation`: what a frame holds. `evaluate(net) → figures` is asked now and then."""
        self.config, labels, learn = configs
        self.net, self.collector, self.evaluate = net, collector, evaluate
        self.average, self.acting = copy.deepcopy(net), copy.deepcopy(net).eval()
        self.learner = QLearner(net, self.average, copy.deepcopy(net), collector.bounds, learn, labels.lag)
        self.updater = BellmanUpdater(self.average, self.learner.lagged, collector.bounds, labels)
        self.rng = np.random.default_rng(seed)
        action = collector.env.single_action_space.shape[0]  # type: ignore[attr-defined]
        slack = SLACK if folder is not None else 0
        self.off = FrameReplay(self.config.off_frames, observation, action, folder and folder / "off", slack)
        self.on = FrameReplay(self.config.on_frames, observation, action, folder and folder / "on", slack)
        fields = {f"seen_{name}": field for name, field in observation.items()}
        scalar = ((), np.float32)
        self.labelled = Replay(
            learn.labelled, fields | {"action": ((action,), np.float32), "target": scalar, "step": scalar}
        )
        after = self.config.rounds - self.config.first_rounds
        config = self.config
        self.guided = linear(config.guided_start, config.guided_end, max(round(config.guided_over * after), 1))
        self.on_share = linear(
            config.on_policy_start, config.on_policy_end, max(round(config.on_policy_over * after), 1)
        )
        self.steps, self.done = config.rounds, 0
        self.pool = ThreadPoolExecutor(1) if config.overlap else None
        self.figures: dict[str, float] = {}

    def step(self) -> dict[str, float]:
        """One round. Returns losses, what the episodes ended like, and the last evaluation's figures."""
        threads = torch.get_num_threads()
        # One thread each for collecting and learning: more fight over the cores.
        torch.set_num_threads(1)
        self.acting.load_state_dict(self.average.state_dict())
        started = time.perf_counter()
        gathering = self._gather()
        values = self._learn() if self.done >= self.config.first_rounds else {}
        learnt = time.perf_counter()
        given, own = gathering.result()
        values |= {"learn_s": learnt - started, "wait_s": time.perf_counter() - learnt}
        self.off.add(given)
        self.on.add(own)
        self.done += 1
        torch.set_num_threads(threads)
        values |= _summary(given, own) | {"frames": float(self.off.added + self.on.added)}
        every = self.config.evaluate_every
        if self.evaluate and every and self.done % every == 0:
            self.figures = self.evaluate(self.average)
        return values | self.figures

    def _gather(self) -> "Future[Gathered]":
        config, after = self.config, self.done - self.config.first_rounds
        early = after < 0
        first = config.scripted_first, 1 - config.scripted_first
        scripted, guided = first if early else (config.scripted, self.guided(after))
        task = partial(self.collector.collect, self.acting, Exploration(scripted, guided), self.done)
        if self.pool is not None:
            return self.pool.submit(task)
        now: Future[Gathered] = Future()
        now.set_result(task())
        return now

    def _learn(self) -> dict[str, float]:
        """A round's updates. Returns the means of what they measured."""
        if not len(self.off) + len(self.on):
            raise Misuse("nothing was collected before the first update: give more first_rounds")
        measured = [self._update() for _ in range(self.config.updates)]
        names = measured[0] if measured else {}
        return {name: float(np.mean([values[name] for values in measured])) for name in names}

    def _update(self) -> dict[str, float]:
        learn = self.learner.config
        clipped = self._label(-(-learn.batch // learn.reuse) if len(self.labelled) >= learn.batch else learn.batch)
        rows = self.labelled.sample(learn.batch, self.rng)
        age = self.learner.done - rows.pop("step").mean()
        batch: dict[str, Any] = {"action": rows.pop("action"), "target": rows.pop("target")}
        batch["observation"] = {name.removeprefix("seen_"): value for name, value in rows.items()}
        share = (self.done - self.config.first_rounds) / max(self.config.rounds - self.config.first_rounds, 1)
        values = self.learner.update(batch, 0.5 * (1 + float(np.cos(np.pi * share))))
        return values | {"clipped": clipped, "label_age": float(age)}

    def _label(self, count: int) -> float:
        """Label so many samples of both memories; the share that was clipped."""
        on = round(count * self.on_share(self.done - self.config.first_rounds)) if len(self.on) else 0
        drawn = [
            self.updater.sample(replay, part, self.rng)
            for replay, part in ((self.off, count - on), (self.on, on))
            if part and len(replay)
        ]
        batch, clipped = self.updater.label(_joined(drawn), self.rng)
        seen = {f"seen_{name}": value for name, value in batch.pop("observation").items()}
        self.labelled.add(**seen, **batch, step=np.full(len(batch["target"]), self.learner.done, np.float32))
        return clipped

    def state(self) -> Tree:
        return {
            "learner": self.learner.state(),
            "off": self.off.state(),
            "on": self.on.state(),
            "labelled": self.labelled.state(),
            "rng": self.rng.bit_generator.state,
            "done": self.done,
            "figures": self.figures,
        }

    def load_state(self, state: Tree) -> None:
        self.learner.load_state(state["learner"])
        for name in ("off", "on", "labelled"):
            getattr(self, name).load_state(state[name])
        self.rng.bit_generator.state = state["rng"]
        self.done, self.figures = state["done"], state["figures"]

    def result(self) -> dict[str, torch.Tensor]:
        return self.average.state_dict()


def _joined(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Batches of the same parts, one after the other."""
    if len(batches) == 1:
        return batches[0]
    return {
        name: _joined([batch[name] for batch in batches]) if isinstance(value, dict)
        else np.concatenate([batch[name] for batch in batches])
        for name, value in batches[0].items()
    }  # fmt: skip


def _summary(given: list[Episode], own: list[Episode]) -> dict[str, float]:
    """Success and length of the episodes of both kinds; nothing of a kind that there is none of."""
    values = {}
    for name, ended in (("given", given), ("own", own)):
        if ended:
            values[f"{name}_success"] = float(np.mean([episode.facts["is_success"][-1] for episode in ended]))
            values[f"{name}_length"] = float(np.mean([len(episode.reward) for episode in ended]))
    return values
