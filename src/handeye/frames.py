"""Replay of whole episodes: each frame is stored once, on disk if a folder is given."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handeye.errors import Failure
from handeye.types import Episode

Fields = Mapping[str, tuple[tuple[int, ...], type]]
"""Shape (without the row axis) and dtype of each part of an observation."""


class FrameReplay:
    """The last `capacity` frames of episodes, with the steps that lead from each to the next.

    An episode of T steps takes T + 1 rows, the last of which no step leaves. With a `folder` the rows are files that
    the system writes back by itself: what is in them survives a killed process, and saving costs nothing. `slack` rows
    more are kept than are sampled: what is written after a save overwrites nothing that the saved state samples, until
    it is time to save again.
    """

    def __init__(
        self, capacity: int, observation: Fields, action: int, folder: Path | None = None, slack: int = 0
    ) -> None:
        """`action`: numbers of an action.

        Raises:
            ValueError: no room.
            Failure: a folder without room, or with files of another size.
        """
        if capacity < 2:
            raise ValueError(f"replay capacity must be at least 2 frames, got {capacity}")
        self.capacity, self.size, self.folder = capacity, capacity + slack, folder
        self.new = folder is not None and not any(folder.glob("*.npy"))
        fields: dict[str, tuple[tuple[int, ...], type]] = {f"seen_{name}": field for name, field in observation.items()}
        number = ((), np.float32)
        fields |= {"action": ((action,), np.float32), "reward": number, "outcome": number, "kind": ((), np.uint8)}
        self.rows = {name: _rows(folder, name, (self.size, *shape), dtype) for name, (shape, dtype) in fields.items()}
        self.added = self.saved = 0
        self._index: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None

    @property
    def bytes(self) -> int:
        """What all rows take."""
        return sum(rows.nbytes for rows in self.rows.values())

    def __len__(self) -> int:
        """Steps that can be sampled."""
        return len(self.index[0])

    @property
    def index(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows that a step leaves, and those of them whose step was rewarded."""
        if self._index is None:
            newest = np.arange(max(self.added - self.capacity, 0), self.added) % self.size
            # The oldest row's step is left out only if the episode was cut there, which changes nothing for it.
            steps = newest[self.rows["kind"][newest] > LAST]
            self._index = steps, steps[self.rows["reward"][steps] > 0]
        return self._index

    def must_save(self, coming: int) -> bool:
        """Whether so many more frames could overwrite what the last saved state samples."""
        return self.folder is not None and self.added + coming - self.size > max(self.saved - self.capacity, 0)

    def add(self, episodes: Iterable[Episode]) -> None:
        """Append episodes, over the oldest rows when full."""
        for episode in episodes:
            length = len(episode.reward)
            where = np.arange(self.added, self.added + length + 1) % self.size
            for name, value in episode.observation.items():
                self.rows[f"seen_{name}"][where] = value
            self.rows["action"][where[:-1]], self.rows["reward"][where[:-1]] = episode.action, episode.reward
            self.rows["outcome"][where] = float(episode.reward[-1] > 0)
            self.rows["kind"][where] = GOES_ON
            self.rows["kind"][where[-2:]] = [TERMINAL if episode.terminated else CUT, LAST]
            self.added += length + 1
        self._index = None

    def sample(
        self, count: int, rng: np.random.Generator, gamma: float, steps: int = 1, rewarded: float = 0.0
    ) -> dict[str, Any]:
        """`count` steps drawn uniformly with replacement, but at least a share `rewarded` of them with a reward.

        Returns `observation`, `action`, `reward` summed over up to `steps` steps with γ, `discount` of the value of
        `next_observation` (0 after a terminal step; a time limit does bootstrap), `outcome`: whether its episode was
        rewarded in the end; and `row` of each.

        Raises: ValueError on an empty memory.
        """
        every, good = self.index
        if not len(every):
            raise ValueError("the replay memory is empty: collect before sampling")
        row = every[rng.integers(len(every), size=count)]
        floor = round(rewarded * count) if len(good) else 0
        row[:floor] = good[rng.integers(len(good), size=floor)] if floor else row[:0]
        return {"row": row} | self._outcome(row, gamma, steps) | self._seen("observation", row) | {
            "action": self.rows["action"][row],
            "outcome": self.rows["outcome"][row],
        }  # fmt: skip

    def _outcome(self, row: NDArray[np.intp], gamma: float, steps: int) -> dict[str, Any]:
        """What follows rows within so many steps: rewards, discount and the observation then."""
        reward, discount, at = np.zeros(len(row), np.float32), np.ones(len(row), np.float32), row.copy()
        going = np.ones(len(row), bool)
        for _ in range(steps):
            kind = self.rows["kind"][at]
            reward += going * discount * self.rows["reward"][at]
            discount = np.where(going, np.where(kind == TERMINAL, 0, discount * gamma), discount).astype(np.float32)
            at = np.where(going, (at + 1) % self.size, at)
            going &= kind == GOES_ON
        return {"reward": reward, "discount": discount} | self._seen("next_observation", at)

    def _seen(self, name: str, row: NDArray[np.intp]) -> dict[str, Any]:
        prefix = "seen_"
        return {name: {k.removeprefix(prefix): v[row] for k, v in self.rows.items() if k.startswith(prefix)}}

    def state(self) -> dict[str, Any]:
        """Where it stands; with a folder the rows stay there."""
        if self.folder is not None:
            for rows in self.rows.values():
                rows.flush()  # type: ignore[attr-defined]
            self.saved = self.added
            return {"added": self.added}
        kept = min(self.added, self.size)
        return {"added": self.added, "rows": {name: rows[:kept].copy() for name, rows in self.rows.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises: Failure, if the rows are not in the folder any more."""
        if self.new and self.folder is not None and state["added"]:
            for path in self.folder.glob("*.npy"):
                path.unlink()
            raise Failure(f"the replay memory is no longer in {self.folder}: put it back, or train in another folder")
        self.added = self.saved = state["added"]
        self._index = None
        for name, rows in state.get("rows", {}).items():
            self.rows[name][: len(rows)] = rows


LAST, GOES_ON, TERMINAL, CUT = range(4)
"""Kinds of rows: no step leaves it; its step goes on, ends the episode, or is its last by the time limit."""


def _rows(folder: Path | None, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    if folder is None:
        return np.zeros(shape, dtype)
    path, size_gb = folder / f"{name}.npy", np.prod(shape) * np.dtype(dtype).itemsize / 1e9
    try:
        if path.is_file():
            rows = np.lib.format.open_memmap(path, mode="r+")
            if (rows.shape, rows.dtype) != (shape, np.dtype(dtype)):
                raise Failure(f"{path} is of another training or version of handeye: train in another folder")
            return rows
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _reserve(path)
        return rows
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise Failure(f"cannot keep {path} of the replay memory ({size_gb:.2g} GB): {told}") from error


def _reserve(path: Path) -> None:
    """Take the disk that a file says it has: a full one would end the process at some write. Raises: OSError."""
    # Not every system can.
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
