"""`handeye report` of grasping: runs → tables, figures and animations, and one page that shows them."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from handeye import grasp_curves, grasp_results, grasp_seeds, grasp_video, plots
from handeye.envs.objects import FAMILY_NAMES
from handeye.grasp_findings import (
    GRASPED,
    OBJECTS,
    Grasp,
    GraspFindings,
    GraspRun,
    Played,
    by_step,
    histograms,
    open_run,
    overestimation,
    realised,
)
from handeye.page import Cell, Output, Section, Table, heading, page, paragraph, show, side_by_side, write_text
from handeye.report import made_by

WORDS = {"heldout": "held-out", "train": "training"}
POLICIES = {"grasp:scripted": "scripted", "grasp:oracle": "oracle"}
PUBLISHED: list[tuple[Cell, ...]] = [
    ("QT-Opt: picture, fingers and height; −0.05 a step, γ 0.9", "Table 7", 75.0, 95.0),
    ("… no penalty", "Table 7", 68.0, 92.0),
    ("… no penalty, γ 0.7", "Table 7", 50.0, 90.0),
    ("… picture only", "Table 7", 25.0, 81.0),
    ("… learned termination", "Table 7", 67.0, 94.0),
    ("QT-Opt, 30 robots", "Table 8", None, 88.0),
    ("QT-Opt, 60 robots", "Table 8", None, 95.0),
    ("Levine et al., 60 robots", "Table 8", None, 55.0),
    ("Levine et al., 280 robots", "Table 8", None, 71.0),
    ("Levine et al., 1000 robots", "Table 8", None, 85.0),
]
"""The paper's success in simulation: after 300 k updates, and after 1 M or at last."""
PUBLISHED_NOTE = (
    "What differs: another simulation, with its own robot, tray and objects; a still camera over the shoulder at "
    "472×472 pixels; 60 robots that collect unless another number is given, and asynchronous updates of a network of "
    "1.2 million weights; 700 grasps a figure. It says what to expect, and measures nothing here."
)
SEVERAL = "several held"
COLUMNS = ("objects", "grasps", "success %", "95 % low", "95 % high", "steps", "return", SEVERAL, "minutes")
MOST_KINDS, FILMED_EACH = 5, 4
BINS = 15


@dataclass(frozen=True)
class Report:
    """A report in the making: where it is written and what is known."""

    out: Output
    runs: list[GraspRun]
    findings: GraspFindings

    @property
    def finished(self) -> list[GraspRun]:
        """The runs that have their network."""
        return [run for run in self.runs if run.learnt is not None]

    @property
    def subjects(self) -> list[GraspRun]:
        """The first finished run of each experiment: those shown in full."""
        return list({run.experiment: run for run in reversed(self.finished)}.values())[::-1]

    def both(self, run: GraspRun) -> list[Grasp]:
        """Its episodes with held-out and with training objects."""
        return [grasp for objects in OBJECTS for grasp in self.findings.of_run(run, objects).grasps]


def write_report(runs: list[str], out: Path, console: Console, grasps: int) -> Path:
    """Play what is not yet known of the runs, and write `out/index.html` with its tables, figures and animations.

    Args:
        runs: folders of runs, or checkpoints. An unfinished run adds its learning curves only.
        grasps: of held-out and of training objects each.

    Returns:
        The path of the page.

    Raises:
        Failure: something is not a run, a package is missing, or a file cannot be written.
    """
    plots.need_matplotlib()
    opened = [open_run(name) for name in dict.fromkeys(runs)]
    findings = GraspFindings([run for run in opened if run.learnt], out, grasps, console)
    report = Report(Output(out), opened, findings)
    title = f"handeye: {', '.join(dict.fromkeys(run.experiment for run in opened))}"
    target = out / "index.html"
    write_text(target, page(title, _lead(report), _sections(report)))
    return target


def _sections(report: Report) -> list[Section]:
    return [
        Section("Grasps", _results(report)),
        Section("Learning", _learning(report)),
        Section("What it expects", _values(report)),
        Section("What it commands", _commands(report)),
        Section("What failed", _each(report.subjects, lambda run: _failures(report, run))),
        Section("How it was made", _making(report)),
    ]


