"""Replay memory: fixed-size arrays, written round and round, sampled uniformly."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Replay:
    """The last `capacity` rows of named arrays.

    Args:
        capacity: how many rows are kept.
        fields: the shape (without the row axis) and dtype of each.

    Raises:
        ValueError: no room for a single row.
    """

    def __init__(self, capacity: int, fields: Mapping[str, tuple[tuple[int, ...], type]]) -> None:
        if capacity < 1:
            raise ValueError(f"replay capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.rows: dict[str, NDArray] = {
            name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in fields.items()
        }
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, **rows: NDArray) -> None:
        """Append a batch of rows (N, …), over the oldest ones when full."""
        count = len(next(iter(rows.values())))
        where = np.arange(self.added, self.added + count) % self.capacity
        for name, value in rows.items():
            self.rows[name][where] = value
        self.added += count

    def sample(self, count: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """`count` rows drawn uniformly with replacement. Raises: ValueError on an empty memory."""
        if not len(self):
            raise ValueError("the replay memory is empty: collect before sampling")
        which = rng.integers(len(self), size=count)
        return {name: rows[which] for name, rows in self.rows.items()}

    def state(self) -> dict[str, Any]:
        return {"rows": {name: rows[: len(self)].copy() for name, rows in self.rows.items()}, "added": self.added}

    def load_state(self, state: dict[str, Any]) -> None:
        self.added = state["added"]
        for name, rows in state["rows"].items():
            self.rows[name][: len(rows)] = rows
