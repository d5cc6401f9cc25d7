"""`handeye report`: runs → tables, figures and videos, and one page that shows them and needs nothing else."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from handeye import compare, plots, reach, reach_results, reach_video
from handeye.evaluate import distance_figures, reach_figures
from handeye.findings import DOMAINS, Findings, Protocol, Run, open_run
from handeye.page import Cell, Output, Section, Table, folded, heading, page, paragraph, show, write_text

NAMES = {"initial": "Initial", "naive": "naive", "finetuned": "Fine-tuned", "control": "CR"}
PLACES = {"sim": "simulation", "camera": "synthetic camera domain"}
PUBLISHED: dict[str, dict[str, float]] = {
    "initial": {"d_med_cm": 4.598, "d_med_px": 1.929, "d_q3_cm": 6.150, "d_q3_px": 2.581, "mean_return": 0.319},
    "finetuned": {"d_med_cm": 3.568, "d_med_px": 1.497, "d_q3_cm": 4.813, "d_q3_px": 2.020, "mean_return": 0.626},
    "control": {"d_med_cm": 3.449, "d_med_px": 1.447, "d_q3_cm": 4.330, "d_q3_px": 1.817, "mean_return": 0.761},
}
"""The paper's Table 1."""
COLUMNS = {
    "d_med_cm": "d_med cm", "d_med_px": "d_med px", "d_q3_cm": "d_Q3 cm", "d_q3_px": "d_Q3 px",
    "mean_return": "mean return", "closest_med_cm": "closest cm", "success": "success %",
    "success_low": "95 % low", "success_high": "95 % high", "steps_mean": "steps",
}  # fmt: skip
FILMED = (("initial", "sim"), ("finetuned", "sim"), ("finetuned", "camera"))


@dataclass(frozen=True)
class Report:
    """A report in the making: where it is written and what is known."""

    out: Output
    runs: list[Run]
    findings: Findings

    @property
    def finished(self) -> list[Run]:
        """The runs that have all networks."""
        return [run for run in self.runs if run.has(*NAMES)]

    @property
    def subjects(self) -> list[Run]:
        """The first finished run of each experiment: those shown in full."""
        return list({run.experiment: run for run in reversed(self.finished)}.values())[::-1]


def write_report(runs: list[str], out: Path, console: Console, protocol: Protocol | None = None) -> Path:
    """Measure what is not yet known of the runs, and write `out/index.html` with its tables, figures and videos.

    Args:
        runs: folders of runs, or names of shipped checkpoints. An unfinished run adds its learning curves only.
        protocol: how much to measure; by default the paper's 400 trials.

    Returns:
        The path of the page.

    Raises:
        Failure: something is not a run, a package is missing, or a file cannot be written.
    """
    plots.need_matplotlib()
    opened = [open_run(name) for name in dict.fromkeys(runs)]
    findings = Findings([run for run in opened if run.nets], out, protocol or Protocol(), console)
    report = Report(Output(out), opened, findings)
    title = f"handeye: {', '.join(dict.fromkeys(run.experiment for run in opened))}"
    target = out / "index.html"
    write_text(target, page(title, _lead(report), _sections(report)))
    return target


def _sections(report: Report) -> list[Section]:
    fill: list[tuple[str, Callable[[Report, Run], list[str]]]] = [
        ("Table 1", _results),
        ("Final distances", _distances),
        ("Trials", _videos),
        ("Perception", _perception),
    ]
    sections = [Section(title, _each(report, write)) for title, write in fill]
    sections.insert(3, Section("Learning", _learning(report)))
    return [*sections, Section("Runs compared", _comparisons(report)), Section("How it was made", _making(report))]


def _each(report: Report, write: Callable[[Report, Run], list[str]]) -> list[str]:
    """A section's parts for every subject, under its name where there are several."""
    several = len(report.subjects) > 1
    return [
        part
        for run in report.subjects
        for part in [*([heading(run.experiment)] if several else []), *write(report, run)]
    ]


