"""Runs beside each other: what tells them apart, repetitions, and sweeps of one setting."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from handeye import experiments
from handeye.errors import Misuse
from handeye.evaluate import reach_figures
from handeye.findings import Findings, Run
from handeye.metrics import spread
from handeye.nn import weights_digest
from handeye.page import Cell, Table

_SEEN = ("networks", "conv1", "near", "sim", "real", "camera", "turn", "move", "still", "adapted")
_ACTED = ("networks", "env", "taught", "guide", "control")
STAGE_SETTINGS = {
    "sim": ("networks", "conv1", "near", "sim"),
    "adapted": _SEEN,
    "control": _ACTED,
    "finetuned": (*_SEEN, *_ACTED, "finetuned"),
    "naive": (*_SEEN, *_ACTED, "naive"),
}
"""Beginnings of the settings that decide what a stage trains."""
MOST_DIFFERENCES = 3
"""Settings in a label; a run that differs in more is called by its folder."""


def flat(config: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Settings by dotted name."""
    settings: dict[str, Any] = {}
    for name, value in config.items():
        below = isinstance(value, dict)
        settings |= flat(value, f"{path}{name}.") if below else {f"{path}{name}": value}
    return settings


def labels(runs: list[Run], stage: str | None = None) -> list[str]:
    """Names that tell runs apart by the settings in which they differ; only those of `stage`, if one is given.

    Where several settings differ, a run is named by its differences from the first of its experiment.
    """
    several = len({run.experiment for run in runs}) > 1
    return [
        _label(run, [other for other in runs if other.experiment == run.experiment], stage, several) for run in runs
    ]


def _label(run: Run, siblings: list[Run], stage: str | None, named: bool) -> str:
    known = [_settings(sibling, stage) for sibling in siblings]
    own = known[siblings.index(run)]
    against = known if len(_differing(known)) == 1 else [known[0], own]
    differs = [f"{name.removeprefix(f'{stage}.')}={own[name]}" for name in _differing(against)]
    twin = sum(settings == own for settings in known) > 1
    if len(differs) > MOST_DIFFERENCES or twin:
        differs = [run.name]
    return ", ".join([run.experiment, *differs] if named or not differs else differs)


def _differing(known: list[dict[str, Any]]) -> list[str]:
    """The settings that are not the same in all."""
    return [name for name in known[0] if len({repr(settings.get(name)) for settings in known}) > 1]


def _settings(run: Run, stage: str | None) -> dict[str, Any]:
    settings = flat(run.about["config"])
    if stage is not None:
        settings = {name: value for name, value in settings.items() if name.startswith(STAGE_SETTINGS[stage])}
    return settings | {"seed": run.about["seed"]}


def distinct(runs: list[Run], stage: str) -> list[Run]:
    """One run of each training of `stage`: runs with the same settings trained the same."""
    return list({json.dumps([run.experiment, _settings(run, stage)]): run for run in reversed(runs)}.values())[::-1]


def variants(runs: list[Run], vary: tuple[str, ...]) -> list[list[Run]]:
    """Groups of runs that differ in nothing but settings whose names begin with one of `vary`, and seeds."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        settings = flat(run.about["config"])
        seeds = ("finetuned.seed", "naive.seed")
        kept = {name: value for name, value in settings.items() if not name.startswith((*vary, *seeds))}
        groups.setdefault(json.dumps([run.experiment, kept], sort_keys=True), []).append(run)
    return list(groups.values())


def changes(experiment: str, settings: dict[str, Any]) -> list[str]:
    """Options of `handeye train` that turn the named experiment into a run's configuration, `settings`."""
    try:
        config = experiments.find(experiment).config
    except Misuse:
        return []
    named = flat(json.loads(json.dumps(dataclasses.asdict(config))))
    own = flat(settings)
    return [_option(name, value) for name, value in own.items() if named.get(name) != value]


