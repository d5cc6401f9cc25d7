"""A run: its folder, its stages in order, progress, logs, interruption and exact resume."""

import dataclasses
import json
import math
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import Progress

from handeye import checkpoint
from handeye.checkpoint import Tree
from handeye.errors import Failure, Interrupted, one_line
from handeye.files import write_whole
from handeye.metrics import MetricsWriter
from handeye.progress import progress_bar, stop_signals

SAVE_EVERY_S = 60.0
LOG_EVERY_S = 2.0


class RunError(Failure):
    """A run that cannot start or go on; the message says what to do."""


class Stage(Protocol):
    """A training stage: `done` of so many `steps`, each returning what it measured, and a result to hand on."""

    steps: int
    done: int

    def step(self) -> dict[str, float]: ...

    def state(self) -> Tree: ...

    def load_state(self, state: Tree) -> None: ...

    def result(self) -> Tree: ...


Results = dict[str, Tree]
Finished = Callable[[str], Tree | None]
"""The stage of a name as it was saved when it was done: its `key` and `result`; None for one that is not done."""
Plan = list[tuple[str, Any, Callable[[Results, Path], Stage]]]
"""(name, configuration, how to begin it from the results so far, in the run's folder) of every stage, in order."""


def create_folder(experiment: str, seed: int, out: str | None) -> Path:
    """A new, empty run folder: `out`, or `runs/<experiment>/<time>-seed<k>`.

    Raises:
        RunError: it exists with something in it, or cannot be made.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(out) if out else Path("runs") / experiment / f"{stamp}-seed{seed}"
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{folder} exists and is not empty: choose another --out, or continue it with --resume")
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the run folder {folder}: {error.strerror}") from error
    return folder


def find_folder(experiment: str, seed: int, out: str | None) -> Path:
    """The run to resume: `out`, or the newest of this experiment and seed. Raises: RunError if there is none."""
    if out:
        found = [Path(out)] if (Path(out) / "config.json").is_file() else []
    else:
        found = sorted(Path("runs").glob(f"{experiment}/*-seed{seed}/"))
    if not found:
        raise RunError(f"nothing to resume at {out or f'runs/{experiment}/*-seed{seed}'}: start without --resume")
    return found[-1]


def write_config(folder: Path, experiment: str, seed: int, config: Any) -> None:
    """`config.json`: the resolved configuration, with versions and the git revision."""
    packages = ("handeye", "torch", "numpy", "numba", "gymnasium")
    content = {
        "experiment": experiment,
        "seed": seed,
        "config": dataclasses.asdict(config),
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "git": _git_revision(),
    }
    text = json.dumps(content, indent=2)
    write_whole(folder / "config.json", lambda partial: partial.write_text(text))


def read_config(folder: Path) -> dict[str, Any]:
    """What `write_config` wrote. Raises: RunError if the folder holds no run."""
    try:
        return dict(json.loads((folder / "config.json").read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{folder} is not a run's folder: no readable config.json ({error})") from error


def task_of(name: str) -> str:
    """The task of a run's folder, finished or not, or of a checkpoint given by file or shipped name.

    Raises: RunError or CheckpointError if it is none.
    """
    folder = Path(name)
    if name in checkpoint.shipped() or not folder.is_dir():
        return checkpoint.task_of(name)
    return str(read_config(folder)["experiment"]).split("-")[0]


def _git_revision() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def stage_key(config: Any, seed: int) -> Tree:
    """What decides a stage's result, as it is compared when a stage is reused: its configuration and the seed."""
    return json.loads(json.dumps({"seed": seed, "config": config}, default=dataclasses.asdict))


def _stage_file(folder: Path, name: str) -> Path:
    return folder / "checkpoints" / f"{name}.safetensors"


def finished_in(folder: Path) -> Finished:
    """The finished stages of the run in `folder`."""

    def load(name: str) -> Tree | None:
        path = _stage_file(folder, name)
        return checkpoint.load(path) if path.is_file() else None

    return load


