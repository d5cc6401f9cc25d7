"""Grasping runs that differ in nothing but their seeds: mean and spread of their success."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from handeye import compare
from handeye.grasp_findings import GraspRun
from handeye.metrics import spread
from handeye.page import Cell, Table

COLUMNS = ("runs", "objects", "seeds", "success % mean", "sd", "min", "max", "minutes")
NOTE = (
    "Runs that differ in their seeds alone: the mean over runs of the success above, its standard deviation, the least "
    "and the most; minutes are the mean."
)


def gathered(runs: list[GraspRun]) -> dict[str, list[GraspRun]]:
    """Runs by what they are of: one of each seed where they differ in seeds alone, any other run under its name."""
    alike: dict[str, dict[int, GraspRun]] = {}
    for run in runs:
        alike.setdefault(_kind(run), {}).setdefault(run.about["seed"], run)
    found: dict[str, list[GraspRun]] = {}
    for run in runs:
        seeds = list(alike[_kind(run)].values())
        found |= {label(run): seeds} if len(seeds) > 1 else {run.name: [run]}
    return found


def repeated(runs: list[GraspRun]) -> dict[str, list[GraspRun]]:
    """Those of `gathered` with several seeds."""
    return {name: seeds for name, seeds in gathered(runs).items() if len(seeds) > 1}


def label(run: GraspRun) -> str:
    """A run's experiment, with the options in which it differs from that."""
    return " ".join([run.experiment, *compare.changes(run.experiment, _settings(run))])


def _settings(run: GraspRun) -> dict:
    # Each seed of a finetuning starts from a checkpoint of its own.
    return json.loads(json.dumps(asdict(replace(run.config, start=""))))


def _kind(run: GraspRun) -> str:
    return json.dumps([run.experiment, _settings(run)], sort_keys=True)


def table(
    runs: list[GraspRun],
    success: Callable[[GraspRun, str], float],
    minutes: Callable[[GraspRun], float | None],
    words: dict[str, str],
) -> Table | None:
    """Success over seeds; None if no run is repeated. `success(run, objects)` is a rate, `words` name the objects."""
    rows: list[tuple[Cell, ...]] = []
    for name, seeds in repeated(runs).items():
        taken = [spent for spent in map(minutes, seeds) if spent is not None]
        for objects, word in words.items():
            found = spread([100 * success(run, objects) for run in seeds])
            rows.append((name, word, len(seeds), *found, float(np.mean(taken)) if taken else None))
    return Table("seeds", "Success over seeds", COLUMNS, rows, NOTE) if rows else None
