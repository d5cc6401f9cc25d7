import errno
import json
import os
import pickle
import subprocess
import sys
from itertools import count as numbers

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handeye import episodes
from handeye.episodes import About, EpisodeWriter, count, read_column, read_episodes, read_manifest
from handeye.errors import Failure, Misuse
from handeye.types import Episode, Provenance

ABOUT = About("toy", "still", {"size": (2, 3)})


def episode(seed=0, length=3, side=4, **parts):
    rng = np.random.default_rng(seed)
    seen = {
        "image": rng.integers(256, size=(length + 1, side, side, 3)).astype(np.uint8),
        "state": rng.random((length + 1, 2), np.float32),
    }
    facts = {"is_success": rng.random(length + 1) > 0.5, "held": rng.integers(5, size=length + 1)}
    origin = Provenance(seed, 7 * seed, "toy", "still")
    whole = Episode(seen, rng.random((length, 3)), rng.random(length, np.float32), seed % 2 == 0, True, facts, origin)
    return whole._replace(**parts)


def same(ours, theirs):
    """Whether two episodes are equal to the byte."""
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(a, np.ndarray):
            a, b = {"": a}, {"": b}
        if isinstance(a, dict):
            equal = a.keys() == b.keys() and all(
                a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
            )
        else:
            equal = type(a) is type(b) and a == b
        if not equal:
            return False
    return True


def store(folder, *kept, about=ABOUT):
    with EpisodeWriter(folder, about) as writer:
        writer.add(kept)


def shards(folder):
    return sorted(path.name for path in folder.glob("*.npz"))


def three_shards(folder, monkeypatch):
    """A store of six episodes, two a shard."""
    monkeypatch.setattr(episodes, "SHARD_EPISODES", 2)
    kept = [episode(seed) for seed in range(6)]
    store(folder, *kept)
    return kept


# What is written is read


@given(st.lists(st.lists(st.integers(1, 5), max_size=5), max_size=4), st.integers(1, 4))
def test_whatever_is_appended_comes_back_in_order(tmp_path_factory, sessions, per_shard):
    folder, kept, seed = tmp_path_factory.mktemp("store"), [], numbers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(episodes, "SHARD_EPISODES", per_shard)
        for lengths in sessions:
            added = [episode(next(seed), length) for length in lengths]
            store(folder, *added)
            kept += added
    if not kept:
        with pytest.raises(Failure, match=r"no episodes in .*: it has no manifest\.json"):
            read_episodes(folder)
        return
    back = list(read_episodes(folder))
    assert len(back) == count(folder) == len(kept) and all(map(same, back, kept))


def test_one_column_is_read_alone(tmp_path, monkeypatch):
    kept = three_shards(tmp_path, monkeypatch)
    assert read_column(tmp_path, "seed").tolist() == list(range(6))
    assert (read_column(tmp_path, "facts/held") == np.concatenate([e.facts["held"] for e in kept])).all()
    with pytest.raises(Misuse, match=r"no field 'colour'; there are observation/image, observation/state"):
        read_column(tmp_path, "colour")


def test_a_shard_is_numpy_s_own_and_needs_no_handeye(tmp_path):
    kept = [episode(1, 2), episode(2, 4)]
    store(tmp_path, *kept)
    shard = np.load(tmp_path / "000000.npz")
    second = slice(shard["length"][0] + 1, None)
    assert (shard["observation/image"][second] == kept[1].observation["image"]).all()
    said = json.loads((tmp_path / "manifest.json").read_text())
    assert said["about"] == {"environment": "toy", "policy": "still", "config": {"size": [2, 3]}}
    assert said["fields"]["observation/image"] == {"dtype": "uint8", "shape": [4, 4, 3], "rows": "observations"}


def test_the_same_episodes_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        store(tmp_path / name, episode(1), episode(2))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_shard_is_bounded_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(episodes, "SHARD_BYTES", 1000)
    store(tmp_path, *(episode(seed, side=16) for seed in range(3)))
    assert len(shards(tmp_path)) == 3


def test_reading_is_lazy(tmp_path, monkeypatch):
    three_shards(tmp_path, monkeypatch)
    reading = read_episodes(tmp_path)
    next(reading)
    (tmp_path / "000002.npz").write_bytes(b"no shard")
    for _ in range(3):
        next(reading)
    with pytest.raises(Failure, match=r"000002\.npz"):
        next(reading)


# Only what fits


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (episode(9, side=5), r"observation/image\.shape was \[4, 4, 3\], is \[5, 5, 3\]"),
        (episode(9, action=np.zeros((3, 3), np.float32)), r"action\.dtype was float64, is float32"),
        (episode(9, facts={}), r"facts/held was .*, is None"),
        (episode(9, provenance=Provenance(policy="bold")), "an episode of bold in .* of still in toy"),
        (episode(9, reward=np.zeros(2, np.float32)), "in an episode of 2 steps .* must be 3 rows of numbers"),
        (episode(9, action=np.array([None] * 3)), "action must be 3 rows of numbers, got object"),
    ],
)
def test_other_episodes_are_refused_and_the_store_stays(tmp_path, wrong, message):
    with EpisodeWriter(tmp_path, ABOUT) as writer:
        writer.add([episode(1)])
        with pytest.raises(Misuse, match=message):
            writer.add([wrong])
    assert count(tmp_path) == 1


