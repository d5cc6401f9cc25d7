"""Rounds of the workers: while one is collected and labelled, the learner works on the rounds before.

The workers are all in this process, or look as if they were: see run_ray.py.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from handeye.checkpoint import Tree
from handeye.errors import Misuse, need, need_one_of
from handeye.frames import Fields, FrameReplay
from handeye.learner import cosine
from handeye.policies import Schedule, linear
from handeye.qtopt.actions import SIZE, ActionBounds
from handeye.qtopt.members import members_of
from handeye.qtopt.networks import QNetwork
from handeye.qtopt.workers import Exploration, Label, LabelConfig, LearnConfig, QLearner, Sample, means
from handeye.replay import Replay
from handeye.types import Episode


class Collecting(Protocol):
    """A `Collector`, or several that look like one."""

    def collect(
        self, net: QNetwork, exploration: Exploration, number: int, /
    ) -> tuple[list[Episode], list[Episode]]: ...


class Labelling(Protocol):
    """A `BellmanUpdater`, or several that look like one."""

    @property
    def bounds(self) -> ActionBounds: ...

    @property
    def config(self) -> LabelConfig: ...

    def sample(self, replay: FrameReplay, count: int, rng: np.random.Generator, steps: int, /) -> dict[str, Any]: ...

    def label_all(self, average: QNetwork, lagged: QNetwork, samples: Iterable[Sample], /) -> list[Label]: ...


class Workers(NamedTuple):
    """Who brings episodes and who labels samples of them; and episodes that there are before any is collected."""

    collector: Collecting
    updater: Labelling
    stored: Callable[[], Iterable[Episode]] = tuple


class Gathered(NamedTuple):
    """What a round brings: episodes of scripted policy and guide, the learner's own, labels by number, seconds."""

    given: list[Episode]
    own: list[Episode]
    labels: dict[int, Label]
    collect_s: float
    label_s: float


class Unlabelled(NamedTuple):
    """A round's samples to label: how many steps of each come from which memory, how many steps ahead they look, and
    the randomness of each sample, numbered. Whoever is free takes the next."""

    parts: list[tuple[FrameReplay, int]]
    ahead: int
    rngs: Iterator[tuple[int, np.random.Generator]]


@dataclass(frozen=True)
class RunConfig:
    """How much is collected and learnt, and when. Raises ValueError for values that do neither."""

    rounds: int = 200
    """In each, every environment lives one episode."""
    collect: bool = True
    """Without, a round is its updates alone, and all is learnt from logs."""
    first_rounds: int = 20
    """Rounds before the first update, scripted and guided."""
    sight_rounds: int = 0
    """Rounds after the first ones in which Θ̂ alone is learnt, by L_p: Q is not fitted to what is not yet seen."""
    far_rounds: int = 0
    far_steps: int = 3
    """Rounds after the first ones in which the value is asked for so many steps ahead; then `labels.steps`. What nobody
    has tried yet is overestimated, and sooner corrected from farther."""
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
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the networks are; worlds and pictures stay on the processor."""

    def __post_init__(self) -> None:
        need(self, ("rounds", "environments"), 1, 1_000_000_000)
        need(self, ("off_frames", "on_frames"), 2, 1_000_000_000)
        need(self, ("first_rounds",), 1, self.rounds)
        need(self, ("sight_rounds", "far_rounds"), 0, self.later_rounds)
        need(self, ("far_steps",), 1, 1_000_000)
        if self.far_steps != RunConfig.far_steps and not self.far_rounds:
            raise Misuse(f"far_steps says nothing without far_rounds, got {self.far_steps}")
        need(self, ("updates", "evaluate_every"), 0, 1_000_000)
        need(self, ("scripted_first", "scripted", "guided_start", "guided_end"), 0, 1)
        need(self, ("on_policy_start", "on_policy_end"), 0, 1)
        need(self, ("guided_over", "on_policy_over"), 0, 1, above=True)
        need_one_of(self, "device", ("cpu", "cuda"))

    @property
    def later_rounds(self) -> int:
        """Rounds after the first ones."""
        return self.rounds - self.first_rounds

    def updates_in(self, done: int) -> int:
        """Updates in so many rounds."""
        return max(done - self.first_rounds, 0) * self.updates


def on_policy_share(config: RunConfig) -> Schedule:
    """Share of the labelled samples that come from the learner's own episodes, by the rounds since the first."""
    over = round(config.on_policy_over * config.later_rounds)
    return linear(config.on_policy_start, config.on_policy_end, max(over, 1))


