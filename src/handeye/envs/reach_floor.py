"""The best that any policy could do on a trial: a search over the lattice of poses that the actions reach."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from handeye import planar_arm
from handeye.envs.reaching import PlanarReachConfig
from handeye.errors import Misuse


@njit(cache=True)
def _at_limit(levers, joint, rest_rad, target):  # type: ignore[no-untyped-def]
    """Distance where a step runs into a limit: the links from `joint` on turn by what is left to it."""
    cos, sin = np.cos(rest_rad), np.sin(rest_rad)
    x, y = -target[0], -target[1]
    for link in range(3):
        if link < joint:
            x, y = x + levers[link][0], y + levers[link][1]
        else:
            x, y = x + levers[link][0] * cos + levers[link][1] * sin, y + levers[link][1] * cos - levers[link][0] * sin
    return np.sqrt(x * x + y * y)


@njit(cache=True)
def _search(hands, sizes, start, rests, target, radius, needed, max_steps):  # type: ignore[no-untyped-def]
    """Breadth first over (pose, consecutive steps within the radius); least distance of any state visited."""
    n0, n1, n2 = sizes
    first, second, third = hands
    seen = np.zeros((n0, n1, n2), np.uint64)
    # A pose beyond the radius has one state; within it, at most one for each count.
    frontier = np.empty((n0 * n1 * n2 + 1, 4), np.int16)
    fresh = np.empty_like(frontier)
    frontier[0, 0], frontier[0, 1], frontier[0, 2], frontier[0, 3] = start[0], start[1], start[2], 0
    seen[start[0], start[1], start[2]] = np.uint64(1)
    count, best = 1, np.inf
    for _ in range(max_steps):
        found = 0
        for f in range(count):
            for move in range(7):
                i, j, k, run = frontier[f, 0], frontier[f, 1], frontier[f, 2], frontier[f, 3]
                way = 1 if move % 2 else -1
                if move < 2:
                    i += way
                elif move < 4:
                    j += way
                elif move < 6:
                    k += way
                if not (0 <= i < n0 and 0 <= j < n1 and 0 <= k < n2):
                    i, j, k = frontier[f, 0], frontier[f, 1], frontier[f, 2]
                    levers = (first[i], second[i + j], third[i + j + k])
                    best = min(best, _at_limit(levers, move // 2, rests[move // 2, move % 2], target))
                    continue
                x = first[i, 0] + second[i + j, 0] + third[i + j + k, 0] - target[0]
                y = first[i, 1] + second[i + j, 1] + third[i + j + k, 1] - target[1]
                distance = np.sqrt(x * x + y * y)
                now = run + 1 if distance <= radius else 0
                mark = np.uint64(1) << np.uint64(now)
                if seen[i, j, k] & mark:
                    continue
                seen[i, j, k] |= mark
                best = min(best, distance)
                if now < needed and found < len(fresh):
                    fresh[found, 0], fresh[found, 1], fresh[found, 2], fresh[found, 3] = i, j, k, now
                    found += 1
        frontier, fresh, count = fresh, frontier, found
        if not count:
            break
    return best


@njit(parallel=True, cache=True)
def _search_all(firsts, seconds, thirds, sizes, starts, rests, targets, radius, needed, max_steps):  # type: ignore[no-untyped-def]
    best = np.empty(len(targets))
    for n in prange(len(targets)):
        hands = (firsts[n], seconds[n], thirds[n])
        size = (sizes[n, 0], sizes[n, 1], sizes[n, 2])
        best[n] = _search(hands, size, starts[n], rests[n], targets[n], radius, needed, max_steps)
    return best


def floor_m(joints_rad: NDArray, target_m: NDArray, config: PlanarReachConfig) -> NDArray[np.float64]:
    """Least final distance (M,) in metres that any policy could reach, under the rules of `config`.

    Exact over the poses q₀ + k · step within the limits, including that a trial ends after so many steps within δ (a
    policy that walks slowly through the zone is stopped in it) and at a limit, where the last step is cut short.

    Args:
        joints_rad: start poses (M, 3).
        target_m: targets (M, 2).
    """
    joints_rad, target_m = np.asarray(joints_rad, np.float64), np.asarray(target_m, np.float64)
    if config.success_steps > 62:
        raise Misuse(f"the search handles success_steps up to 62, got {config.success_steps}")
    below = np.floor((joints_rad - planar_arm.LOWER_RAD) / config.step_rad + 1e-9).astype(np.int64)
    above = np.floor((planar_arm.UPPER_RAD - joints_rad) / config.step_rad + 1e-9).astype(np.int64)
    sizes = below + above + 1
    to_lower = planar_arm.LOWER_RAD - (joints_rad - below * config.step_rad)
    to_upper = planar_arm.UPPER_RAD - (joints_rad + above * config.step_rad)
    lowest = np.cumsum(joints_rad - below * config.step_rad, axis=1)
    # The hand is a sum of three link vectors whose headings step through i, i + j and i + j + k.
    length = int(sizes.sum(axis=1).max())
    heading = lowest[:, :, None] + np.arange(length) * config.step_rad
    along, down = planar_arm.LINK_ALONG_M[:, None], planar_arm.LINK_DOWN_M[:, None]
    x = along * np.cos(heading) - down * np.sin(heading)
    y = -along * np.sin(heading) - down * np.cos(heading)
    tables = np.stack([x, y], axis=-1)
    first, second, third = (np.ascontiguousarray(tables[:, link]) for link in range(3))
    return _search_all(
        first, second, third, sizes, below, np.stack([to_lower, to_upper], axis=-1), target_m,
        config.success_radius_m, config.success_steps, config.max_steps,
    )  # fmt: skip