def test_a_store_about_something_else_is_not_continued(tmp_path):
    store(tmp_path, episode())
    with pytest.raises(
        Misuse, match=r"holds other episodes: config\.size was \[2, 3\], is \[2, 4\]; policy was still, is"
    ):
        EpisodeWriter(tmp_path, About("toy", "bold", {"size": (2, 4)}))
    store(tmp_path, episode(1))
    assert count(tmp_path) == 2


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(Failure, match="not empty and holds no episodes"):
        EpisodeWriter(tmp_path, ABOUT)
    with pytest.raises(Failure, match="cannot write episodes to"):
        EpisodeWriter(tmp_path / "note", ABOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_one_writer_at_a_time(tmp_path):
    with EpisodeWriter(tmp_path, ABOUT):
        with pytest.raises(Failure, match="another process is writing"):
            EpisodeWriter(tmp_path, ABOUT)
    store(tmp_path, episode())
    assert count(tmp_path) == 1


# Kills, full disks, corruption


@given(st.floats(0, 0.999))
def test_a_last_shard_cut_short_was_never_finished(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        kept = three_shards(folder, patch)
        last = folder / "000002.npz"
        content = last.read_bytes()
        last.write_bytes(content[: int(share * len(content))])
        assert count(folder) == 4
        store(folder, *kept[4:])
    assert last.read_bytes() == content


def test_an_earlier_shard_cut_short_or_missing_is_named(tmp_path, monkeypatch):
    three_shards(tmp_path, monkeypatch)
    middle = tmp_path / "000001.npz"
    middle.write_bytes(middle.read_bytes()[:-30])
    with pytest.raises(Failure, match=r"000001\.npz is corrupt"):
        list(read_episodes(tmp_path))
    middle.unlink()
    with pytest.raises(Failure, match=r"000001\.npz is missing"):
        list(read_episodes(tmp_path))


@given(st.floats(0, 0.9999), st.integers(1, 255))
def test_a_changed_byte_never_changes_an_episode(tmp_path_factory, share, change):
    folder = tmp_path_factory.mktemp("store")
    kept = [episode(1, 2), episode(2, 1)]
    store(folder, *kept)
    path = folder / "000000.npz"
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= change
    path.write_bytes(content)
    try:
        back = list(read_episodes(folder))
    except Failure as error:
        assert "000000.npz is corrupt" in str(error)
    else:
        # Where only a note of the archive changed, or its end, so that the shard looks unfinished.
        assert back == [] or all(map(same, back, kept))


class Trap:
    def __reduce__(self):
        return (os.abort, ())


def swap(folder, **arrays):
    """Replace fields of the shard in `folder`."""
    with np.load(folder / "000000.npz") as shard:
        held = dict(shard) | arrays
    np.savez_compressed(folder / "000000.npz", **held)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"action": np.array([Trap()] * 3)}, "allow_pickle"),
        ({"reward": np.zeros(3)}, r"reward\.dtype was float32, is float64"),
        ({"reward": np.zeros(9, np.float32)}, "reward has 9 rows, its episodes 3"),
        ({"length": np.zeros(1, np.int32)}, "an episode of 0 steps"),
        ({"colour": np.zeros(3)}, "other fields than the manifest says"),
    ],
)
def test_foreign_shards_are_refused_and_nothing_is_unpickled(tmp_path, arrays, message):
    store(tmp_path, episode())
    swap(tmp_path, **arrays)
    with pytest.raises(Failure, match=rf"000000\.npz is corrupt or no shard of this store \(.*{message}"):
        list(read_episodes(tmp_path))


@pytest.mark.parametrize("content", [b"hello" * 9, bytes(100), pickle.dumps(Trap())])
def test_files_that_are_no_shard_are_refused(tmp_path, content):
    store(tmp_path, episode())
    (tmp_path / "000000.npz").write_bytes(content)
    with pytest.raises(Failure, match="corrupt or no shard"):
        count(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "its format is 'other'"),
        ({"version": 99}, "it has version 99, this handeye reads 1"),
        ({"about": {}}, "missing"),
        ({"fields": {}}, "it lacks action, length, reward"),
        ({"fields": []}, "no manifest"),
    ],
)
def test_other_manifests_are_refused(tmp_path, change, message):
    store(tmp_path, episode())
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Failure, match=rf"manifest\.json is no manifest of episodes.*{message}|no manifest"):
        read_manifest(tmp_path)


def test_a_full_disk_leaves_a_store_that_can_be_continued(tmp_path, monkeypatch):
    kept = three_shards(tmp_path, monkeypatch)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(Failure, match=r"cannot write .*000003\.npz: No space left on device"):
            store(tmp_path, episode(6), episode(7), episode(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == [*shards(tmp_path), "manifest.json"]
    assert all(map(same, read_episodes(tmp_path), kept)) and count(tmp_path) == 6
    store(tmp_path, episode(6))
    assert read_column(tmp_path, "seed").tolist() == list(range(7))


def test_an_error_on_the_way_keeps_what_was_added(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with EpisodeWriter(tmp_path, ABOUT) as writer:
            writer.add([episode()])
            raise ZeroDivisionError
    assert count(tmp_path) == 1


def test_a_collecting_process_never_loads_torch():
    program = "import sys, handeye.collect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=100).returncode == 0
