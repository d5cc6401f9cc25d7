import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from safetensors.torch import save_file

from handeye import checkpoint
from handeye.checkpoint import CheckpointError, load, save
from handeye.errors import Failure

arrays = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]).flatmap(
    lambda dtype: st_numpy.arrays(dtype, st_numpy.array_shapes(min_dims=0, min_side=0, max_side=4))
)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | arrays
keys = st.text().filter(lambda key: key != "__array__")
trees = st.recursive(leaves, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(keys, parts, max_size=3))


def same(ours, theirs):
    if isinstance(ours, np.ndarray | torch.Tensor):
        whole = type(ours) is type(theirs) and ours.dtype == theirs.dtype and ours.shape == theirs.shape
        return whole and np.array_equal(ours, theirs, equal_nan=ours.dtype != bool)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


@given(trees)
def test_any_tree_comes_back_as_it_was(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("round") / "c.safetensors"
    save(path, tree)
    assert same(load(path), tree)


def test_tensors_of_every_layout_come_back_equal(tmp_path):
    shared = torch.arange(24.0).reshape(1, 2, 3, 4)
    tree = {
        "view": shared[..., 1:3], "same": shared, "last": shared.contiguous(memory_format=torch.channels_last),
        "half": shared.half(), "brain": shared.bfloat16(), "leaf": torch.ones(3, requires_grad=True),
    }  # fmt: skip
    save(tmp_path / "c", tree)
    back = load(tmp_path / "c")
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in tree.items())
    assert back["last"].stride() == tree["last"].stride() != back["same"].stride()


def test_random_states_survive(tmp_path):
    rng = np.random.default_rng(5)
    save(tmp_path / "c", rng.bit_generator.state)
    twin = np.random.default_rng(0)
    twin.bit_generator.state = load(tmp_path / "c")
    assert (rng.random(9) == twin.random(9)).all()


def test_other_leaves_are_refused(tmp_path):
    with pytest.raises(TypeError, match="not PosixPath"):
        save(tmp_path / "c", {"where": Path("x")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 60, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, keep):
    save(tmp_path / "c", {"weights": torch.ones(1000)})
    content = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(CheckpointError, match="corrupt"):
        load(tmp_path / "c")


@pytest.mark.parametrize("content", [b"hello" * 100, b"\xff" * 100, b"PK\x03\x04" + bytes(99), pickle.dumps({"a": 1})])
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(CheckpointError, match="corrupt or not a safetensors file"):
        load(tmp_path / "c")


def test_other_peoples_safetensors_are_refused(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "c")
    with pytest.raises(CheckpointError, match="not a handeye checkpoint"):
        load(tmp_path / "c")


@pytest.mark.parametrize("skeleton", ["{", '{"__array__": "000009", "kind": "torch"}', '{"__array__": "000000"}'])
def test_safetensors_with_another_skeleton_are_refused(tmp_path, skeleton):
    save_file({"000000": torch.ones(2)}, tmp_path / "c", metadata={"handeye": skeleton})
    with pytest.raises(CheckpointError, match="corrupt"):
        load(tmp_path / "c")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(CheckpointError, match="no checkpoint file"):
            load(path)


def test_a_full_disk_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch):
    save(tmp_path / "c", {"step": 1})

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(Failure, match=r"cannot write .*No space left on device"):
        save(tmp_path / "c", {"step": 2})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert load(tmp_path / "c") == {"step": 1}


def test_a_crash_before_the_move_leaves_the_old_file(tmp_path, monkeypatch):
    save(tmp_path / "c", {"step": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "c", {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert load(tmp_path / "c") == {"step": 1}


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match=r"^cannot write .*"):
        save(tmp_path / "file" / "c", {})


def test_find_takes_files_run_folders_and_shipped_names(tmp_path):
    final = tmp_path / "run" / "checkpoints" / "final.safetensors"
    save(final, {})
    assert checkpoint.find(str(tmp_path / "run")) == checkpoint.find(str(final)) == final
    for name, path in checkpoint.shipped().items():
        assert checkpoint.find(name) == path
    final.unlink()
    with pytest.raises(CheckpointError, match="--resume"):
        checkpoint.find(str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match="'nowhere'"):
        checkpoint.find("nowhere")
