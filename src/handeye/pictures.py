"""Labelled pictures in a folder: `images/*.png` and `labels.csv`, one's own photographs included.

`labels.csv` starts with the header line `COLUMNS`; a row is a file name within `images/`, the target's position in
metres in the arm's frame, and the joint angles in radians. Pictures are 84×84 and grey.
"""

import csv
import math
import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from handeye import planar_arm
from handeye.errors import Failure
from handeye.types import FloatArray

COLUMNS = ("file", "target_x_m", "target_y_m", "s1_rad", "e1_rad", "w1_rad")
SIZE_PX = 84
# Measured labels may lie a little outside the ranges that the arm is told to keep.
SLACK = 0.05


class PictureError(Failure):
    """A picture folder with something wrong; the message lists every problem, with file and row."""


def need_new(folder: Path) -> None:
    """Raises: PictureError if the folder exists."""
    if folder.exists():
        raise PictureError(f"{folder} exists already: choose a new folder")


def write(folder: Path, pictures: NDArray[np.uint8], theta: FloatArray) -> None:
    """Write pictures (N, 84, 84) and their Θ (N, 5) as a new picture folder.

    Raises:
        PictureError: the folder exists, or cannot be written.
    """
    need_new(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        (partial / "images").mkdir(parents=True)
        _write_rows(partial, pictures, theta)
        partial.rename(folder)
    except OSError as error:
        raise PictureError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_rows(folder: Path, pictures: NDArray[np.uint8], theta: FloatArray) -> None:
    targets, joints = planar_arm.from_theta(theta)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for i, (picture, target, pose) in enumerate(zip(pictures, targets, joints, strict=True)):
            name = f"{i:06d}.png"
            Image.fromarray(picture).save(folder / "images" / name)
            rows.writerow([name, *(f"{value:.6f}" for value in (*target, *pose))])


def read(folder: Path) -> tuple[NDArray[np.uint8], FloatArray]:
    """Pictures (N, 84, 84) uint8 and Θ (N, 5) of a picture folder.

    Raises:
        PictureError: anything is wrong with any row; all problems are reported at once.
    """
    problems: list[str] = []
    rows = _read_rows(folder, problems)
    pictures, labels = [], []
    names: dict[str, int] = {}
    for number, row in rows:
        where = f"labels.csv row {number}"
        if row[0] in names:
            problems.append(f"{where}: {row[0]} was named before in row {names[row[0]]}")
        names.setdefault(row[0], number)
        label = _label(row, where, problems)
        picture = _picture(folder / "images" / row[0], where, problems)
        if label is not None and picture is not None:
            pictures.append(picture)
            labels.append(label)
    if not rows and not problems:
        problems.append("labels.csv: no rows")
    if problems:
        listed = "\n  ".join(problems)
        raise PictureError(f"{folder} has {len(problems)} problem{'s' * (len(problems) > 1)}:\n  {listed}")
    values = np.array(labels)
    return np.stack(pictures), planar_arm.to_theta(values[:, :2], values[:, 2:])


def _read_rows(folder: Path, problems: list[str]) -> list[tuple[int, list[str]]]:
    """The rows of the right length, with their line numbers."""
    path = folder / "labels.csv"
    try:
        # Spreadsheets begin a file with a mark of its encoding.
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.append(f"labels.csv: cannot be read ({error})")
        return []
    if not lines or tuple(lines[0]) != COLUMNS:
        found = ",".join(lines[0]) if lines else "nothing"
        problems.append(f"labels.csv row 1: the header must be {','.join(COLUMNS)}, got {found}")
        return []
    rows = []
    for number, row in enumerate(lines[1:], 2):
        if len(row) == len(COLUMNS):
            rows.append((number, row))
        elif row:
            problems.append(f"labels.csv row {number}: {len(row)} values, {len(COLUMNS)} needed")
    return rows


def _label(row: list[str], where: str, problems: list[str]) -> list[float] | None:
    values = []
    low = np.concatenate([planar_arm.TARGET_LOW_M, planar_arm.LOWER_RAD]) - SLACK
    high = np.concatenate([planar_arm.TARGET_HIGH_M, planar_arm.UPPER_RAD]) + SLACK
    for name, text, least, most in zip(COLUMNS[1:], row[1:], low, high, strict=True):
        try:
            value = float(text)
        except ValueError:
            problems.append(f"{where}: {name} is not a number: {text!r}")
            continue
        if not math.isfinite(value) or not least <= value <= most:
            problems.append(f"{where}: {name} must be in [{least:.3f}, {most:.3f}], got {text}")
            continue
        values.append(value)
    return values if len(values) == len(low) else None


def _picture(path: Path, where: str, problems: list[str]) -> NDArray[np.uint8] | None:
    try:
        with Image.open(path) as image:
            if image.size != (SIZE_PX, SIZE_PX):
                problems.append(f"{where}: {path.name} is {image.size[0]}×{image.size[1]}, must be {SIZE_PX}×{SIZE_PX}")
                return None
            if image.mode.startswith(("I", "F")):
                problems.append(f"{where}: {path.name} has more than 8 bits a pixel")
                return None
            return np.asarray(image.convert("L"))
    except FileNotFoundError:
        problems.append(f"{where}: images/{path.name} is missing")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        problems.append(f"{where}: images/{path.name} cannot be read ({error})")
    return None