SLACK_ROUNDS = 32
"""Rounds whose frames are kept beyond those that are sampled, so that they can be written between two saves."""


class Frames(NamedTuple):
    """How many an episode has at most, and how many are stored before the first."""

    longest: int
    stored: int = 0


class LocalRunner:
    """A training stage of rounds: exact whether interrupted or not, overlapped or not."""

    def __init__(
        self,
        net: Any,
        workers: Workers,
        observation: Fields,
        configs: tuple[RunConfig, LearnConfig],
        seed: int,
        frames: Frames,
        folder: Path | None = None,
        evaluate: Any = None,
    ) -> None:  # fmt: skip
        """`observation`: what a frame holds. `evaluate(net) → figures` is asked now and then."""
        self.config, learn = configs
        config = self.config
        net = net.to(config.device)
        self.net, self.workers, self.evaluate = net, workers, evaluate
        self.average = copy.deepcopy(net)
        self.acting, self.judging = copy.deepcopy(net).eval(), copy.deepcopy(net).eval()
        members, labels = len(members_of(net)), workers.updater
        self.pool = ThreadPoolExecutor(_threads(members)) if config.overlap else None
        each = self.pool.map if self.pool and members > 1 else map
        self.learner = QLearner(net, self.average, copy.deepcopy(net), labels.bounds, learn, labels.config.lag, each)
        self.seed, self.rng = seed, np.random.default_rng(seed)
        self.round_frames = config.environments * frames.longest
        self.off = self._memory("off", config.off_frames, observation, frames.stored, folder)
        self.on = self._memory("on", config.on_frames, observation, 0, folder)
        self.labelled = _labelled(learn.labelled, observation)
        over = round(config.guided_over * config.later_rounds)
        self.guided = linear(config.guided_start, config.guided_end, max(over, 1))
        self.on_share = on_policy_share(config)
        self.steps, self.done = config.rounds, 0
        self.figures: dict[str, float] = {}

    def _memory(self, name: str, capacity: int, observation: Fields, stored: int, folder: Path | None) -> FrameReplay:
        """Of so many frames, or of all that there will be, if fewer."""
        most = self.config.rounds * self.round_frames + stored
        slack = min(SLACK_ROUNDS * self.round_frames, max(most - capacity, 0))
        return FrameReplay(min(capacity, most), observation, SIZE, folder and folder / name, slack if folder else 0)

    def step(self) -> dict[str, float]:
        """One round. Returns losses, what the episodes ended like, and the last evaluation's figures.

        Collecting and labelling use the averaged weights as they are at its start, and what they bring is there at its
        end: so it does not matter how fast either is.
        """
        if not self.done:
            self.off.add(self.workers.stored())
        threads, started = torch.get_num_threads(), time.perf_counter()
        # One thread each for gathering and learning, and for each of what evaluates: more fight over the cores.
        torch.set_num_threads(1)
        self.acting.load_state_dict(self.average.state_dict())
        self.judging.load_state_dict(self.learner.lagged.state_dict())
        unlabelled = self._unlabelled()
        gathering = self._begin_gathering(unlabelled)
        values = self._learn()
        learnt = time.perf_counter()
        labels = self._label(unlabelled)
        labelled = time.perf_counter()
        gathered = gathering.result()
        values |= {"learn_s": learnt - started, "wait_s": time.perf_counter() - labelled}
        values |= {"collect_s": gathered.collect_s, "label_s": gathered.label_s + labelled - learnt}
        values |= self._keep(labels | gathered.labels, unlabelled.parts) | _summary(gathered.given, gathered.own)
        self.off.add(gathered.given)
        self.on.add(gathered.own)
        self.done += 1
        every = self.config.evaluate_every
        if self.evaluate and every and self.done % every == 0:
            self.figures = self.evaluate(self.average)
        torch.set_num_threads(threads)
        return values | {"frames": float(self.off.added + self.on.added)} | self.figures

    @property
    def after(self) -> int:
        """Rounds done since the first ones: in those, less than 0."""
        return self.done - self.config.first_rounds

    @property
    def must_save(self) -> bool:
        """Whether the last saved state could not be gone on from exactly after another round."""
        return any(memory.must_save(self.round_frames) for memory in (self.off, self.on))

    def _begin_gathering(self, unlabelled: Unlabelled) -> "Future[Gathered]":
        if self.pool is not None:
            return self.pool.submit(self._gather, unlabelled)
        now: Future[Gathered] = Future()
        now.set_result(self._gather(unlabelled))
        return now

    def _gather(self, unlabelled: Unlabelled) -> Gathered:
        """A round of episodes, then labels, unless the learner is done first and has made them."""
        started = time.perf_counter()
        given, own = self._collect() if self.config.collect else ([], [])
        collected = time.perf_counter()
        labels = self._label(unlabelled)
        return Gathered(given, own, labels, collected - started, time.perf_counter() - collected)

    def _collect(self) -> tuple[list[Episode], list[Episode]]:
        """A round of episodes: given ones, and the learner's own."""
        first = self.config.scripted_first, 1 - self.config.scripted_first
        shares = first if self.after < 0 else (self.config.scripted, self.guided(self.after))
        return self.workers.collector.collect(self.acting, Exploration(*shares), self.done)

    def _unlabelled(self) -> Unlabelled:
        """Samples for the next round's updates; none before the last of the first rounds."""
        then = self.after + 1
        parts = self._parts() if then >= 0 else []
        count = -(-self.config.updates // self.learner.config.reuse) if parts else 0
        ahead = self.config.far_steps if then < self.config.far_rounds else self.workers.updater.config.steps
        return Unlabelled(parts, ahead, enumerate(np.random.default_rng([self.seed, self.done, 1]).spawn(count)))

    def _label(self, unlabelled: Unlabelled) -> dict[int, Label]:
        """Labels of the samples that nobody else has taken."""
        taken = []

        def samples() -> Iterator[Sample]:
            for number, rng in unlabelled.rngs:
                taken.append(number)
                steps = [self.workers.updater.sample(*part, rng, unlabelled.ahead) for part in unlabelled.parts]
                yield _joined(steps), rng

        labels = self.workers.updater.label_all(self.acting, self.judging, samples())
        return dict(zip(taken, labels, strict=True))

    def _keep(self, labels: dict[int, Label], parts: list[tuple[FrameReplay, int]]) -> dict[str, float]:
        """Remember a round's labels, in the order of their samples. Returns which shares of them were clipped and came
        from the learner's own episodes."""
        if not labels:
            return {}
        rows, clipped = zip(*(labels[number] for number in sorted(labels)), strict=True)
        for batch in rows:
            self.labelled.add(**self._row(batch))
        own = sum(count for replay, count in parts if replay is self.on) / sum(count for _, count in parts)
        return {"clipped": float(np.mean(clipped)), "on_policy": own}

    def _parts(self) -> list[tuple[FrameReplay, int]]:
        """How many steps of a sample come from which memory: none from one that is empty."""
        batch = self.learner.config.batch
        share = self.on_share(max(self.after, 0)) if len(self.on) else 0.0
        on = round(batch * share)
        return [(replay, count) for replay, count in ((self.off, batch - on), (self.on, on)) if count and len(replay)]

    def _row(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Labelled steps as the memory of them holds them, with the update at which they were labelled."""
        seen = {f"seen_{name}": value for name, value in batch.pop("observation").items()}
        before = self.config.updates_in(self.done)
        return {**seen, **batch, "step": np.full(len(batch["target"]), before, np.float32)}

    def _learn(self) -> dict[str, float]:
        """A round's updates. Returns the means of what they measured."""
        if self.after < 0 or not self.config.updates:
            return {}
        if not len(self.labelled):
            raise Misuse("nothing was collected before the first update: give more first_rounds")
        return means([self._update() for _ in range(self.config.updates)])

    def _update(self) -> dict[str, float]:
        rows = self.labelled.sample(self.learner.config.batch, self.rng)
        age = self.learner.done - rows.pop("step").mean()
        batch: dict[str, Any] = {"action": rows.pop("action"), "target": rows.pop("target")}
        batch["observation"] = {name.removeprefix("seen_"): value for name, value in rows.items()}
        scale = cosine(self.after, max(self.config.later_rounds, 1))
        return self.learner.update(batch, scale, self.after < self.config.sight_rounds) | {"label_age": float(age)}

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


def _labelled(capacity: int, observation: Fields) -> Replay:
    """A memory of labelled steps."""
    scalar = ((), np.float32)
    fields = {f"seen_{name}": field for name, field in observation.items()}
    return Replay(capacity, fields | {"action": ((SIZE,), np.float32), "target": scalar, "step": scalar})


def _threads(members: int) -> int:
    """How many gather and learn: one gathers while one learns, and then the members of a network share what there are,
    as many as a product of matrices would take at most."""
    return 1 if members == 1 else min(1 + members, torch.get_num_threads())


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
