"""Learning curves of grasping runs: what their metrics say of success, values, labels and time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from handeye.grasp_config import CONTROL, member_stages, trainings
from handeye.grasp_findings import GraspRun
from handeye.plots import Curves
from handeye.qtopt.run_local import RunConfig, on_policy_share

Line = list[tuple[float, float]]
EFFORTS = ("minutes", "thousand episodes", "thousand updates")
UPDATES = EFFORTS[2]
SUCCESS = {"heldout": "held-out objects", "train": "training objects"}
COLLECTED = {"own": "own episodes, with noise", "given": "scripted and guided"}
SECONDS = {"collect_s": "collect", "label_s": "label", "learn_s": "learn", "wait_s": "learner waits"}
RATE: dict[str, Any] = {"limits": (-0.03, 1.03)}


def effort(run: GraspRun, row: dict[str, Any], unit: str) -> float:
    """How far the run had come when it wrote a row, in one of `EFFORTS`: earlier stages are counted in full."""
    if unit == "minutes":
        return row["time_s"] / 60
    counted = 0
    for stage, of in trainings(run.config).items():
        if stage == row["stage"]:
            return (counted + _count(of.run, row["step"], unit)) / 1000
        counted += _count(of.run, of.run.rounds, unit)
    raise ValueError(f"no stage of {run.name} is called {row['stage']!r}")


def _count(rounds: RunConfig, done: int, unit: str) -> int:
    """Updates or episodes of so many rounds."""
    if unit == UPDATES:
        return rounds.updates_in(done)
    return done * rounds.environments


def curve(run: GraspRun, key: str, unit: str) -> Line:
    """(effort, value) of every row that has a value of `key`."""
    return [(effort(run, row, unit), row[key]) for row in run.rows if row.get(key) is not None]


def evaluations(run: GraspRun, key: str, unit: str, member: int = 0) -> Line:
    """As `curve`, of figures that rows repeat until the next evaluation: each once, where it first stands.

    Of one member where each is trained by itself: the others begin from nothing again.
    """
    every, own = max(run.config.run.evaluate_every, 1), (CONTROL, member_stages(run.config)[member])
    told = [row for row in run.rows if row["stage"] in own and row.get(key) is not None]
    first = {(row["stage"], row["step"] // every): row for row in reversed(told)}
    return [(effort(run, row, unit), row[key]) for row in reversed(first.values())]


def panels(run: GraspRun) -> list[Curves]:
    """All that a run's metrics tell; panels of which they tell nothing are left out."""
    drawn = [Curves(f"Success by {unit}", "success", _success(run, unit), x=unit, **RATE) for unit in EFFORTS]
    known = [
        ("Losses", "loss", _lines(run, {"l_q": "cross-entropy of Q", "l_p": "$L_p$, positions"})),
        ("Values", "mean over a batch", _lines(run, {"q_mean": "Q", "target": "target"})),
        ("Clipped targets", "share", _lines(run, {"clipped": ""})),
        ("Age of labels", "updates", _lines(run, {"label_age": ""})),
    ]
    drawn += [Curves(*panel, x=UPDATES) for panel in known]
    drawn.append(Curves("On-policy samples", "share of the labels", _on_policy(run), x=UPDATES, **RATE))
    drawn.append(Curves("Time of a round", "seconds", _lines(run, SECONDS, "minutes"), x="minutes"))
    return [panel for panel in drawn if panel.lines]


def compared(runs: dict[str, list[GraspRun]]) -> list[Curves]:
    """Success on held-out objects, a line for each name: the mean of its runs."""
    return _held_out(lambda unit: {name: mean(_evaluated(own, unit)) for name, own in runs.items()})


def of_seeds(runs: list[GraspRun]) -> list[Curves]:
    """Success on held-out objects of each run, and their mean."""
    strong = f"mean of {len(runs)}"

    def lines(unit: str) -> dict[str, Line]:
        each = _evaluated(runs, unit)
        return {f"seed {run.about['seed']}": line for run, line in zip(runs, each, strict=True)} | {strong: mean(each)}

    return [replace(panel, strong=strong) for panel in _held_out(lines)]


def mean(lines: list[Line]) -> Line:
    """Point by point, as far as all go."""
    points = zip(*lines, strict=False)
    return [(float(np.mean([x for x, _ in own])), float(np.mean([y for _, y in own]))) for own in points]


def _evaluated(runs: list[GraspRun], unit: str) -> list[Line]:
    return [evaluations(run, "heldout", unit) for run in runs]


def _held_out(lines: Callable[[str], dict[str, Line]]) -> list[Curves]:
    drawn = [Curves("Held-out objects", "success", _told(lines(unit)), x=unit) for unit in EFFORTS]
    return [panel for panel in drawn if panel.lines]


def _success(run: GraspRun, unit: str) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    trained = len(member_stages(run.config))
    for member in range(trained):
        which = f", member {member + 1}" if trained > 1 else ""
        lines |= {name + which: evaluations(run, key, unit, member) for key, name in SUCCESS.items()}
    return _told(lines | {name: curve(run, f"{key}_success", unit) for key, name in COLLECTED.items()})


def _lines(run: GraspRun, keys: dict[str, str], unit: str = UPDATES) -> dict[str, Line]:
    return _told({name: curve(run, key, unit) for key, name in keys.items()})


def _on_policy(run: GraspRun) -> dict[str, Line]:
    """The share that was scheduled, and the one that was drawn."""
    plan: Line = []
    for stage, of in trainings(run.config).items():
        # A round is labelled before it is counted.
        late = [(row, row["step"] - 1 - of.run.first_rounds) for row in run.rows if row["stage"] == stage]
        scheduled = on_policy_share(of.run)
        plan += [(effort(run, row, UPDATES), scheduled(max(after, 0))) for row, after in late if after >= -1]
    return _told({"actual": curve(run, "on_policy", UPDATES), "scheduled": plan})


def _told(lines: dict[str, Line]) -> dict[str, Line]:
    """Those that have points."""
    return {name: line for name, line in lines.items() if line}
