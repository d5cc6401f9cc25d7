"""What is measured of a run for its report: costly, so each figure is computed once and remembered beside the run."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

import handeye
from handeye import checkpoint, planar_arm, reach, reach_results, run
from handeye.envs import camera_domain, reach_pictures
from handeye.envs.reach_floor import floor_m
from handeye.errors import Failure
from handeye.evaluate import ReachTrials, sight_errors_px, sight_figures
from handeye.metrics import read_rows
from handeye.nn import weights_digest
from handeye.page import write_text

DOMAINS = ("sim", "camera")
MAP_CELLS = 12
"""Cells a side of the maps of perception's error."""
FEWEST = 3
"""Pictures in a cell below which it says nothing."""


@dataclass(frozen=True)
class Protocol:
    """How much is measured. The defaults are the paper's protocol."""

    trials: int = reach_results.STORED_TRIALS
    camera_trials: int = reach_results.STORED_TRIALS
    few: int = 20
    """Of the camera trials, as many as the paper ran on its robot."""
    pictures: int = 2000
    """For the maps of perception's error."""
    filmed: int = 6


@dataclass(frozen=True)
class Run:
    """A run as the report sees it; `nets` is None while it is unfinished, `folder` is None for a shipped checkpoint."""

    name: str
    folder: Path | None
    about: dict[str, Any]
    rows: list[dict[str, Any]]
    nets: reach_results.ReachNets | None

    @property
    def experiment(self) -> str:
        """The experiment that it is a run of."""
        return str(self.about["experiment"])

    def has(self, *names: str) -> bool:
        """Whether the run has come so far that these nets are there."""
        return self.nets is not None and set(names) <= self.nets.nets.keys()

    def pair(self, net: str) -> tuple[nn.Module | None, nn.Module]:
        """Perception and control of a net. The run is finished."""
        assert self.nets is not None
        return self.nets.nets[net]


def open_run(name: str) -> Run:
    """A run's folder, or a shipped checkpoint, of which only the networks are known.

    Raises:
        Failure: there is no such run, it is not of reaching, or its checkpoint cannot be read.
    """
    if name in checkpoint.shipped():
        tree = checkpoint.load(checkpoint.find(name))
        nets = reach_results.load_nets(name, tree)
        about = {key: tree[key] for key in ("experiment", "seed", "config")}
        return Run(name, None, _resolved(about), [], nets)
    folder = Path(name)
    about = run.read_config(folder)
    if not str(about.get("experiment")).startswith("reach"):
        raise Failure(f"{name} is a run of {about.get('experiment')}: handeye report shows runs of reaching")
    final = folder / "checkpoints" / "final.safetensors"
    loaded = reach_results.load_nets(name, checkpoint.load(final)) if final.is_file() else None
    return Run(name, folder, _resolved(about), read_rows(folder / "metrics.jsonl"), loaded)


def _resolved(about: dict[str, Any]) -> dict[str, Any]:
    """With the settings that are newer than the run, so that it can be compared with later ones."""
    try:
        config = dataclasses.asdict(reach.read_config(about["config"]))
    except TypeError as error:
        raise Failure(f"a run of {about['experiment']} does not fit this version of handeye: {error}") from error
    return about | {"config": json.loads(json.dumps(config))}


