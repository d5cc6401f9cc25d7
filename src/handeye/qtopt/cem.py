"""Maximisers of Q over mixed actions: the cross-entropy method, and uniform samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from handeye.errors import need, need_one_of
from handeye.qtopt import actions
from handeye.qtopt.actions import ActionBounds

Score = Callable[[Tensor], Tensor]
"""Values (N, S) of actions (N, S, 8): S of them for each of N states."""


@dataclass(frozen=True)
class MaximiserConfig:
    """How the best action is looked for. Raises ValueError for values that find none."""

    kind: Literal["cem", "uniform"] = "cem"
    samples: int = 64
    """Actions tried in each iteration."""
    elites: int = 6
    iterations: int = 2
    spread: float = 0.6
    """First standard deviation, as a share of the bounds."""
    least_spread: float = 0.02
    smoothing: float = 0.5
    """Added to the elites' count of each command, so that none dies out."""

    def __post_init__(self) -> None:
        need_one_of(self, "kind", ("cem", "uniform"))
        need(self, ("samples", "iterations"), 1, 100_000)
        need(self, ("elites",), 1, self.samples)
        need(self, ("spread", "least_spread"), 0, 10, above=True)
        need(self, ("smoothing",), 0, 100)


@dataclass
class Search:
    """Where actions of N states are drawn from: Gaussians of poses (N, 4), and odds of commands and stops."""

    mean: Tensor
    deviation: Tensor
    commands: Tensor
    stops: Tensor

    @classmethod
    def wide(cls, states: int, config: MaximiserConfig, bounds: ActionBounds, device: torch.device) -> "Search":
        """Where to begin."""
        mean = torch.zeros(states, actions.POSE, device=device)
        stops = torch.tensor([0.5, 0.5] if bounds.terminates else [1.0, 0.0], device=device).expand(states, 2)
        commands = torch.full((states, actions.COMMANDS), 1 / actions.COMMANDS, device=device)
        return cls(mean, torch.full_like(mean, config.spread), commands, stops)

    def draw(self, samples: int, generator: torch.Generator, alike: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Poses (N, S, 4) within the bounds, commands (N, S), stops (N, S); with `alike`, one noise for all states."""
        rows = 1 if alike else len(self.mean)
        noise = torch.randn((rows, samples, actions.POSE), generator=generator, device=self.mean.device)
        pose = (self.mean[:, None] + self.deviation[:, None] * noise).clamp(-1, 1)
        chance = torch.rand((2, rows, samples), generator=generator, device=self.mean.device)
        return pose, _categories(self.commands, chance[0]), _categories(self.stops, chance[1])

    def refit(self, pose: Tensor, command: Tensor, stop: Tensor, best: Tensor, config: MaximiserConfig) -> "Search":
        """About the elites `best` (N, M) of what was drawn."""
        elite = pose.gather(1, best[..., None].expand(-1, -1, actions.POSE))
        commands = _counts(command.gather(1, best), actions.COMMANDS) + config.smoothing
        stops = (_counts(stop.gather(1, best), 2) + config.smoothing) * (self.stops > 0)
        deviation = elite.std(1, correction=0).clamp_min(config.least_spread)
        return Search(
            elite.mean(1), deviation, commands / commands.sum(1, keepdim=True), stops / stops.sum(1, keepdim=True)
        )


def best_actions(
    score: Score,
    states: int,
    bounds: ActionBounds,
    config: MaximiserConfig,
    generator: torch.Generator,
    alike: bool = False,
) -> tuple[Tensor, Tensor]:
    """argmax_a Q(s, a) for N states at once: actions (N, 8) and their values (N,).

    `cem`: `iterations` times, `samples` actions are drawn and the search is refit to the `elites` best, a Gaussian for
    the pose and categories for command and stop; the best of all samples is returned. `uniform`: all samples at once,
    without refitting. With `alike` all states are searched with the same noise: what is found for one does not depend
    on how many others there are.
    """
    device = generator.device
    if config.kind == "uniform":
        return _best_of_uniform(score, states, bounds, config, generator, alike)
    search, found = Search.wide(states, config, bounds, device), []
    for _ in range(config.iterations):
        drawn = search.draw(config.samples, generator, alike)
        tried = actions.encode(*drawn, bounds)
        values = score(tried)
        top = values.topk(config.elites, dim=1)
        first = top.indices[:, :1]
        found.append((tried.gather(1, first[..., None].expand(-1, -1, actions.SIZE))[:, 0], top.values[:, 0]))
        search = search.refit(*drawn, top.indices, config)
    return _better(found)


def _best_of_uniform(
    score: Score, states: int, bounds: ActionBounds, config: MaximiserConfig, generator: torch.Generator, alike: bool
) -> tuple[Tensor, Tensor]:
    count, device = config.samples * config.iterations, generator.device
    size = (1 if alike else states), count
    pose = 2 * torch.rand((*size, actions.POSE), generator=generator, device=device) - 1
    command = torch.randint(actions.COMMANDS, size, generator=generator, device=device)
    stop = torch.randint(1 + bounds.terminates, size, generator=generator, device=device)
    tried = actions.encode(pose, command, stop, bounds).expand(states, -1, -1)
    values, first = score(tried).max(1)
    return tried[torch.arange(states, device=device), first], values


def _better(found: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    action, value = found[0]
    for other, theirs in found[1:]:
        action = torch.where((theirs > value)[:, None], other, action)
        value = torch.maximum(theirs, value)
    return action, value


def _categories(odds: Tensor, chance: Tensor) -> Tensor:
    """Categories (N, S) with odds (N, K), of uniform numbers (N or 1, S)."""
    return (chance[..., None] >= odds.cumsum(1)[:, None, :-1]).sum(-1)


def _counts(category: Tensor, kinds: int) -> Tensor:
    return torch.nn.functional.one_hot(category, kinds).sum(1).float()
