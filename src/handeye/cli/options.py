"""What can be said to each command."""

from dataclasses import dataclass
from typing import Literal

import tyro

from handeye import planar_arm
from handeye.errors import Misuse, need

MOST_SEEDS = 2**32


def _need_seed(seed: int) -> None:
    if not 0 <= seed < MOST_SEEDS:
        raise Misuse(f"seed must be in 0 … {MOST_SEEDS - 1}, got {seed}")


@dataclass(frozen=True)
class TrainOptions:
    """Options of `handeye train EXPERIMENT`; every field of the experiment's configuration follows."""

    seed: int = 0
    """Decides networks, pictures and trials."""
    out: str | None = None
    """The run's folder; by default runs/EXPERIMENT/<time>-seed<seed>."""
    resume: bool = False
    """Continue the run at --out, or the newest of this experiment and seed, exactly where it was saved."""
    reuse: str | None = None
    """Take finished stages from this run, where their configuration and seed are the same; for reaching also from a
    final checkpoint, by its file or shipped name."""
    until: str = ""
    """The last stage to run, by default all; --resume with a later one goes on."""
    runner: Literal["local", "ray"] = "local"
    """Who runs the workers: this process, or Ray, here or on the cluster at RAY_ADDRESS."""
    collectors: int = 1
    """Processes that collect, of runner ray."""
    updaters: int = 1
    """Processes that label, of runner ray."""

    def __post_init__(self) -> None:
        _need_seed(self.seed)
        need(self, ("collectors", "updaters"), 1, 100_000)
        if self.runner == "local" and (self.collectors, self.updaters) != (1, 1):
            raise Misuse("--collectors and --updaters need --runner ray")


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a checkpoint on the fixed protocol, or on fresh trials."""

    checkpoint: tyro.conf.Positional[str]
    """A file, a run's folder, a shipped name, or a policy of the world: reach:guide, reach:random, grasp:random,
    grasp:scripted, grasp:oracle."""
    episodes: int | None = None
    """How many; by default the fixed protocol's 400 trials of reaching, 700 grasps."""
    seed: int | None = None
    """Draw fresh trials from this seed instead."""
    domain: Literal["sim", "camera"] = "sim"
    """Reaching: who draws the pictures."""
    objects: Literal["heldout", "train"] = "heldout"
    """Grasping: which objects."""
    reward: Literal["truth", "pictures"] = "truth"
    """Grasping: who says that a grasp succeeded; success in the figures is the truth either way."""
    json: str | None = None
    """Write the figures to this file; - is standard output."""
    video: str | None = None
    """Write a video of some trials (.gif, .webp or .mp4)."""

    def __post_init__(self) -> None:
        _need_seed(self.seed or 0)


@dataclass(frozen=True)
class ReportOptions:
    """Tables, plots and videos of runs, in one self-contained HTML page."""

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Folders of runs of one task, or shipped names."""
    out: str = "report"
    """Folder to write index.html, tables and figures to."""
    trials: int = 400
    """Reaching: how many trials of the fixed protocol to run."""
    grasps: int = 100
    """Grasping: how many grasps of the fixed protocol to try, of held-out and of training objects each."""


@dataclass(frozen=True)
class CollectOptions:
    """Write episodes of a policy to a folder. The same command again goes on where it was stopped."""

    experiment: tyro.conf.Positional[str]
    """Where: grasp."""
    policy: str
    """Who acts: random, scripted, oracle, or a checkpoint."""
    episodes: int
    """How many the folder holds in the end."""
    out: str
    """The folder."""
    seed: int = 0
    """Episode k depends on this and k."""
    noise: float = 0.0
    """Share of the actions that are random ones, as π_noisy's: learning from logs needs what does not work as well."""
    objects: Literal["train", "heldout"] = "train"
    """Which objects lie in the bin."""
    observe: Literal["image", "objects", "both"] = "image"
    """What is observed beside the gripper's state: a picture, the places of the objects, or both. A checkpoint has its
    own camera, and observes what it needs."""
    camera: Literal["follow", "shoulder", "wrist"] = "follow"
    """Who takes the pictures."""
    video: str | None = None
    """Write a video of the first episodes (.gif, .webp or .mp4)."""

    def __post_init__(self) -> None:
        _need_seed(self.seed)
        need(self, ("noise",), 0, 1)


@dataclass(frozen=True)
class PicturesOptions:
    """Write the synthetic camera domain as picture folders: train, with label noise, and heldout, with the truth."""

    out: str
    """New folder."""
    pictures: int = 1418
    """Training pictures."""
    heldout: int = 400
    """Held-out pictures."""
    seed: int = 1
    """Of the training pictures; the held-out ones use the next."""
    near_targets: float = planar_arm.NEAR_SHARE
    """Share of the training targets that lie near the arm; reach-paper's own have 0.75."""

    def __post_init__(self) -> None:
        _need_seed(self.seed)
        need(self, ("pictures", "heldout"), 1, 1_000_000)
        need(self, ("near_targets",), 0, 1)


@dataclass(frozen=True)
class BenchOptions:
    """Measure how fast things are here, beside how fast they could be."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which benchmarks; all by default."""
    json: str | None = None
    """Write the figures to this file; - is standard output."""


@dataclass(frozen=True)
class ProbeOptions:
    """Print the bin's heights, and how far commanded moves of the gripper really go."""

    json: str | None = None
    """Write the figures to this file; - is standard output."""
