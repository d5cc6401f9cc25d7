"""What a run says of itself: rows of JSON, TensorBoard where it is installed, and intervals."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from handeye.files import write_whole


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a rate. Raises: ValueError without trials."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"need 0 ≤ successes ≤ trials and trials ≥ 1, got {successes} of {trials}")
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return min(max(low, 0.0), rate), max(min(high, 1.0), rate)


def spread(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, standard deviation, least and most of two values or more."""
    return float(np.mean(values)), float(np.std(values, ddof=1)), min(values), max(values)


def median_interval(values: ArrayLike, z: float = 1.96) -> tuple[float, float]:
    """Distribution-free interval of the median, from order statistics."""
    ordered = np.sort(np.asarray(values, float))
    half = z * math.sqrt(len(ordered)) / 2
    low = max(int(len(ordered) / 2 - half), 0)
    high = min(math.ceil(len(ordered) / 2 + half), len(ordered) - 1)
    return float(ordered[low]), float(ordered[high])


class MetricsWriter:
    """Appends rows to `metrics.jsonl`: {"stage", "step", "time_s", …}, and to TensorBoard if it is there.

    On resume, `rewind` drops the rows past the step that was saved, so that no step appears twice.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self.started = time.monotonic()
        self.offset_s = max((row["time_s"] for row in read_rows(self.path)), default=0.0)
        self.board = _tensorboard(folder / "tensorboard")

    def write(self, stage: str, step: int, values: dict[str, float]) -> None:
        """One row; values that are not finite are written as null."""
        clock = self.offset_s + time.monotonic() - self.started
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        row = {"stage": stage, "step": step, "time_s": round(clock, 3), **clean}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{stage}/{name}", value, step)

    def rewind(self, stage: str, step: int) -> None:
        """Drop the rows of `stage` after `step`."""
        rows = [row for row in read_rows(self.path) if row["stage"] != stage or row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_whole(self.path, lambda partial: partial.write_text(text))

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
