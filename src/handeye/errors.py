"""What can go wrong that a user can mend. Messages name the value and what is valid, in one line if they can."""

from typing import Any

EXTRAS = {
    "mujoco": "grasp",
    "mujoco_warp": "grasp",
    "warp": "grasp",
    "matplotlib": "report",
    "tensorboard": "tensorboard",
    "imageio_ffmpeg": "video",
    "ray": "ray",
}
"""What installs a module that not everybody needs: `pip install "handeye[EXTRA]"`."""


class Misuse(ValueError):
    """A value, name or option that means nothing here."""


class Failure(RuntimeError):
    """Something outside is not as it must be: a file, a folder, a disk, a package."""


class Interrupted(Failure):
    """The user stopped it; everything is saved."""


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())


def need(config: object, names: tuple[str, ...], low: float, high: float, above: bool = False) -> None:
    """Check fields of a configuration: finite, and in [`low`, `high`], or in (`low`, `high`] with `above`.

    Raises:
        Misuse: naming the field, its value and the range.
    """
    for name in names:
        value = getattr(config, name)
        if not (low < value if above else low <= value) or not value <= high:
            raise Misuse(f"{name} must be in {'(' if above else '['}{low:g}, {high:g}], got {value}")


def need_one_of(config: object, name: str, valid: tuple[str, ...]) -> None:
    """Raises: Misuse unless the field `name` is one of `valid`."""
    value = getattr(config, name)
    if value not in valid:
        raise Misuse(f"{name} must be one of {', '.join(valid)}, got {value!r}")


def need_unset(config: object, names: tuple[str, ...], path: str) -> None:
    """Check that fields of the configuration at `path` are as by default: stages and evaluations choose them.

    Raises:
        Misuse: naming the field and its value.
    """
    usual = type(config)()
    for name in names:
        if (value := getattr(config, name)) != getattr(usual, name):
            raise Misuse(f"{path}.{name} is chosen by each stage and each evaluation, got {value!r}: leave it out")


def differences(before: Any, now: Any, path: str = "") -> list[str]:
    """One line for each place where two trees of dictionaries differ: `a.b was 1, is 2`."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            line for key in keys for line in differences(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{path} was {before}, is {now}"]