def _option(name: str, value: Any) -> str:
    part, _, last = name.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        last, value = (last if value else f"no-{last}"), ""
    value = " ".join(map(str, value)) if isinstance(value, list) else value
    return f"--{part + '.' if part else ''}{last} {value}".strip()


@dataclass(frozen=True)
class Sweep:
    """One setting at several values: figures (by column) of every network trained at each value.

    `beside` holds those of networks to compare them with, by name.
    """

    name: str
    title: str
    setting: str
    points: dict[float, list[dict[str, float]]]
    beside: dict[str, list[dict[str, float]]] = dataclasses.field(default_factory=dict)

    def curve(self, column: str) -> tuple[list[float], list[list[float]]]:
        """Values at which `column` is known, and its figures there."""
        known = {x: [row[column] for row in rows if column in row] for x, rows in sorted(self.points.items())}
        return [x for x in known if known[x]], [rows for rows in known.values() if rows]

    def table(self) -> Table:
        """Means over the networks at each value."""
        columns = list(dict.fromkeys(name for rows in self.points.values() for row in rows for name in row))
        rows: list[tuple[Cell, ...]] = []
        lines: list[tuple[Cell, list[dict[str, float]]]] = [*sorted(self.points.items()), *self.beside.items()]
        for x, found in lines:
            means = [
                np.mean([row[c] for row in found if c in row]) if any(c in r for r in found) else None for c in columns
            ]
            rows.append((x, len(found), *(None if mean is None else float(mean) for mean in means)))
        return Table(self.name, self.title, (self.setting, "networks", *columns), rows)


def net_figures(findings: Findings, run: Run, net: str, acts: bool = True) -> dict[str, float]:
    """What sweeps show of a net, in both domains; `acts` false: its perception alone, which is quick."""
    figures: dict[str, float] = {}
    for domain in ("sim", "camera"):
        if acts:
            ended = reach_figures(findings.trials(run, net, domain))
            figures[f"{domain} d_med cm"] = ended["d_med_cm"]
            figures[f"{domain} success %"] = 100 * ended["success"]
            figures[f"{domain} return"] = ended["mean_return"]
        figures[f"{domain} perception px"] = findings.sight(run, net, domain)["relative_med_px"]
    return figures


def beta_sweeps(findings: Findings, runs: list[Run]) -> list[Sweep]:
    """Fine-tuned networks by β; the naive ones are β = 0 where nothing else is different."""
    sweeps = []
    for group in _swept(variants([run for run in runs if run.has("finetuned")], ("finetuned.beta", "naive"))):
        points = _Points(findings)
        for run in group:
            tuned, naive = run.about["config"]["finetuned"], run.about["config"]["naive"]
            points.add(tuned["beta"], run, "finetuned")
            if run.has("naive") and {**naive, "beta": 0, "seed": 0} == {**tuned, "beta": 0, "seed": 0}:
                points.add(naive["beta"], run, "naive")
        sweeps.append(Sweep("beta", f"β of fine-tuning, {group[0].experiment}", "β", points.found))
    return _several(sweeps)


def share_sweeps(findings: Findings, runs: list[Run]) -> list[Sweep]:
    """Initial networks by the camera's share in adaptation; SIM, before adaptation, is share 0 by its sight alone.

    Beside them RW: those whose perception never saw the simulator.
    """
    runs = [run for run in runs if run.has("sim_only", "initial")]
    alone = [run for run in runs if all(run.about["config"][k]["camera_share"] == 1 for k in ("sim", "adapted"))]
    mixed = [run for run in runs if run not in alone]
    sweeps = []
    for group in _swept(variants(mixed, ("adapted.camera_share", "finetuned", "naive"))):
        points = _Points(findings)
        for run in group:
            points.add(run.about["config"]["adapted"]["camera_share"], run, "initial")
        if 0.0 not in points.found:
            points.add(0.0, group[0], "sim_only", acts=False)
        title = f"Share of camera pictures in adaptation, {group[0].experiment}"
        unsimulated = _Points(findings)
        for run in alone:
            if run.experiment == group[0].experiment:
                unsimulated.add(1.0, run, "initial")
        beside = {"RW: camera pictures alone": unsimulated.found[1.0]} if unsimulated.found else {}
        sweeps.append(Sweep("camera-share", title, "share of camera pictures", points.found, beside))
    return _several(sweeps)