class Memory:
    """Results by what they depend on, each computed once: `evaluation.json`, in the run's `report` folder.

    The key of a result holds a digest of the weights and of the world, so that runs which share
    networks share results, and a changed checkpoint or a changed world makes new ones.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.files = {path: _read(path) for path in paths}

    def get(self, path: Path, key: str, compute: Callable[[], Any]) -> Any:
        """The result of `key`, from any file or from `compute`; it is kept in `path` too."""
        known = self.files[path]
        if key not in known:
            found = next((other[key] for other in self.files.values() if key in other), None)
            known[key] = compute() if found is None else found
            # A run that cannot be written to can still be reported on.
            with suppress(Failure):
                write_text(path, json.dumps(known))
        return known[key]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


class Findings:
    """Figures of finished runs, as they are asked for. `out` keeps what is found of shipped checkpoints."""

    def __init__(self, runs: list[Run], out: Path, protocol: Protocol, console: Console) -> None:
        self.protocol, self.console = protocol, console
        self.paths = {r.name: (r.folder / "report" if r.folder else out / r.name) / "evaluation.json" for r in runs}
        self.memory = Memory(list(self.paths.values()))
        self.world = _world_digest()

    def trials(self, of: Run, net: str, domain: str, few: bool = False) -> ReachTrials:
        """The fixed protocol's trials of a net; `few`: only the first of them, as many as the paper's robot did."""
        count = self.protocol.trials if domain == "sim" else self.protocol.camera_trials
        count = min(count, self.protocol.few) if few and net == "sim_only" else count
        # Control is given the true Θ, so that it does the same in every domain.
        domain = "sim" if net == "control" else domain
        stored = self._get(of, net, f"{count} trials in {domain}", lambda: _run_trials(of, net, domain, count))
        values = {name: np.array(value) for name, value in stored.items()}
        return ReachTrials(**{name: value[: self.protocol.few] if few else value for name, value in values.items()})

    def floor(self, of: Run) -> NDArray:
        """The least final distance (M,) in metres that any policy could reach on the trials."""
        assert of.nets is not None
        config = of.nets.config.env
        trials = reach_results.choose_trials(self.protocol.trials, None)
        key = f"floor of {self.protocol.trials} trials {dataclasses.astuple(config)} {self.world}"

        def compute() -> list[float]:
            return _rounded(floor_m(trials["joints_rad"], trials["target_m"], config))

        return np.array(self.memory.get(self.paths[of.name], key, compute))

    def sight(self, of: Run, net: str, domain: str) -> dict[str, float]:
        """Errors of a net's perception on held-out pictures, in pixels."""

        def compute() -> dict[str, float]:
            shown, theta = reach.held_out(domain)
            return sight_figures(reach_results.see(_perception(of, net), shown), theta)

        return dict(self._get(of, net, f"perception in {domain}", compute))

    def error_maps(self, of: Run, net: str, domain: str) -> dict[str, Any]:
        """Median errors in pixels over the picture: `target` and `hand`, each (12, 12) by row, NaN where unknown."""
        what = f"map of perception from {self.protocol.pictures} pictures in {domain}"
        found = self._get(of, net, what, lambda: _error_maps(_perception(of, net), domain, self.protocol.pictures))
        return {name: np.array(value, float) for name, value in found.items()}

    def _get(self, of: Run, net: str, what: str, compute: Callable[[], Any]) -> Any:
        def told() -> Any:
            self.console.print(f"{of.name}: {net}, {what} …", markup=False, soft_wrap=True)
            return compute()

        assert of.nets is not None
        rules = json.dumps(dataclasses.asdict(of.nets.config.env))
        key = f"{what} {weights_digest(*of.pair(net))} {rules} {self.world}"
        return self.memory.get(self.paths[of.name], key, told)


def _world_digest() -> str:
    """Changes when the trials or either domain's pictures do, and with the version."""
    hasher = hashlib.blake2b(handeye.__version__.encode(), digest_size=8)
    for array in reach_results.stored_trials().values():
        hasher.update(array.tobytes())
    hasher.update(reach.draw_sim(4, np.random.default_rng(reach.HELD_OUT_SEED))[0].tobytes())
    hasher.update(camera_domain.labelled(4, reach.HELD_OUT_SEED, label_noise=False)[0].tobytes())
    return hasher.hexdigest()


def _run_trials(of: Run, net: str, domain: str, count: int) -> dict[str, list[float]]:
    assert of.nets is not None
    trials = of.nets.trials(net, reach_results.choose_trials(count, None), domain)
    return {field.name: _rounded(getattr(trials, field.name)) for field in dataclasses.fields(trials)}


def _rounded(values: NDArray) -> list[Any]:
    """As JSON keeps them: to a micrometre."""
    return np.round(values, 6).tolist() if values.dtype.kind == "f" else values.tolist()


def _perception(of: Run, net: str) -> nn.Module:
    perception = of.pair(net)[0]
    assert perception is not None, f"{net} has no perception"
    return perception


def _error_maps(perception: nn.Module, domain: str, count: int) -> dict[str, Any]:
    if domain == "camera":
        shown, theta = camera_domain.labelled(count, reach.HELD_OUT_SEED, label_noise=False)
    else:
        shown, theta = reach.draw_sim(count, np.random.default_rng(reach.HELD_OUT_SEED))
    with torch.no_grad():
        errors = sight_errors_px(reach_results.see(perception, shown), theta)
    target_m, joints_rad = planar_arm.from_theta(theta)
    places = (target_m, planar_arm.hand(joints_rad))
    maps = {}
    for name, error, place in zip(("target", "hand"), errors, places, strict=True):
        maps[name] = _binned_median(np.linalg.norm(error, axis=1), reach_pictures.to_px(place))
    return maps


def _binned_median(values: NDArray, at_px: NDArray) -> list[list[float | None]]:
    """Median of values (N,) in each cell of the picture, by row; None where there are too few."""
    cell = np.floor(at_px / reach_pictures.SIZE_PX * MAP_CELLS).astype(int)
    grid: list[list[float | None]] = [[None] * MAP_CELLS for _ in range(MAP_CELLS)]
    for row in range(MAP_CELLS):
        for column in range(MAP_CELLS):
            inside = values[(cell == (column, row)).all(axis=1)]
            if len(inside) >= FEWEST:
                grid[row][column] = round(float(np.median(inside)), 4)
    return grid
