"""Training a named experiment: its folder, its stages, its final checkpoint."""

import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from handeye import checkpoint, experiments, run
from handeye.errors import Failure, Interrupted, Misuse, differences
from handeye.nn import keep_freed_memory


def system_of(task: str) -> Any:
    """Where the stages of a task come from: `plan`, `final_checkpoint`, `finished`, `packed` and `read_config`."""
    # Each is loaded when it is asked for: grasping needs packages that reaching does without.
    if task == "grasp":
        from handeye import grasp

        return grasp
    from handeye import reach

    return reach


def train(name: str, config: Any, options: Any, console: Console) -> Path:
    """Train to the end, or until interrupted. Returns the run's folder.

    Raises:
        Failure, Misuse: as in errors.py.
        Interrupted: the user stopped it; everything is saved.
    """
    keep_freed_memory()
    task = system_of(experiments.find(name).task)
    reuse = _reusable(options.reuse, task) if options.reuse else None
    if options.resume:
        folder = run.find_folder(name, options.seed, options.out)
        config = _resumed_config(folder, name, options.seed, config, task)
    spread = (_crew(options),) if options.runner == "ray" else ()
    plan = _until(task.plan(config, options.seed, *spread), options.until)
    if not options.resume:
        folder = run.create_folder(name, options.seed, options.out)
        run.write_config(folder, name, options.seed, config)
    console.print(f"run folder: {folder}", markup=False, soft_wrap=True)
    try:
        results = run.run_stages(folder, plan, options.seed, console, reuse)
    except Interrupted as stop:
        again = f"handeye train {name} --seed {options.seed} --out {shlex.quote(str(folder))} --resume"
        again += f" --until {options.until}" if options.until else ""
        again += f" --reuse {shlex.quote(options.reuse)}" if options.reuse else ""
        if spread:
            again += f" --runner ray --collectors {options.collectors} --updaters {options.updaters}"
        raise Interrupted(f"{stop}; to go on: {again}") from stop
    final = folder / "checkpoints" / "final.safetensors"
    checkpoint.save(final, task.final_checkpoint(config, name, options.seed, results))
    # Of use only to a run that goes on, and large.
    shutil.rmtree(folder / "replay", ignore_errors=True)
    return folder


def _reusable(name: str, task: Any) -> run.Finished:
    """Finished stages of a run's folder, or of a final checkpoint given by its file or shipped name.

    Raises: Failure, Misuse: there are none.
    """
    folder = Path(name)
    if name in checkpoint.shipped() or not folder.is_dir():
        stages: run.Finished = task.finished(name, checkpoint.load(checkpoint.find(name))).get
        return stages
    if not (folder / "checkpoints").is_dir():
        raise Failure(f"nothing to reuse at {folder}: it has no checkpoints folder")
    return run.finished_in(folder)


def _crew(options: Any) -> Any:
    """How many processes the workers of grasping have."""
    from handeye.qtopt.workers import Crew

    return Crew(options.collectors, options.updaters)


def _until(plan: run.Plan, last: str) -> run.Plan:
    """The plan up to stage `last`; all of it for no name. Raises: Misuse naming the stages."""
    names = [name for name, _, _ in plan]
    if last and last not in names:
        raise Misuse(f"--until must be one of {', '.join(names)}, got {last!r}")
    return plan[: names.index(last) + 1] if last else plan


def _resumed_config(folder: Path, name: str, seed: int, config: Any, task: Any) -> Any:
    """The configuration that the run at `folder` was started with; `config` may repeat it, or be the experiment's own.

    Raises:
        Misuse: the run was started otherwise.
        Failure: its configuration means nothing to this version.
    """
    before = run.read_config(folder)
    if (before.get("experiment"), before.get("seed")) != (name, seed):
        started = f"{before.get('experiment')} with seed {before.get('seed')}"
        raise Misuse(f"{folder} is a run of {started}, not {name} with seed {seed}")
    try:
        stored = task.read_config(before["config"])
    except (KeyError, TypeError, AttributeError) as error:
        raise Failure(f"{folder} was started by another version of handeye: {error}") from error
    if config not in (stored, experiments.find(name).config):
        changed = "; ".join(differences(before["config"], json.loads(json.dumps(dataclasses.asdict(config)))))
        raise Misuse(f"{folder} was started with another configuration: {changed}. Resume it with the same options")
    return stored