def _swept(groups: list[list[Run]]) -> list[list[Run]]:
    """The groups of several runs; all, if there is none: even one run holds two values."""
    return [group for group in groups if len(group) > 1] or groups


def _several(sweeps: list[Sweep]) -> list[Sweep]:
    """Those with more than one value, with names of their own."""
    full = [sweep for sweep in sweeps if len(sweep.points) > 1]
    if len(full) == 1:
        return full
    return [dataclasses.replace(sweep, name=f"{sweep.name}-{i}") for i, sweep in enumerate(full, start=1)]


class _Points:
    """Figures by value, each network once although several runs may hold it."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.found: dict[float, list[dict[str, float]]] = {}
        self.seen: set[tuple[float, str]] = set()

    def add(self, value: float, run: Run, net: str, acts: bool = True) -> None:
        key = (float(value), weights_digest(*run.pair(net)))
        if key not in self.seen:
            self.seen.add(key)
            self.found.setdefault(key[0], []).append(net_figures(self.findings, run, net, acts))


SEED_FIGURES: tuple[tuple[str, Callable[[dict[str, Any]], float]], ...] = (
    ("d_med cm", lambda figures: figures["d_med_cm"]),
    ("d_Q3 cm", lambda figures: figures["d_q3_cm"]),
    ("mean return", lambda figures: figures["mean_return"]),
    ("success %", lambda figures: 100 * figures["success"]),
)


def seeds_table(findings: Findings, runs: list[Run]) -> Table | None:
    """Mean and spread of runs that differ in seeds alone; None if there are none."""
    rows: list[tuple[Cell, ...]] = []
    repeated = [group for group in variants(runs, ("naive",)) if len(group) > 1]
    for group, label in zip(repeated, labels([group[0] for group in repeated]), strict=True):
        for net in ("initial", "naive", "finetuned", "control"):
            for alike in variants(group, ()) if net == "naive" else [group]:
                own = {weights_digest(*run.pair(net)): run for run in alike}
                if len(own) > 1:
                    rows += _seeds_rows(findings, label, net, list(own.values()))
    columns = ("runs", "net", "domain", "figure", "networks", "mean", "sd", "min", "max")
    note = "Only networks that are not the same in all runs. sd: standard deviation over networks."
    return Table("seeds", "Repetitions with other seeds", columns, rows, note) if rows else None


def _seeds_rows(findings: Findings, label: str, net: str, runs: list[Run]) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for domain in ("sim",) if net == "control" else ("sim", "camera"):
        found = [reach_figures(findings.trials(run, net, domain)) for run in runs]
        rows += [(label, net, domain, *_spread(name, [get(f) for f in found])) for name, get in SEED_FIGURES]
    return rows


def _spread(name: str, values: list[float]) -> tuple[Cell, ...]:
    return name, len(values), *spread(values)


def runs_table(findings: Findings, runs: list[Run]) -> Table:
    """Every finished run in a line."""
    rows: list[tuple[Cell, ...]] = []
    for run, label in zip(runs, labels(runs), strict=True):
        sim, camera, before = (
            reach_figures(findings.trials(run, net, domain))
            for net, domain in (("finetuned", "sim"), ("finetuned", "camera"), ("initial", "sim"))
        )
        figures = [before["d_med_cm"], sim["d_med_cm"], sim["mean_return"], 100 * sim["success"]]
        rows.append((label, run.name, *figures, camera["d_med_cm"], 100 * camera["success"]))
    columns = ("what", "run", "Initial d_med cm", "Fine-tuned d_med cm", "return", "success %", "camera d_med cm")
    return Table("runs", "All runs: Fine-tuned", (*columns, "camera success %"), rows)