def _lead(report: Report) -> list[str]:
    lines = [
        "Planar reaching from pictures, with modular networks: perception finds target and joints, control acts on "
        "them, and both are fine-tuned end to end with weighted losses. Distances are those at the end of a trial; "
        "all networks run the same trials. The camera domain is synthetic: a second renderer in place of a real camera."
    ]
    for run in report.subjects:
        ended = reach_figures(report.findings.trials(run, "finetuned", "sim"))
        lines.append(
            f"{run.experiment}: the fine-tuned network ends {ended['d_med_cm']:.2f} cm from the target in the median, "
            f"with a mean return of {show(ended['mean_return'])} and {100 * ended['success']:.1f} % success "
            f"over {report.findings.protocol.trials} trials (the paper: 3.57 cm, 0.626)."
        )
    unfinished = [run.name for run in report.runs if run not in report.finished]
    if unfinished:
        lines.append(f"Not trained to the end, so only in curves and sweeps: {', '.join(unfinished)}.")
    return lines


def _results(report: Report, run: Run) -> list[str]:
    figures = {net: reach_figures(report.findings.trials(run, net, "sim")) for net in NAMES}
    floor = distance_figures(report.findings.floor(run))
    count = report.findings.protocol.trials
    rows: list[tuple[Cell, ...]] = []
    for net, name in NAMES.items():
        rows.append((name, "ours", *_row(figures[net])))
        rows += [(name, "paper", *_row(PUBLISHED[net]))] if net in PUBLISHED else []
    rows.append(("floor", "ours", *_row(floor)))
    columns = ("net", "source", *COLUMNS.values())
    note = (
        "CR is control given the true state: the limit that the paper names. floor: the least final distance that any "
        "policy could reach under the same rules. The interval is Wilson's. closest: median of "
        "each trial's least distance."
    )
    table = Table(f"{run.experiment}-table1", f"{count} trials in simulation", columns, rows, note)
    return [
        report.out.table(table),
        report.out.table(_claims(run, figures)),
        report.out.table(_camera_table(report, run)),
    ]


def _row(figures: dict[str, Any]) -> tuple[Cell, ...]:
    """Figures in the order of COLUMNS, rates as percentages; None where there is none."""
    percent = dict.fromkeys(("success", "success_low", "success_high"), 100.0)
    return tuple(figures[name] * percent.get(name, 1.0) if name in figures else None for name in COLUMNS)


