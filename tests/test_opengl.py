import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from handeye.envs import opengl
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.envs.rendering import CAMERAS, CameraConfig
from handeye.errors import Failure, Misuse


@pytest.fixture(scope="module")
def env():
    ours = GraspVectorEnv(
        2, GraspConfig(world=BinConfig(models=2, placements=1), observe="objects"), "disabled", threads=1
    )
    ours.reset(seed=0)
    return ours


def is_there():
    """Whether this machine has an OpenGL, asked without our help, in a process of its own."""
    kinds = [os.environ["MUJOCO_GL"]] if os.environ.get("MUJOCO_GL") else ["egl", "osmesa"]
    make = "import mujoco.{0}; mujoco.{0}.GLContext(64, 64).make_current()"
    return any(
        not subprocess.run([sys.executable, "-c", make.format(kind)], capture_output=True).returncode for kind in kinds
    )


needs_opengl = pytest.mark.skipif(not is_there(), reason="no OpenGL here")


def pictures(env, camera="shoulder", size=(96, 64)):
    return env.picture(CameraConfig(camera, *size, renderer="opengl")).astype(int)


@needs_opengl
@pytest.mark.parametrize("camera", CAMERAS)
def test_both_renderers_show_the_same(env, camera):
    drawn = pictures(env, camera)
    rays = env.picture(CameraConfig(camera, 96, 64)).astype(int)
    assert drawn.shape == rays.shape
    # Edges differ: rays are not smoothed.
    assert np.median(np.abs(drawn - rays)) <= 4 and np.abs(drawn - rays).mean() < 12
    assert np.abs(drawn - rays[:, ::-1]).mean() > 12


@needs_opengl
def test_no_frame_is_stale_and_the_worlds_are_apart(env):
    before = pictures(env)
    env.bin.step(np.array([1]), np.array([[0.05, 0.05, -0.05, 0.4]]), np.zeros(1, bool))
    after = pictures(env)
    assert (after[0] == before[0]).all() and (after[1] != before[1]).any()


@needs_opengl
def test_contexts_come_and_go(env):
    model = env.bin.models[0]
    for _ in range(3):
        opengl.OpenGL(model, CameraConfig(renderer="opengl"))
        gc.collect()
    assert pictures(env).any()


def test_without_an_opengl_the_reasons_and_the_way_out_are_told(env, monkeypatch):
    def fails(name):
        raise ImportError(f"no {name}\nat all")

    monkeypatch.setattr(opengl.importlib, "import_module", fails)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(opengl.sys, "platform", "linux")
    with pytest.raises(Failure, match=r"egl: no mujoco.egl; glfw: no DISPLAY; osmesa: no .*renderer='rays'"):
        env.picture(CameraConfig(width_px=40, renderer="opengl"))
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(Failure, match=r"no OpenGL here \(osmesa: no mujoco.osmesa\)"):
        env.picture(CameraConfig(width_px=40, renderer="opengl"))


def test_an_unknown_renderer_is_refused():
    with pytest.raises(Misuse, match=r"renderer must be one of rays, opengl, got 'vulkan'"):
        CameraConfig(renderer="vulkan")