def run_stages(folder: Path, plan: Plan, seed: int, console: Console, reuse: Finished | None = None) -> Results:
    """Run the stages of `plan` that are not finished in `folder`, and return the results of all.

    `checkpoints/<stage>.safetensors` is a finished stage; `checkpoints/resume.safetensors` an unfinished one.
    Stages of `reuse` are taken over where their configuration and seed are the same.

    Raises:
        Interrupted: SIGINT or SIGTERM; the state is saved.
        RunError: what is in `folder` was made otherwise.
    """
    for left in (folder / "checkpoints").glob(".*.partial"):
        left.unlink()
    writer = MetricsWriter(folder)
    results: Results = {}
    try:
        with progress_bar(console) as progress, stop_signals() as stopping:
            for name, config, begin in plan:
                key = stage_key(config, seed)
                done = _finished(folder, name, key) or _taken_over(folder, reuse, name, key, console)
                if done is None:
                    stage = _begun(begin, results, folder, name, key, writer)
                    _run(folder, name, key, stage, writer, progress, stopping)
                    done = {"key": key, "result": stage.result()}
                    checkpoint.save(_stage_file(folder, name), done)
                    (folder / "checkpoints" / "resume.safetensors").unlink(missing_ok=True)
                results[name] = done["result"]
    finally:
        writer.close()
    return results


def _finished(folder: Path, name: str, key: Tree) -> Tree | None:
    done = finished_in(folder)(name)
    if done is not None:
        _need_same(_stage_file(folder, name), done, key)
    return done


def _taken_over(folder: Path, reuse: Finished | None, name: str, key: Tree, console: Console) -> Tree | None:
    """The same stage of another run, which is this run's from now on."""
    done = reuse(name) if reuse is not None else None
    if done is None or done.get("key") != key:
        return None
    checkpoint.save(_stage_file(folder, name), done)
    console.print(f"{name}: taken over", markup=False)
    return done


def _need_same(path: Path, saved: Tree, key: Tree) -> None:
    """Raises: RunError, if what this run saved in `path` was made otherwise than it would be now."""
    if saved.get("key", key) != key:
        raise RunError(
            f"{path} was made with other data, settings or collectors, or by another version of handeye: give what it "
            "was begun with, or train in another folder"
        )


def _begun(
    begin: Callable[..., Stage], results: Results, folder: Path, name: str, key: Tree, writer: MetricsWriter
) -> Stage:
    """The stage, begun from the results so far or where it was stopped. Raises: RunError for what does not fit it."""
    try:
        stage = begin(results, folder)
        _resume(folder, name, key, stage, writer)
    except Failure:
        raise
    except (KeyError, RuntimeError) as error:
        raise RunError(
            f"{name} cannot begin: what is in {folder / 'checkpoints'} does not fit this version of handeye "
            f"({one_line(error)}); train anew in another folder, without --reuse"
        ) from error
    return stage


def _resume(folder: Path, name: str, key: Tree, stage: Stage, writer: MetricsWriter) -> None:
    path = folder / "checkpoints" / "resume.safetensors"
    saved = checkpoint.load(path) if path.is_file() else {}
    if saved.get("stage") == name:
        _need_same(path, saved, key)
        stage.load_state(saved["state"])
    writer.rewind(name, stage.done)


def _run(
    folder: Path, name: str, key: Tree, stage: Stage, writer: MetricsWriter, progress: Progress, stopping: list[int]
) -> None:
    """The training loop of one stage."""
    task = progress.add_task(name, total=stage.steps, completed=stage.done, facts="")
    saved = logged = time.monotonic()
    while stage.done < stage.steps:
        values = stage.step()
        broken = [key for key, value in values.items() if not math.isfinite(value)]
        if broken:
            raise RunError(f"{name} diverged at step {stage.done}: {broken[0]} is no number; lower its learning rate")
        now = time.monotonic()
        last = stage.done == stage.steps
        if now - logged > LOG_EVERY_S or last:
            writer.write(name, stage.done, values)
            facts = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
            progress.update(task, completed=stage.done, facts=facts)
            logged = now
        # Of a stage that keeps files of its own, and could not go on from an older state.
        due = now - saved > SAVE_EVERY_S or stopping or getattr(stage, "must_save", False)
        if due and not last:
            state = {"stage": name, "key": key, "step": stage.done, "state": stage.state()}
            checkpoint.save(folder / "checkpoints" / "resume.safetensors", state)
            saved = now
        if stopping and not last:
            raise Interrupted(f"stopped in {name} at step {stage.done} of {stage.steps}")
