"""Trees of arrays and plain values in one safetensors file, written whole or not at all. No pickle."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from handeye.errors import Failure
from handeye.files import write_whole

Tree = Any
"""Dictionaries and lists whose leaves are tensors, NumPy arrays, numbers, strings, booleans or None."""

_ARRAY = "__array__"
_KEY = "handeye"


class CheckpointError(Failure):
    """A file that cannot be read as a checkpoint; the message names it and says what to do."""


def save(path: Path | str, tree: Tree) -> None:
    """Write `tree` to `path` atomically.

    Raises:
        Failure: the file cannot be written.
        TypeError: a leaf is of another kind.
    """
    content = _to_bytes(tree)
    write_whole(Path(path), lambda partial: partial.write_bytes(content))


def size(tree: Tree) -> int:
    """Bytes of the file that `save` would write."""
    return len(_to_bytes(tree))


def load(path: Path | str) -> Tree:
    """Read what `save` wrote; NumPy leaves come back as NumPy, tensors as tensors.

    Raises:
        CheckpointError: missing, truncated, corrupt or not written by handeye.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            skeleton = (file.metadata() or {}).get(_KEY)
            if skeleton is None:
                raise CheckpointError(f"{path} is a safetensors file, but not a handeye checkpoint")
            return _put_arrays(json.loads(skeleton), file.get_tensor)
    except (SafetensorError, json.JSONDecodeError, KeyError, OSError) as error:
        raise CheckpointError(f"{path} is corrupt or not a safetensors file ({error})") from error


def shipped_folder() -> Path:
    """Where the package keeps the checkpoints that come with it."""
    return Path(str(resources.files("handeye") / "shipped"))


def shipped() -> dict[str, Path]:
    """Checkpoints that come with the package, by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.safetensors"))}


def find(name: str) -> Path:
    """The file of a checkpoint given by path, run folder or shipped name.

    Raises:
        CheckpointError: nothing is there (the message lists the shipped names), or a run or file here is called like
            a shipped one.
    """
    path = Path(name)
    if name in shipped():
        if path.is_file() or (path / "checkpoints").is_dir():
            raise CheckpointError(f"{name} is here, and shipped as well: say ./{name} for what is here, or rename it")
        return shipped()[name]
    if path.is_dir():
        path = path / "checkpoints" / "final.safetensors"
        if not path.is_file():
            raise CheckpointError(f"no finished checkpoint in {name} (looked for {path}): resume the run with --resume")
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {name!r}: give a file, a run folder, or one of {', '.join(shipped())}")
    return path


def task_of(name: str) -> str:
    """The task of a policy of the world, reach:… or grasp:…, or of a final checkpoint, given as to `find`.

    Raises:
        CheckpointError: nothing is there, or nothing that was trained to the end.
    """
    prefix, found, _ = name.partition(":")
    if found and prefix in ("reach", "grasp"):
        return prefix
    tree = load(find(name))
    task = tree.get("task") if isinstance(tree, dict) else None
    if not isinstance(task, str):
        raise CheckpointError(f"{name} is no final checkpoint: it names no task")
    return task


def _to_bytes(tree: Tree) -> bytes:
    tensors: dict[str, torch.Tensor] = {}
    skeleton = json.dumps(_take_arrays(tree, tensors), allow_nan=True)
    return to_bytes(tensors, metadata={_KEY: skeleton})


def _take_arrays(tree: Tree, tensors: dict[str, torch.Tensor]) -> Tree:
    """The JSON skeleton of `tree`; its arrays are moved to `tensors`."""
    if isinstance(tree, dict):
        return {str(key): _take_arrays(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_take_arrays(value, tensors) for value in tree]
    if isinstance(tree, torch.Tensor | np.ndarray):
        name, kind = f"{len(tensors):06d}", "torch" if isinstance(tree, torch.Tensor) else "numpy"
        # Copies, since tensors that share memory cannot be saved under two names.
        tensors[name] = torch.as_tensor(tree).detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_ARRAY: name, "kind": kind, "channels_last": _channels_last(tree)}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"a checkpoint holds arrays, numbers, strings and None, not {type(tree).__name__}")


def _channels_last(array: torch.Tensor | np.ndarray) -> bool:
    """The layout is kept, since a fused optimiser steps through weights and moments as they lie in memory."""
    if not isinstance(array, torch.Tensor) or array.ndim != 4:
        return False
    return array.is_contiguous(memory_format=torch.channels_last) and not array.is_contiguous()


def _put_arrays(skeleton: Tree, get: Callable[[str], torch.Tensor]) -> Tree:
    if isinstance(skeleton, dict) and _ARRAY in skeleton:
        tensor = get(skeleton[_ARRAY])
        if skeleton.get("channels_last"):
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.numpy() if skeleton["kind"] == "numpy" else tensor
    if isinstance(skeleton, dict):
        return {key: _put_arrays(value, get) for key, value in skeleton.items()}
    if isinstance(skeleton, list):
        return [_put_arrays(value, get) for value in skeleton]
    return skeleton
