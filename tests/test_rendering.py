import subprocess
import sys

import numpy as np
import pytest

from handeye.envs import rendering, scene
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.envs.rendering import CameraConfig
from handeye.errors import Misuse


@pytest.fixture(scope="module")
def env():
    ours = GraspVectorEnv(
        2, GraspConfig(world=BinConfig(models=2, placements=1), observe="objects"), "disabled", threads=1
    )
    ours.reset(seed=0)
    return ours


@pytest.mark.parametrize("camera", rendering.CAMERAS)
def test_colours_are_those_of_the_model(env, camera):
    view = CameraConfig(camera=camera, width_px=48, height_px=48)
    env.look.rgba[:, :6, :3] = [0.1, 0.9, 0.1]
    green = env.picture(view).astype(int).mean((0, 1, 2))
    env.look.rgba[:, :6, :3] = [0.9, 0.1, 0.1]
    red = env.picture(view).astype(int).mean((0, 1, 2))
    assert green[1] > 1.5 * green[0] and red[0] > 1.5 * red[1]


def test_no_frame_is_stale(env):
    view = CameraConfig(width_px=32, height_px=32)
    before = env.picture(view)
    assert (env.picture(view) == before).all()
    env.bin.step(np.array([1]), np.array([[0.05, 0.05, -0.05, 0.4]]), np.zeros(1, bool))
    after = env.picture(view)
    assert (after[0] == before[0]).all() and (after[1] != before[1]).any()


def test_sizes_are_width_and_height(env):
    assert env.picture(CameraConfig(width_px=20, height_px=12)).shape == (2, 12, 20, 3)


def test_the_camera_that_follows_sees_the_gripper_at_one_place(env):
    look, still = env.look, np.zeros((2, 2, 3))
    here, there = np.zeros((2, 4)), np.array([[0.1, -0.05, 0.1, 0.3]] * 2)
    a, b = (rendering.eyes("follow", look, g, still, np.zeros((2, 2, 9))) for g in (here, there))
    np.testing.assert_allclose(b[0] - a[0], [[0.1, -0.05, 0]] * 2)
    np.testing.assert_allclose(a[1], b[1])
    np.testing.assert_allclose(a[0][0] - scene.ORIGIN_M, scene.FOLLOW_OFFSET_M)


def test_a_camera_looks_at_its_aim():
    axes = scene.axes_looking(np.array([[1.0, 0.0, 1.0]]), np.zeros((1, 3)))[0]
    np.testing.assert_allclose(axes @ [0, 0, -1], -np.array([1, 0, 1]) / 2**0.5)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert axes[2, 1] > 0 and np.linalg.det(axes) == pytest.approx(1)


@pytest.mark.parametrize(("level", "share"), [("off", 0.0), ("mild", 0.3), ("strong", 1.0)])
def test_randomisation_stays_within_its_level(env, level, share):
    look = rendering.Look.plain(2, env.bin.models[0])
    drawn = []
    for seed in range(50):
        look.draw(0, env.bin.models[0], rendering.LEVELS[level], np.random.default_rng(seed))
        drawn.append(
            [*look.eye_m[0] / rendering.EYE_M, (look.zoom[0] - 1) / rendering.ZOOM, (look.gain[0] - 1) / rendering.GAIN]
        )
    assert np.abs(drawn).max() <= share
    assert np.abs(drawn).max() >= 0.9 * share


@pytest.mark.parametrize(("field", "value"), [("camera", "behind"), ("width_px", 0), ("randomise", "very")])
def test_cameras_that_see_nothing_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        CameraConfig(**{field: value})


def test_starting_to_draw_prints_nothing():
    code = "from handeye.envs import rendering; rendering.start_warp(); import sys; print('heard', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "heard\n")
