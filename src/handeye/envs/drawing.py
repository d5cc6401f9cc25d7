"""Anti-aliased pictures of tapered capsules, drawn for a whole batch at once."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


@njit(parallel=True, fastmath=True, cache=True)
def _paint(capsules: NDArray, grey: NDArray, canvas: NDArray) -> None:
    count, height, width = canvas.shape
    for n in prange(count):
        for p in range(capsules.shape[1]):
            x0, y0, x1, y1, r0, r1 = capsules[n, p]
            dx, dy, taper = x1 - x0, y1 - y0, r1 - r0
            scale = np.float32(1.0) / max(dx * dx + dy * dy, np.float32(1e-12))
            reach = max(r0, r1) + np.float32(1.0)
            top = max(int(min(y0, y1) - reach), 0)
            bottom = min(int(max(y0, y1) + reach) + 1, height)
            left = max(int(min(x0, x1) - reach), 0)
            right = min(int(max(x0, x1) + reach) + 1, width)
            for row in range(top, bottom):
                py = np.float32(row) + np.float32(0.5) - y0
                for column in range(left, right):
                    px = np.float32(column) + np.float32(0.5) - x0
                    along = min(max((px * dx + py * dy) * scale, np.float32(0.0)), np.float32(1.0))
                    ex, ey = px - along * dx, py - along * dy
                    inside = r0 + along * taper - np.sqrt(ex * ex + ey * ey)
                    cover = min(max(inside + np.float32(0.5), np.float32(0.0)), np.float32(1.0))
                    canvas[n, row, column] += cover * (grey[p] - canvas[n, row, column])


def paint(canvas: NDArray[np.float32], capsules: NDArray, grey: NDArray) -> None:
    """Paint capsules over a batch of pictures, in order, in place.

    A pixel's coverage is its centre's signed distance to the outline, in pixels, plus ½, clipped to [0, 1]:
    exact for straight edges along the axes, so motion far below a pixel shows.

    Args:
        canvas: (N, H, W) grey values, float32.
        capsules: (N, P, 6): x0, y0, x1, y1, radius at each end; pixels, from the upper left corner.
        grey: (P,) values painted.
    """
    _paint(np.ascontiguousarray(capsules, np.float32), np.ascontiguousarray(grey, np.float32), canvas)
