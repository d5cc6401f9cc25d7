import numpy as np
import pytest
from PIL import ImageColor

from handeye import cli, grasp_results, grasp_video, video
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig
from handeye.envs.rendering import CameraConfig

SEEDS = [1, 2, 3]
CONFIG = GraspConfig(world=BinConfig(models=2, placements=1), observe="objects")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(grasp_video, "VIEW", CameraConfig(camera="shoulder", width_px=64, height_px=48))
    monkeypatch.setattr(grasp_results, "world_of", lambda objects, like: CONFIG.world)


def panel(frame, i):
    """The picture of episode i of a frame."""
    left = video_left(i)
    view = grasp_video.VIEW
    return np.asarray(
        frame.crop((left, grasp_video.HEADER_PX, left + view.width_px, grasp_video.HEADER_PX + view.height_px))
    )


def video_left(i):
    return grasp_video.GAP_PX + i * (grasp_video.VIEW.width_px + grasp_video.GAP_PX)


def test_the_filmed_episodes_are_those_that_are_played():
    frames = grasp_video.film("grasp:scripted", CONFIG, SEEDS)
    played = list(grasp_results.play("grasp:scripted", CONFIG, SEEDS))
    assert len(frames) == max(len(episode.reward) for episode in played) + 1
    assert {frame.size for frame in frames} == {frames[0].size} and all(side % 2 == 0 for side in frames[0].size)
    for i, episode in enumerate(played):
        colour = ImageColor.getrgb(video.GOOD if episode.facts["is_success"][-1] else video.BAD)
        framed = [(panel(frame, i)[0, :] == colour).all() for frame in frames]
        assert framed == [step >= len(episode.reward) for step in range(len(frames))]
        last = len(episode.reward)
        assert all((panel(frame, i) == panel(frames[-1], i)).all() for frame in frames[last:])
        assert (panel(frames[0], i) != panel(frames[last - 1], i)).any()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (4, 4), (5, 3), (6, 3), (7, 4), (8, 4)])
def test_a_sheet_is_as_full_as_can_be(count, columns):
    assert grasp_video._columns(count) == columns


def test_a_caption_says_the_step_and_how_it_ended():
    episode = next(grasp_results.play("grasp:oracle", CONFIG, [1]))
    length = len(episode.reward)
    assert grasp_video._caption(2, episode) == ("step 2", video.QUIET)
    assert grasp_video._caption(length + 3, episode) == (f"step {length}   grasped", video.GOOD)
    last = dict(episode.facts, is_success=np.zeros(length + 1), rose=np.ones(length + 1))
    assert grasp_video._caption(length, episode._replace(facts=last)) == (f"step {length}   slipped", video.BAD)


def test_an_evaluation_can_be_filmed(tmp_path, monkeypatch, capsys):
    wrote = []
    monkeypatch.setattr(grasp_video, "write", lambda path, frames, frame_ms: wrote.append((path, frames, frame_ms)))
    film = tmp_path / "o.gif"
    assert cli.main(["evaluate", "grasp:oracle", "--episodes", "9", "--json", "-", "--video", str(film)]) == 0
    path, frames, frame_ms = wrote[0]
    view = grasp_video.VIEW
    assert (path, frame_ms) == (film, grasp_video.FRAME_MS)
    assert frames[0].size[0] == 4 * (view.width_px + grasp_video.GAP_PX) + grasp_video.GAP_PX
    assert cli.main(["evaluate", "grasp:oracle", "--video", "o.avi"]) == 2
    assert "a video must end in .gif, .webp, .mp4" in capsys.readouterr().err
