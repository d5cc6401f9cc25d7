import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from handeye.errors import Failure
from handeye.frames import FrameReplay
from handeye.types import Episode

FIELDS = {"image": ((2, 2, 1), np.uint8), "state": ((1,), np.float32)}


def episode(number, length, terminated=True):
    """Whose frame t of episode n shows n, and says 100 n + t; step t has reward t, action 100 n + t."""
    steps = np.arange(length + 1)
    image = np.full((length + 1, 2, 2, 1), number, np.uint8)
    observation = {"image": image, "state": (100 * number + steps)[:, None].astype(np.float32)}
    reward = np.where(np.arange(length) == length - 1, 1.0, -0.05).astype(np.float32)
    action = (100 * number + steps[:-1])[:, None].astype(np.float32)
    return Episode(observation, action, reward, terminated, not terminated, {})


def filled(*episodes, capacity=100, **options):
    replay = FrameReplay(capacity, FIELDS, 1, **options)
    replay.add(episodes)
    return replay


def sampled(replay, count=500, seed=0, **options):
    return replay.sample(count, np.random.default_rng(seed), 0.9, **options)


def test_every_step_leads_to_the_frame_after_it_in_its_own_episode():
    batch = sampled(filled(episode(1, 3), episode(2, 5), episode(3, 1)))
    now, then = batch["observation"]["state"][:, 0], batch["next_observation"]["state"][:, 0]
    assert_allclose(then, now + 1)
    assert_allclose(batch["action"][:, 0], now)
    assert set(now) == {100, 101, 102, 200, 201, 202, 203, 204, 300}
    assert (batch["observation"]["image"][:, 0, 0, 0] == now // 100).all()


def test_a_terminal_step_has_no_future_and_a_time_limit_has():
    batch = sampled(filled(episode(1, 2, terminated=True), episode(2, 2, terminated=False)))
    at = batch["observation"]["state"][:, 0]
    assert (batch["discount"][at == 101] == 0).all()
    assert_allclose(batch["discount"][at != 101], 0.9)


def test_two_steps_ahead_by_hand():
    batch = sampled(filled(episode(1, 3), episode(2, 1, terminated=False)), steps=2)
    at = batch["observation"]["state"][:, 0]
    # From step 0 of three: -0.05 - 0.9 · 0.05, then 0.81 V(frame 2); from step 1 the end is reached.
    expected = {100: (-0.095, 0.81, 102), 101: (-0.05 + 0.9, 0, 103), 102: (1, 0, 103), 200: (1, 0.9, 201)}
    for where, (reward, discount, then) in expected.items():
        assert_allclose(batch["reward"][at == where], reward, rtol=1e-6)
        assert_allclose(batch["discount"][at == where], discount, rtol=1e-6)
        assert (batch["next_observation"]["state"][at == where, 0] == then).all()


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=30), capacity=st.integers(8, 20), slack=st.integers(0, 9)
)
@settings(max_examples=40, deadline=None)
def test_old_episodes_go_and_what_is_left_is_whole(lengths, capacity, slack):
    replay = FrameReplay(capacity, FIELDS, 1, slack=slack)
    for number, length in enumerate(lengths):
        replay.add([episode(number % 100, length)])
    batch = sampled(replay, 200)
    now, then = batch["observation"]["state"][:, 0], batch["next_observation"]["state"][:, 0]
    assert_allclose(then, now + 1)
    frames = sum(length + 1 for length in lengths)
    assert replay.added == frames and len(replay) <= min(frames, capacity)
    assert (100 * ((len(lengths) - 1) % 100) == now - now % 100).any()


def test_every_step_knows_the_outcome_of_its_episode():
    lost = episode(2, 3)._replace(reward=np.full(3, -0.05, np.float32))
    batch = sampled(filled(episode(1, 4), lost))
    won = batch["observation"]["state"][:, 0] < 200
    assert won.any() and not won.all() and np.array_equal(batch["outcome"] == 1, won)


def test_a_share_of_rewarded_steps_is_kept():
    replay = filled(*(episode(n, 9) for n in range(9)))
    assert (sampled(replay, rewarded=0.5)["reward"] > 0).mean() > 0.5
    assert (sampled(replay)["reward"] > 0).mean() < 0.2


def test_an_empty_memory_says_so():
    with pytest.raises(ValueError, match="empty"):
        sampled(FrameReplay(10, FIELDS, 1))
    with pytest.raises(ValueError, match="1"):
        FrameReplay(1, FIELDS, 1)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_saved_memory_samples_the_same_again(tmp_path, on_disk):
    folder = tmp_path / "replay" if on_disk else None
    replay = FrameReplay(12, FIELDS, 1, folder, slack=8)
    replay.add([episode(1, 4), episode(2, 4), episode(3, 4)])
    saved, before = replay.state(), sampled(replay)
    # Written after the save by the process that is killed.
    replay.add([episode(4, 3)])
    again = FrameReplay(12, FIELDS, 1, folder, slack=8)
    again.load_state(saved)
    after = sampled(again)
    assert all(np.array_equal(before[key], after[key]) for key in ("row", "action", "reward", "discount"))
    assert np.array_equal(before["next_observation"]["image"], after["next_observation"]["image"])


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="replay"):
        FrameReplay(10, FIELDS, 1, tmp_path / "file" / "folder")


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=30), saves=st.integers(0, 20), slack=st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_what_a_saved_state_samples_stays_until_it_must_be_saved_again(tmp_path_factory, lengths, saves, slack):
    folder = tmp_path_factory.mktemp("replay")
    replay = FrameReplay(12, FIELDS, 1, folder, slack)
    for number, length in enumerate(lengths[:saves]):
        replay.add([episode(number, length)])
    saved, before = replay.state(), sampled(replay) if replay.added else None
    for number, length in enumerate(lengths[saves:]):
        if replay.must_save(length + 1):
            break
        replay.add([episode(100 + number, length)])
    again = FrameReplay(12, FIELDS, 1, folder, slack)
    again.load_state(saved)
    if before is not None:
        np.testing.assert_array_equal(sampled(again)["action"], before["action"])


def test_a_memory_that_is_gone_or_of_another_size_is_told(tmp_path):
    replay = FrameReplay(12, FIELDS, 1, tmp_path / "replay")
    replay.add([episode(1, 4)])
    saved = replay.state()
    with pytest.raises(Failure, match=r"image\.npy is of another training"):
        FrameReplay(13, FIELDS, 1, tmp_path / "replay")
    shutil.rmtree(tmp_path / "replay")
    for _ in range(2):
        with pytest.raises(Failure, match="the replay memory is no longer in"):
            FrameReplay(12, FIELDS, 1, tmp_path / "replay").load_state(saved)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room")
def test_room_is_taken_at_once_or_not_at_all(tmp_path, monkeypatch):
    FrameReplay(10_000, FIELDS, 1, tmp_path / "replay")
    path = tmp_path / "replay" / "seen_image.npy"
    assert path.stat().st_blocks * 512 >= 40_000

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(Failure, match=r"seen_image.npy of the replay memory \(4e-05 GB\): No space left on device"):
        FrameReplay(10_000, FIELDS, 1, tmp_path / "other")
