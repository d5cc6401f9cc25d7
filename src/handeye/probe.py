"""`handeye probe`: the heights of the bin, and how far commanded moves of the gripper really go."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from handeye.envs import scene
from handeye.envs.bin import FIRST, Bin
from handeye.envs.grasping import GraspConfig

MOVES = {"x": 0, "y": 1, "z": 2, "yaw": 3}
ASIDE_M = np.array([0.0, 0.32, 0.05])
"""Where the one object lies, beside the tray: the tray is empty."""
PLACES_M = {"free": 0.20, "floor": 0.02}
"""Heights from which moves are tried."""
ARRIVE_S = 1.0


def heights_m(config: GraspConfig) -> dict[str, float]:
    """The task's heights in metres, above the tray's bottom."""
    world = config.world
    return {
        "lowest (fingertips)": world.lowest_m,
        "bottom": config.bottom_m,
        "tray walls": scene.WALL_HEIGHT_M,
        "fingers' length": scene.FINGER_M,
        "lift of a success (above where the object lay)": config.lift_m,
        "stop": config.stop_height_m,
        "easiest start": world.easy_start_m,
        "start, from": world.start_m[0],
        "start, to": world.start_m[1],
        "highest (fingertips)": world.highest_m,
    }


def moves(config: GraspConfig) -> list[dict[str, Any]]:
    """Rows {"where", "fingers", "axis", "sent", "allowed", "step", "end", "astray"}, metres and rad.

    `allowed`: as far as the limits let it be sent; `step` and `end`: how far it went along the axis, by the end of the
    step and when it had come to rest; `astray`: across the axes (m) by the end of the step.
    """
    rows = _rows(config)
    bins, everyone = _at_places(config, rows), np.arange(len(rows))
    axis = np.array([MOVES[row["axis"]] for row in rows])
    command = np.zeros((len(rows), 4))
    command[everyone, axis] = [row["sent"] for row in rows]
    start, sent_from = _pose(bins), bins.gripper.copy()
    bins.step(everyone, command, bins.closed.copy())
    step = _moved(start, _pose(bins))
    bins.glide(everyone, bins.gripper.copy(), ARRIVE_S)
    end, allowed = _moved(start, _pose(bins)), bins.gripper - sent_from
    across = np.where(axis[:, None] == np.arange(3), 0, step[:, :3])
    for i, (row, k) in enumerate(zip(rows, axis, strict=True)):
        row |= {"allowed": float(allowed[i, k]), "step": float(step[i, k]), "end": float(end[i, k])}
        row["astray"] = float(np.linalg.norm(across[i]))
    return rows


def _rows(config: GraspConfig) -> list[dict[str, Any]]:
    return [
        {
            "where": where,
            "fingers": fingers,
            "axis": axis,
            "sent": sign * (config.turn_rad if k == 3 else config.move_m),
        }
        for where in PLACES_M
        for fingers in ("open", "closed")
        for axis, k in MOVES.items()
        for sign in (1, -1)
    ]


def _at_places(config: GraspConfig, rows: list[dict[str, Any]]) -> Bin:
    """An empty tray for each row, its gripper at rest where the row begins."""
    bins, ids = Bin(len(rows), replace(config.world, objects=1, models=1, placements=1)), np.arange(len(rows))
    bins.reset(ids, [np.random.default_rng(0) for _ in ids])
    bins.qpos[:, FIRST : FIRST + 3] = scene.ORIGIN_M + ASIDE_M
    bins.closed[:] = [row["fingers"] == "closed" for row in rows]
    goal = np.zeros((len(rows), 4))
    goal[:, 2] = [PLACES_M[row["where"]] for row in rows]
    bins.glide(ids, goal, ARRIVE_S)
    bins.glide(ids, goal, ARRIVE_S)
    return bins


def _pose(bins: Bin) -> tuple[NDArray, NDArray]:
    """The fingertips' places (N, 3) and the hand's axes (N, 3, 3)."""
    index = scene.CAMERA_NAMES.index("wrist")
    return bins.tip_m.copy(), bins.cam_mat[:, index].reshape(-1, 3, 3).copy()


def _moved(before: tuple[NDArray, NDArray], after: tuple[NDArray, NDArray]) -> NDArray:
    """Displacement and rotation about the vertical (N, 4) between two poses."""
    turn = after[1] @ before[1].transpose(0, 2, 1)
    return np.column_stack([after[0] - before[0], np.arctan2(turn[:, 1, 0], turn[:, 0, 0])])


def show(config: GraspConfig, rows: list[dict[str, Any]], console: Console) -> None:
    """Print both tables."""
    heights = Table("height above the tray's bottom", "m")
    for name, value in heights_m(config).items():
        heights.add_row(name, f"{value:.3f}")
    table = Table(*rows[0], title=f"one step of {config.world.step_s} s, m and rad")
    for row in rows:
        table.add_row(*(f"{v:+.4f}" if isinstance(v, float) else v for v in row.values()))
    console.print(heights, table)
