import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handeye.replay import Replay

FIELDS = {"x": ((2,), np.float32), "y": ((), np.int64)}


def batch(first, count):
    numbers = np.arange(first, first + count)
    return {"x": np.stack([numbers, -numbers], 1).astype(np.float32), "y": numbers}


@given(st.integers(1, 12), st.lists(st.integers(1, 12), max_size=8))
def test_the_last_rows_are_kept_whole(capacity, sizes):
    replay, added = Replay(capacity, FIELDS), 0
    for size in sizes:
        size = min(size, capacity)
        replay.add(**batch(added, size))
        added += size
    assert len(replay) == min(added, capacity)
    kept = replay.rows["y"][: len(replay)]
    assert sorted(kept) == list(range(max(added - capacity, 0), added))
    assert (replay.rows["x"][: len(replay), 1] == -kept).all()


def test_samples_are_uniform_rows_and_repeatable():
    replay = Replay(10, FIELDS)
    replay.add(**batch(0, 10))
    drawn = replay.sample(20_000, np.random.default_rng(0))
    assert (drawn["x"][:, 0] == drawn["y"]).all()
    assert np.abs(np.bincount(drawn["y"]) - 2000).max() < 200
    assert (replay.sample(20_000, np.random.default_rng(0))["y"] == drawn["y"]).all()


def test_a_part_filled_memory_never_gives_rows_that_were_not_written():
    replay = Replay(100, FIELDS)
    replay.add(**batch(5, 3))
    assert set(replay.sample(200, np.random.default_rng(0))["y"]) == {5, 6, 7}


@pytest.mark.parametrize("added", [3, 10, 14])
def test_state_resumes_exactly(added):
    replay, resumed = Replay(10, FIELDS), Replay(10, FIELDS)
    for first in range(added):
        replay.add(**batch(first, 1))
    resumed.load_state(replay.state())
    for memory in (replay, resumed):
        memory.add(**batch(90, 4))
    assert (replay.rows["y"] == resumed.rows["y"]).all()
    assert len(replay) == len(resumed)


def test_nothing_and_no_room_are_refused():
    with pytest.raises(ValueError, match="empty"):
        Replay(5, FIELDS).sample(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        Replay(0, FIELDS)