def _each(runs: list[GraspRun], write: Callable[[GraspRun], list[str]]) -> list[str]:
    """A section's parts for every run, under its name where there are several."""
    return [part for run in runs for part in [*([heading(run.name)] if len(runs) > 1 else []), *write(run)]]


def _lead(report: Report) -> list[str]:
    lines = [
        "Grasping from a bin by QT-Opt: Q(observation, action) is learnt off-policy and maximised over continuous "
        "actions. Held-out objects come from a split of shapes that no training sees; every policy grasps in the same "
        "scenes."
    ]
    for run in report.finished:
        found = {objects: report.findings.of_run(run, objects).figures for objects in OBJECTS}
        held, seen = found["heldout"], found["train"]
        lines.append(
            f"{run.name} ({run.experiment}): {100 * held['success']:.1f} % success on held-out objects (95 % interval "
            f"{100 * held['ci_low']:.1f} … {100 * held['ci_high']:.1f}) and {100 * seen['success']:.1f} % on training "
            f"objects, {report.findings.grasps} grasps each."
        )
    unfinished = [run.name for run in report.runs if run.learnt is None]
    if unfinished:
        lines.append(f"Not trained to the end, so only in curves: {', '.join(unfinished)}.")
    return lines


def _results(report: Report) -> list[str]:
    if not report.finished:
        return []
    findings, rows = report.findings, list[tuple[Cell, ...]]()
    for objects in OBJECTS:
        for run in report.finished:
            rows.append((run.name, *_row(objects, findings.of_run(run, objects), _minutes(run))))
        for policy, name in POLICIES.items():
            rows.append((name, *_row(objects, findings.of_world(policy, objects), None)))
    note = (
        "Intervals are Wilson's. several held: grasps that ended with more than one in the hand. minutes: of training, "
        "from nothing, evaluations during it included. scripted sees nothing, oracle sees the objects; both grasp in "
        "the same scenes, by the default rules."
    )
    columns = ("policy", "source", "after 300 k updates %", "after 1 M, or at last %")
    published = Table("published", "Success in the paper's simulation", columns, PUBLISHED, PUBLISHED_NOTE)
    seeds = grasp_seeds.table(
        report.finished, lambda run, objects: findings.of_run(run, objects).figures["success"], _minutes, WORDS
    )
    tables = Table("grasps", "Success", ("policy", *COLUMNS), rows, note), seeds, published
    return [report.out.table(table) for table in tables if table]


def _row(objects: str, played: Played, minutes: float | None) -> tuple[Cell, ...]:
    """Figures in the order of COLUMNS."""
    figures = played.figures
    percent = [100 * figures[name] for name in ("success", "ci_low", "ci_high")]
    means = figures["steps_mean"], figures["return_mean"], figures["multi_object"]
    return (WORDS[objects], len(played.grasps), *percent, *means, minutes)


def _minutes(run: GraspRun) -> float | None:
    return run.rows[-1]["time_s"] / 60 if run.rows else None


def _learning(report: Report) -> list[str]:
    drawn = [run for run in report.runs if run.rows]
    parts = _each(drawn, lambda run: [_own_curves(report, run)])
    for name, seeds in grasp_seeds.repeated(drawn).items():
        if panels := grasp_curves.of_seeds(seeds):
            caption = f"{name}: success in the evaluations during training, by seeds and their mean."
            parts.append(
                report.out.figure(f"{_stem(seeds[0])}-seeds", plots.learning_curves(panels, inside=4), caption)
            )
    shown = grasp_seeds.gathered(drawn)
    if len(shown) > 1 and (panels := grasp_curves.compared(shown)):
        caption = "All runs, with other seeds their mean: success in the evaluations during training."
        parts.append(report.out.figure("learning", plots.learning_curves(panels), caption))
    return parts or [paragraph("None of the runs brought its learning curves.")]


