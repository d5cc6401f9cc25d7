import builtins

import numpy as np
import pytest
from PIL import Image

import tiny_runs
from handeye import reach, reach_results, reach_video, video
from handeye.errors import Failure, Misuse

START = 2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_runs.make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def frames(tiny):
    return reach_video.film(reach_video.find_actor(str(tiny)), reach_results.choose_trials(START, None), "sim")


def test_one_frame_for_every_state_and_all_of_one_size(frames):
    assert len(frames) == tiny_runs.SHORT.env.max_steps + 1
    assert {frame.size for frame in frames} == {frames[0].size}
    assert all(side % 2 == 0 for side in frames[0].size)


def test_frame_shows_the_picture_that_the_network_sees(frames):
    trials = reach_results.choose_trials(START, None)
    first = reach.reach_pictures.draw(trials["target_m"], trials["joints_rad"])[0]
    left = 2 * reach_video.GAP_PX + reach_video.PANEL_PX + reach_video.GAP_PX
    panel = frames[0].crop(
        (left, reach_video.HEADER_PX, left + reach_video.PANEL_PX, reach_video.HEADER_PX + reach_video.PANEL_PX)
    )
    shown = np.asarray(panel.convert("L"))[1::3, 1::3]
    np.testing.assert_array_equal(shown, first)


def test_belief_is_drawn_for_networks_and_not_for_the_guide(frames):
    world = reach_video.film(reach_video.find_actor("reach:guide"), reach_results.choose_trials(1, None), "sim")
    belief = np.array([220, 30, 90])

    def marked(frame):
        below = np.asarray(frame)[reach_video.HEADER_PX :].astype(int)
        return int((np.abs(below - belief).sum(-1) < 40).sum())

    assert marked(frames[-1]) > 100
    assert marked(world[-1]) == 0


def test_long_trials_are_thinned_but_keep_their_end():
    actor = reach_video.Actor("still", lambda env: lambda observation: np.full(env.num_envs, 1))
    frames = reach_video.film(actor, reach_results.choose_trials(1, None), "sim")
    assert 100 <= len(frames) <= reach_video.MOST_FRAMES + 1


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_play_every_frame(tmp_path, frames, suffix):
    path = tmp_path / f"trials{suffix}"
    video.write(path, frames)
    with Image.open(path) as image:
        assert image.size == frames[0].size
        assert 2 <= image.n_frames <= len(frames)
        assert image.info["loop"] == 0


def test_mp4_holds_the_last_frame(tmp_path, frames):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "trials.mp4"
    video.write(path, frames)
    count, _ = ffmpeg.count_frames_and_secs(str(path))
    assert count == len(frames) + round(video.HOLD_MS / video.FRAME_MS)


def test_mp4_without_its_package_says_what_to_install(tmp_path, frames, monkeypatch):
    usual = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "imageio_ffmpeg":
            raise ImportError(name)
        return usual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(Failure, match=r"handeye\[video\]"):
        video.write(tmp_path / "trials.mp4", frames)
    assert list(tmp_path.iterdir()) == []


def test_other_suffixes_are_refused_before_any_work(tmp_path):
    with pytest.raises(Misuse, match=r"\.gif, \.webp, \.mp4.*'trials\.avi'"):
        reach_video.write_trials("no such checkpoint", None, "sim", tmp_path / "trials.avi")


def test_fresh_trials_differ_and_the_same_seed_gives_the_same_bytes(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(reach_video, "TRIALS", 1)
    content = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        reach_video.write_trials(str(tiny), seed, "camera", tmp_path / f"{name}.webp")
        content.append((tmp_path / f"{name}.webp").read_bytes())
    assert content[0] == content[1] != content[2]
    assert len(list(tmp_path.iterdir())) == 3
