"""The `handeye` command: parsing and dispatch only."""

import contextlib
import difflib
import io
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from handeye.cli.options import (
    BenchOptions,
    CollectOptions,
    EvaluateOptions,
    PicturesOptions,
    ProbeOptions,
    ReportOptions,
    TrainOptions,
)
from handeye.errors import EXTRAS, Failure, Interrupted, Misuse

STDERR = Console(stderr=True, highlight=False)


def _train(arguments: list[str]) -> int:
    from handeye import checkpoint, experiments

    if not arguments or arguments[0].startswith("-"):
        raise Misuse("usage: handeye train EXPERIMENT [--seed K] [--out DIR] [--resume] …; see: handeye experiments")
    experiment = experiments.find(arguments[0])
    fields = [
        ("options", Annotated[TrainOptions, tyro.conf.arg(name="")], TrainOptions()),
        ("config", Annotated[type(experiment.config), tyro.conf.arg(name="")], experiment.config),
    ]
    parsed = _parse_together(fields, arguments[1:], f"handeye train {arguments[0]}", experiment.line)
    if parsed.options.runner == "ray" and experiment.task != "grasp":
        raise Misuse(f"{arguments[0]} has no parallel workers: use --runner local")
    from handeye.train import train

    folder = train(arguments[0], parsed.config, parsed.options, STDERR)
    STDERR.print(f"done: {folder}", soft_wrap=True)
    name = f"./{folder}" if str(folder) in checkpoint.shipped() else shlex.quote(str(folder))
    STDERR.print(f"next: handeye evaluate {name}   or   handeye report {name} --out report", soft_wrap=True)
    return 0


OF_OTHERS = {
    "grasp": {"domain": "sim", "trials": 400},
    "reach": {"objects": "heldout", "reward": "truth", "grasps": 100},
}
"""Of each task: options of another, which only their defaults leave alone."""


def _need_own(options: Any, task: str, what: str) -> None:
    """Raises: Misuse, if an option that says nothing of `task` was given."""
    for name, value in OF_OTHERS.get(task, {}).items():
        if getattr(options, name, value) != value:
            raise Misuse(f"--{name} {getattr(options, name)} says nothing of {what}, which is of {task}")


def _evaluate(arguments: list[str]) -> int:
    from handeye import checkpoint

    options = _parse(EvaluateOptions, arguments, "handeye evaluate")
    if options.video is not None:
        from handeye.video import check_suffix

        check_suffix(Path(options.video))
    task = checkpoint.task_of(options.checkpoint)
    _need_own(options, task, options.checkpoint)
    if task == "grasp":
        return _evaluate_grasping(options)
    from handeye import reach_results

    figures = reach_results.evaluate(options.checkpoint, options.episodes, options.seed, options.domain)
    _tell(figures, options.json, _print_figures)
    if options.video is not None:
        from handeye.reach_video import write_trials

        write_trials(options.checkpoint, options.seed, options.domain, Path(options.video))
    return 0


def _evaluate_grasping(options: EvaluateOptions) -> int:
    from handeye import grasp_results

    episodes = grasp_results.PROTOCOL_EPISODES if options.episodes is None else options.episodes
    figures = grasp_results.evaluate(
        options.checkpoint, episodes, options.seed, options.objects, STDERR, options.reward
    )
    title = f"{options.checkpoint}, {episodes} grasps of {options.objects} objects"
    _tell(figures, options.json, lambda figures: _print_grasps(figures, title))
    if options.video is not None:
        from handeye.grasp_video import write_grasps

        config = grasp_results.evaluated(options.checkpoint, options.objects)
        seeds = grasp_results.protocol_seeds(options.seed, episodes)
        write_grasps(options.checkpoint, config, seeds, Path(options.video))
    return 0


