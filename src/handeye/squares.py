"""Small squares of many pictures of the reaching task, each about a point of its own."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handeye.envs import reach_pictures

Grey = NDArray[np.float32]

COLUMN, ROW = np.meshgrid(np.arange(reach_pictures.SIZE_PX) + 0.5, np.arange(reach_pictures.SIZE_PX) + 0.5)
"""Where the middles of the pixels (H, W) are."""


def within(radius_px: float, centre_px: NDArray, column: NDArray = COLUMN, row: NDArray = ROW) -> NDArray[np.bool_]:
    """Which pixels (N, H, W), by default of whole pictures, have their middles within a radius of points (N, 2)."""
    x, y = centre_px[:, 0, None, None], centre_px[:, 1, None, None]
    return (column - x) ** 2 + (row - y) ** 2 <= radius_px**2


class Squares(NamedTuple):
    """The pixels about a point in each of N pictures: columns (N, 1, K) and rows (N, K, 1); some may be outside.

    A target is a hundredth of a picture: what is done to it is done here.
    """

    column: NDArray[np.intp]
    row: NDArray[np.intp]

    @classmethod
    def about(cls, centre_px: NDArray, radius_px: float) -> "Squares":
        """All whose middles may lie within a radius of points (N, 2)."""
        first = np.ceil(centre_px - 0.5 - radius_px).astype(int)
        reach = np.arange(int(2 * radius_px) + 1)
        return cls((first[:, :1] + reach)[:, None, :], (first[:, 1:] + reach)[:, :, None])

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which of them (N, K, K) are in the picture."""
        column, row = ((axis >= 0) & (axis < reach_pictures.SIZE_PX) for axis in self)
        return column & row

    def within(self, radius_px: float, centre_px: NDArray) -> NDArray[np.bool_]:
        """Which of them (N, K, K) are in the picture and within a radius of points (N, 2)."""
        return within(radius_px, centre_px, self.column + 0.5, self.row + 0.5) & self.inside

    def read(self, pictures: NDArray, which: NDArray[np.intp] | int) -> Grey:
        """Their grey (N, K, K) in pictures `which` (N,) of (M, H, W), or in one for all; 0 outside."""
        column, row = (np.clip(axis, 0, reach_pictures.SIZE_PX - 1) for axis in self)
        number = which if isinstance(which, int) else which[:, None, None]
        return pictures[number, row, column].astype(np.float32) * self.inside

    def read_shifted(self, pictures: NDArray, which: NDArray[np.intp] | int, by_px: NDArray) -> Grey:
        """The same, the pictures moved by (N, 2) pixels, x right and y down."""
        whole = np.floor(-by_px).astype(int)
        part = (-by_px - whole).astype(np.float32)[:, :, None, None]
        longer = (np.concatenate([axis, axis.max((1, 2), keepdims=True) + 1], 2 - i) for i, axis in enumerate(self))
        moved = Squares(*(axis + whole[:, i, None, None] for i, axis in enumerate(longer)))
        grey = moved.read(pictures, which)
        across = grey[:, :, :-1] + part[:, 0] * (grey[:, :, 1:] - grey[:, :, :-1])
        return across[:, :-1] + part[:, 1] * (across[:, 1:] - across[:, :-1])

    def put(self, pictures: Grey, grey: Grey, where: NDArray[np.bool_]) -> None:
        """Write the grey (N, K, K) of those in `where`, which are inside, into pictures (N, H, W)."""
        number, i, j = np.nonzero(where)
        pictures[number, self.row[number, i, 0], self.column[number, 0, j]] = grey[where]