def _own_curves(report: Report, run: GraspRun) -> str:
    caption = (
        "Training: raw values faint, smoothed ones strong. Success on held-out and training objects is that of the "
        "greedy policy on scenes other than those of the table; own episodes explore. Targets outside 0 … 1 are "
        "clipped. Collecting and labelling share a core, learning has the other. Where control is trained on true "
        "positions first, curves begin with that."
    )
    return report.out.figure(
        f"{_stem(run)}-learning", plots.learning_curves(grasp_curves.panels(run), inside=4), caption
    )


def _stem(run: GraspRun) -> str:
    """What a run's files are called after."""
    return f"{run.experiment}-{Path(run.name).stem}".removesuffix(f"-{run.experiment}")


def _values(report: Report) -> list[str]:
    if not report.finished:
        return []
    rows: list[tuple[Cell, ...]] = []
    for run in report.finished:
        for objects in OBJECTS:
            grasps = report.findings.of_run(run, objects).grasps
            found = overestimation(grasps, run.config.labels)
            rows.append((run.name, WORDS[objects], sum(len(grasp.q) for grasp in grasps), *found.values()))
    columns = ("policy", "objects", "steps", *OVERESTIMATION)
    table = report.out.table(Table("values", "Over-estimation", columns, rows, VALUES_NOTE))
    return [*_each(report.subjects, lambda run: [_value_plot(report, run)]), table]


def _value_plot(report: Report, run: GraspRun) -> str:
    panels = []
    for objects in OBJECTS:
        grasps = report.findings.of_run(run, objects).grasps
        over = show(overestimation(grasps, run.config.labels)["difference"])
        lines = {
            "predicted Q": by_step([grasp.q for grasp in grasps]),
            "realised return": by_step([realised(grasp.reward, run.config.labels) for grasp in grasps]),
        }
        panels.append(plots.Steps(f"{WORDS[objects]} objects: Q − return = {over}", lines))
    return report.out.figure(f"{_stem(run)}-values", plots.step_plots(panels, "value"), VALUES_CAPTION)


OVERESTIMATION = ("Q", "return", "Q − return", "… cut at 0", "… first steps", "… of successes", "… of failures")
VALUES_CAPTION = (
    "Predicted Q of the actions taken beside the discounted return that followed, by the step of the episode: means, "
    "and bands from the first to the third quartile. After the time limit nothing more is earned. Bars: episodes that "
    "came so far."
)
VALUES_NOTE = (
    "Means over all steps of the episodes of the table above. A return goes below 0 where a grasp fails; labels, and "
    "with them Q, are cut at 0, hence also the difference from returns cut so. Each action is the best of those "
    "that were tried, by the same Q."
)


def _commands(report: Report) -> list[str]:
    if not report.finished:
        return []
    high = 100 * max(run.config.env.move_m for run in report.finished)
    sources = {
        name: [grasp.z_m for objects in OBJECTS for grasp in report.findings.of_world(policy, objects).grasps]
        for policy, name in POLICIES.items()
    }
    sources |= {_stem(run): [grasp.z_m for grasp in report.both(run)] for run in report.subjects}
    panels = []
    for name, series in sources.items():
        shares, means = histograms([[100 * z for z in one] for one in series], -high, high, BINS)
        panels.append(plots.Shares(name, shares, means, -high, high))
    caption = (
        "Commanded displacement of the gripper along z, upwards positive, by the step of the episode (as the paper's "
        "Fig. 11): a histogram for each step, dots are means. The scripted policy goes down first and up later."
    )
    return [report.out.figure("commands", plots.share_plots(panels, "commanded z [cm]"), caption)]


def _failures(report: Report, run: GraspRun) -> list[str]:
    played = {objects: report.findings.of_run(run, objects).grasps for objects in OBJECTS}
    tables = ending_table(f"{_stem(run)}-endings", played), shape_table(f"{_stem(run)}-shapes", played)
    return [*map(report.out.table, tables), side_by_side(_films(report, run, played))]