def _print_grasps(figures: dict[str, Any], title: str) -> None:
    table, shapes = Table("figure", "value", title=title), figures["shapes"]
    for name, value in figures.items():
        if value is not shapes:
            table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    by_shape = Table("shape", *next(iter(shapes.values())))
    for family, counts in shapes.items():
        by_shape.add_row(family, *map(str, counts.values()))
    Console().print(table, by_shape)


def _print_figures(figures: dict[str, Any]) -> None:
    nets = figures["nets"]
    table = Table("", *nets, title=f"{figures['checkpoint']} in {figures['domain']}, {figures['episodes']} trials")
    for name in next(iter(nets.values())):
        table.add_row(name, *(f"{values[name]:.3f}" if name in values else "" for values in nets.values()))
    Console().print(table)


def _report(arguments: list[str]) -> int:
    options = _parse(ReportOptions, arguments, "handeye report")
    if not options.runs:
        raise Misuse("usage: handeye report RUN… --out DIR")
    if not 20 <= options.trials <= 400:
        raise Misuse(f"--trials must be in 20 … 400, got {options.trials}")
    if not 1 <= options.grasps <= 700:
        raise Misuse(f"--grasps must be in 1 … 700, got {options.grasps}")
    from handeye.run import task_of

    tasks = {task_of(name) for name in options.runs}
    if len(tasks) > 1:
        raise Misuse(f"a report is of one task: give runs of {' or of '.join(sorted(tasks))}")
    for task in tasks:
        _need_own(options, task, options.runs[0])
    if tasks == {"grasp"}:
        from handeye.grasp_report import write_report as write_grasp_report

        print(write_grasp_report(list(options.runs), Path(options.out), STDERR, options.grasps))
        return 0
    from handeye.findings import Protocol
    from handeye.report import write_report

    protocol = Protocol(trials=options.trials, camera_trials=options.trials)
    print(write_report(list(options.runs), Path(options.out), STDERR, protocol))
    return 0


def _collect(arguments: list[str]) -> int:
    options = _parse(CollectOptions, arguments, "handeye collect")
    from handeye.collect import command

    try:
        command(options, STDERR)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; to go on: {shlex.join(['handeye', 'collect', *arguments])}") from stop
    return 0


def _pictures(arguments: list[str]) -> int:
    options = _parse(PicturesOptions, arguments, "handeye pictures")
    from handeye import pictures
    from handeye.envs import camera_domain

    out = Path(options.out)
    for name in ("train", "heldout"):
        pictures.need_new(out / name)
    shown = camera_domain.labelled(options.pictures, options.seed, True, options.near_targets)
    pictures.write(out / "train", *shown)
    pictures.write(out / "heldout", *camera_domain.labelled(options.heldout, options.seed + 1, label_noise=False))
    STDERR.print(f"{options.pictures} training and {options.heldout} held-out pictures in {out}", soft_wrap=True)
    return 0


def _experiments(arguments: list[str]) -> int:
    if arguments:
        raise Misuse(f"handeye experiments takes no arguments, got {' '.join(arguments)}")
    from handeye.experiments import EXPERIMENTS

    table = Table("name", "what", "cost on 2 cores fast in bf16")
    for name, experiment in EXPERIMENTS.items():
        table.add_row(name, experiment.line, experiment.cost)
    Console().print(table)
    return 0