def _claims(run: Run, figures: dict[str, dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (claim, ours, paper) for (claim, ours), (_, paper) in zip(_derived(figures), _derived(PUBLISHED), strict=True)
    ]
    return Table(f"{run.experiment}-claims", "What the paper claims", ("claim", "ours", "paper"), rows)


def _derived(figures: dict[str, dict[str, Any]]) -> list[tuple[str, Cell]]:
    initial, tuned, control = (figures[net] for net in ("initial", "finetuned", "control"))
    return [
        ("d_med: Fine-tuned smaller than Initial by, %", 100 * (1 - tuned["d_med_cm"] / initial["d_med_cm"])),
        ("mean return: Fine-tuned larger than Initial by, %", _larger(tuned["mean_return"], initial["mean_return"])),
        ("d_med: Fine-tuned above CR by, cm", tuned["d_med_cm"] - control["d_med_cm"]),
        ("mean return: Fine-tuned below CR by", control["mean_return"] - tuned["mean_return"]),
    ]


def _larger(value: float, than: float) -> float | None:
    """By how many per cent; nothing where the smaller one is not positive."""
    return 100 * (value / than - 1) if than > 0 else None


def _camera_table(report: Report, run: Run) -> Table:
    few = report.findings.protocol.few
    rows: list[tuple[Cell, ...]] = []
    for net, name in {"sim_only": "SIM-only", **NAMES}.items():
        for short in (True,) if net == "sim_only" else (False, True):
            trials = report.findings.trials(run, net, "camera", few=short)
            rows.append((name, len(trials.final_m), *_row(reach_figures(trials))))
    note = (
        f"The first {few} are as many as the paper ran on its robot. SIM-only: perception before it was adapted, with "
        "CR. CR sees no pictures, so that its trials are those in simulation."
    )
    columns = ("net", "trials", *COLUMNS.values())
    # Of no more trials than the robot's, both rows are the same.
    rows = list(dict.fromkeys(rows))
    return Table(f"{run.experiment}-camera", "Trials in the synthetic camera domain", columns, rows, note)


def _distances(report: Report, run: Run) -> list[str]:
    findings = report.findings
    sim = {name: 100 * findings.trials(run, net, "sim").final_m for net, name in NAMES.items()}
    camera = {name: 100 * findings.trials(run, net, "camera").final_m for net, name in NAMES.items()}
    nets = {"sim_only": "SIM-only", **NAMES}
    few = {name: 100 * findings.trials(run, net, "camera", few=True).final_m for net, name in nets.items()}
    published = {NAMES[net]: figures["d_med_cm"] for net, figures in PUBLISHED.items()}
    panels = [
        plots.Boxes(f"simulation, {findings.protocol.trials} trials", sim, published),
        plots.Boxes(f"camera domain, {findings.protocol.camera_trials} trials", camera, {}),
        plots.Boxes(f"camera domain, first {findings.protocol.few}", few, {}),
    ]
    caption = (
        "Final distance of each network (as the paper's Fig. 3, on a logarithmic axis): medians, crosses are outliers."
    )
    return [report.out.figure(f"{run.experiment}-final-distance", plots.box_plots(panels), caption)]


def _videos(report: Report, run: Run) -> list[str]:
    assert run.nets is not None
    trials = reach_results.choose_trials(report.findings.protocol.filmed, None)
    parts = []
    for net, domain in FILMED:
        report.findings.console.print(f"{run.name}: filming {net} in {domain} …", markup=False, soft_wrap=True)
        frames = reach_video.film(reach_video.actor_of(run.nets, net), trials, domain)
        caption = f"{NAMES[net]} in the {PLACES[domain]}: the first trials of the protocol."
        parts.append(report.out.film(f"{run.experiment}-{net}-{domain}", frames, caption))
    return parts


def _learning(report: Report) -> list[str]:
    sight = {"sim": "SIM", "adapted": "adapted"}
    tuning = {"finetuned": "fine-tuned", "naive": "naive"}
    acting = {"control": ""}
    success: dict[str, Any] = {"unit": "success of recent trials", "key": "success", "limits": (-0.03, 1.03)}
    panels = [
        _panel(report.runs, acting, title="Control: success", **success),
        _panel(report.runs, acting, title="Control: return", unit="return of recent trials", key="return"),
        _panel(report.runs, sight, title="Perception", unit="training loss", key="loss", log=True),
        _panel(report.runs, tuning, title="Fine-tuning: perception loss", unit="$L_p$", key="l_p", log=True),
        _panel(report.runs, tuning, title="Fine-tuning: task loss", unit="$L_q$", key="l_q", log=True),
        _panel(report.runs, tuning, title="Fine-tuning: success", **success),
    ]
    drawn = [panel for panel in panels if panel.lines]
    if not drawn:
        return [paragraph("None of the runs brought its own learning curves.")]
    caption = (
        "Training: raw values faint, smoothed ones strong. Trials in training explore, so that they do worse than the "
        "tables. A stage taken over from another run has its curve there."
    )
    return [report.out.figure("learning", plots.learning_curves(drawn), caption)]


def _panel(runs: list[Run], stages: dict[str, str], key: str, **panel: Any) -> plots.Curves:
    """A panel of learning curves: a line for every run and stage that has values of `key`."""
    lines = {}
    for stage, word in stages.items():
        own = compare.distinct([run for run in runs if _values(run, stage, key)], stage)
        for run, label in zip(own, compare.labels(own, stage), strict=True):
            name = ", ".join(part for part in (word, label if len(own) > 1 or not word else "") if part)
            lines[name] = _values(run, stage, key)
    return plots.Curves(lines=lines, **panel)


def _values(run: Run, stage: str, key: str) -> list[tuple[float, float]]:
    """(step, value) of every row of `stage` that has a value of `key`."""
    rows = [row for row in run.rows if row["stage"] == stage and row.get(key) is not None]
    return [(row["step"], row[key]) for row in rows]


def _perception(report: Report, run: Run) -> list[str]:
    nets = {"sim_only": "SIM-only", "initial": "adapted (Initial)", "naive": "naive", "finetuned": "Fine-tuned"}
    figures = {(net, domain): report.findings.sight(run, net, domain) for net in nets for domain in DOMAINS}
    columns = tuple(f"{what} {name} px" for what in ("target", "hand", "relative") for name in ("med", "Q3"))
    rows: list[tuple[Cell, ...]] = [
        (nets[net], domain, *(found[column.lower().replace(" ", "_")] for column in columns))
        for (net, domain), found in figures.items()
    ]
    note = (
        "Median and third quartile. hand: where the joints that it believes in put the hand. relative: the hand as "
        "seen from the target."
    )
    title = f"Errors of perception on {reach.HELD_OUT} held-out pictures"
    parts = [report.out.table(Table(f"{run.experiment}-perception", title, ("net", "domain", *columns), rows, note))]
    shown = {"sim_only": "SIM-only", "initial": "adapted", "finetuned": "Fine-tuned"}
    for domain in DOMAINS:
        maps = {name: report.findings.error_maps(run, net, domain) for net, name in shown.items()}
        caption = (
            f"Where perception errs, {PLACES[domain]}: median error by the place of the target (above) or of the hand "
            "(below); in brackets the median over the cells."
        )
        parts.append(report.out.figure(f"{run.experiment}-error-map-{domain}", plots.error_maps(maps), caption))
    return parts


def _comparisons(report: Report) -> list[str]:
    findings, runs = report.findings, report.finished
    if not runs:
        return []
    parts = [report.out.table(compare.runs_table(findings, runs))] if len(runs) > 1 else []
    seeds = compare.seeds_table(findings, runs)
    parts.append(report.out.table(seeds) if seeds else paragraph(ASK["seeds"]))
    for name, sweeps in (("beta", compare.beta_sweeps), ("camera-share", compare.share_sweeps)):
        found = sweeps(findings, report.runs)
        for sweep in found:
            parts += [
                report.out.table(sweep.table()),
                report.out.figure(sweep.name, plots.sweep_plot(sweep), sweep.title),
            ]
        parts += [] if found else [paragraph(ASK[name])]
    return parts


ASK = {
    "seeds": "For spread over seeds give runs that differ in seeds alone, such as handeye train EXPERIMENT "
    "--reuse RUN --finetuned.seed 1.",
    "beta": "For a plot over β give runs that differ in it, such as handeye train EXPERIMENT --reuse RUN "
    "--finetuned.beta 0.5.",
    "camera-share": "For a plot over the camera's share give runs that differ in it, such as handeye train EXPERIMENT "
    "--reuse RUN --adapted.camera-share 0.25.",
}
"""What to give for a comparison that the given runs do not allow."""


def _making(report: Report) -> list[str]:
    parts = [part for run in report.runs for part in made_by(run.name, run.about)]
    return [*parts, paragraph("This page: handeye report " + " ".join(run.name for run in report.runs))]


def made_by(name: str, about: dict[str, Any]) -> list[str]:
    """How a run was made: its configuration, the command, and with what; `about` is as in `config.json`."""
    options = compare.changes(about["experiment"], about["config"])
    command = " ".join(["handeye train", about["experiment"], f"--seed {about['seed']}", *options])
    made = [f"{package} {number}" for package, number in about.get("versions", {}).items()]
    made += [f"git {about['git']}"] if about.get("git") else []
    parts = [heading(name) + folded("configuration", json.dumps(about["config"], indent=2))]
    parts.append(paragraph(f"Trained by: {command}"))
    return [*parts, *([paragraph(f"With {', '.join(made)}.")] if made else [])]