def ending_table(name: str, played: dict[str, list[Grasp]]) -> Table:
    """How many grasps of each kind of objects ended how."""
    kinds = failures(_all(played))
    rows: list[tuple[Cell, ...]] = [(WORDS[o], len(own), *_endings(own, kinds)) for o, own in played.items()]
    note = (
        "missed: no object was between both fingers; two objects: each finger pressed another; slipped: one rose and "
        "was lost; not lifted, timed out: one was "
        "held and did not rise enough, in the second case until the last step; wedged: what would count as lifted "
        "touched tray or table; jammed: the gripper was stopped on its way. several held, of all grasps: more than one "
        "was in the hand at the end."
    )
    return Table(name, "How grasps ended", ("objects", "grasps", GRASPED, *kinds, SEVERAL), rows, note)


def shape_table(name: str, played: dict[str, list[Grasp]]) -> Table:
    """Success with each family of shapes, and what its grasps failed of, with both kinds of objects together."""
    kinds, rows = failures(_all(played)), list[tuple[Cell, ...]]()
    for family in FAMILY_NAMES:
        own = {objects: [grasp for grasp in grasps if grasp.family == family] for objects, grasps in played.items()}
        together = _all(own)
        if together:
            rates = [x for objects in OBJECTS for x in (len(own[objects]), _percent(own[objects]))]
            rows.append((family, *rates, *_endings(together, kinds)))
    rates_of = [f"{WORDS[objects]}{what}" for objects in OBJECTS for what in ("", " %")]
    note = (
        "Grasps and success with held-out and with training objects, and how both ended. The shape is that of the "
        "object that both fingers pressed last, or that was nearest until they closed."
    )
    return Table(name, "By shape", ("shape", *rates_of, GRASPED, *kinds, SEVERAL), rows, note)


def _all(played: dict[str, list[Grasp]]) -> list[Grasp]:
    return [grasp for grasps in played.values() for grasp in grasps]


def _percent(grasps: list[Grasp]) -> float | None:
    return 100 * sum(grasp.ending == GRASPED for grasp in grasps) / len(grasps) if grasps else None


def _endings(grasps: list[Grasp], kinds: list[str]) -> list[int]:
    """How many were grasped, failed of each kind, and held two objects."""
    endings = Counter(grasp.ending for grasp in grasps)
    return [endings[GRASPED], *(endings[kind] for kind in kinds), sum(grasp.held > 1 for grasp in grasps)]


def failures(grasps: Iterable[Grasp]) -> list[str]:
    """What grasps failed of, the most frequent first."""
    return [kind for kind, _ in Counter(grasp.ending for grasp in grasps).most_common() if kind != GRASPED]


def chosen(played: dict[str, list[Grasp]]) -> dict[str, tuple[str, list[int]]]:
    """Which seeds to film, and with which objects, of every kind of ending: held-out objects if it is among them."""

    def of_kind(grasp: Grasp, kind: str) -> bool:
        return grasp.held > 1 if kind == SEVERAL else grasp.ending == kind

    kinds = failures(_all(played))[:MOST_KINDS]
    films = {}
    for kind in (*kinds, SEVERAL, GRASPED):
        found = {o: [grasp.seed for grasp in grasps if of_kind(grasp, kind)] for o, grasps in played.items()}
        objects = next((objects for objects, seeds in found.items() if seeds), None)
        if objects is not None:
            films[kind] = objects, found[objects][:FILMED_EACH]
    return films


def _films(report: Report, run: GraspRun, played: dict[str, list[Grasp]]) -> list[str]:
    parts = []
    for kind, (objects, seeds) in chosen(played).items():
        report.findings.console.print(f"{run.name}: filming {kind} …", markup=False, soft_wrap=True)
        frames = grasp_video.film(run.name, grasp_results.evaluated(run.name, objects), seeds, kind)
        caption = f"{kind}: the first with {WORDS[objects]} objects."
        name = f"{_stem(run)}-{kind.replace(' ', '-')}"
        parts.append(report.out.film(name, frames, caption, grasp_video.FRAME_MS))
    return parts


def _making(report: Report) -> list[str]:
    parts = [part for run in report.runs for part in made_by(run.name, run.about)]
    options = f" --grasps {report.findings.grasps}"
    return [*parts, paragraph("This page: handeye report " + " ".join(run.name for run in report.runs) + options)]