def _bench(arguments: list[str]) -> int:
    options = _parse(BenchOptions, arguments, "handeye bench")
    from handeye.bench import BENCHMARKS, run_benchmarks

    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        raise Misuse(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    figures = run_benchmarks(list(options.names), STDERR)
    _tell(figures, options.json, _print_benchmarks)
    return 0


def _print_benchmarks(figures: list[dict[str, Any]]) -> None:
    columns = ("name", "value", "unit", "floor", "peer", "peer_value")
    table, console = Table(*columns), Console()
    for row in figures:
        table.add_row(*(f"{v:.4g}" if isinstance(v := row[column], float) else str(v or "") for column in columns))
    console.print(table)
    for row in figures:
        console.print(f"{row['name']}: {row['note']}", markup=False, highlight=False)


def _doctor(arguments: list[str]) -> int:
    if arguments:
        raise Misuse(f"handeye doctor takes no arguments, got {' '.join(arguments)}")
    from handeye.doctor import examine

    return examine(Console())


def _probe(arguments: list[str]) -> int:
    options = _parse(ProbeOptions, arguments, "handeye probe")
    from handeye import probe
    from handeye.envs.grasping import GraspConfig

    config = GraspConfig()
    rows = probe.moves(config)
    figures = {"heights_m": probe.heights_m(config), "moves": rows}
    _tell(figures, options.json, lambda _: probe.show(config, rows, Console()))
    return 0


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "train": (_train, "train an experiment"),
    "evaluate": (_evaluate, "measure a checkpoint on fixed trials"),
    "report": (_report, "one HTML page with tables, plots and videos"),
    "collect": (_collect, "write episodes of a policy to a folder"),
    "pictures": (_pictures, "write the synthetic camera domain as folders of labelled pictures"),
    "experiments": (_experiments, "list the experiments and what they cost"),
    "bench": (_bench, "measure speed"),
    "doctor": (_doctor, "check this machine"),
    "probe": (_probe, "heights of the bin, and how far commanded moves really go"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: handeye COMMAND …\n")
        print("\n".join(f"  {name:12} {line}" for name, (_, line) in COMMANDS.items()))
        return 0 if arguments else 2
    try:
        if arguments[0] not in COMMANDS:
            near = difflib.get_close_matches(arguments[0], COMMANDS, n=1) or list(COMMANDS)
            raise Misuse(f"no command {arguments[0]!r}; try {', '.join(near)}")
        return COMMANDS[arguments[0]][0](arguments[1:])
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        STDERR.print("interrupted")
        return 1
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        remedy = f'pip install "handeye[{EXTRAS[error.name]}]"'
        STDERR.print(f"handeye: {error.name} is not installed: {remedy}", markup=False, soft_wrap=True)
        return 1
    except Exception as error:
        status = _status(error)
        if status is None:
            raise
        # One line, whatever the width: a command in it can be copied.
        STDERR.print(f"handeye: {str(error) or 'not enough memory'}", markup=False, soft_wrap=True)
        return status


def _status(error: Exception) -> int | None:
    """Exit status of an error that a user can mend; None for a defect of ours."""
    if isinstance(error, Misuse):
        return 2
    return 1 if isinstance(error, Failure | OSError | MemoryError) else None


def _parse(kind: Any, arguments: list[str], program: str) -> Any:
    field = ("options", Annotated[kind, tyro.conf.arg(name="")])
    return _parse_together([field], arguments, program, kind.__doc__).options


def _parse_together(fields: list[Any], arguments: list[str], program: str, line: str) -> Any:
    # What the fields of the class that tyro is given raise comes to us; all else is said in a box, and then it exits.
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = make_dataclass("Parsed", fields, frozen=True)
            return tyro.cli(parsed, args=arguments, prog=program, description=line)
    except SystemExit as end:
        if not end.code:
            raise
        raise Misuse(_unboxed(said.getvalue())) from None


def _unboxed(text: str) -> str:
    """What stands in a box of tyro's, in one line: its parts, parted by semicolons."""
    rows = [row.strip("│| ") for row in text.splitlines()[1:-1]]
    parts = " ".join("; " if set(row) in ({"─"}, {"-"}) else row for row in rows).split("; ")
    said = (" ".join(part.split()).rstrip(".") for part in parts)
    return "; ".join(filter(None, said)).replace("Error parsing config.", "", 1)


def _tell(figures: Any, target: str | None, show: Callable[[Any], None]) -> None:
    """Figures as JSON to `target`, a file or - for standard output, and unless it is that, shown."""
    text = json.dumps(figures, indent=2)
    if target == "-":
        print(text)
        return
    if target is not None:
        from handeye.files import write_whole

        write_whole(Path(target), lambda partial: partial.write_text(text + "\n"))
    show(figures)
