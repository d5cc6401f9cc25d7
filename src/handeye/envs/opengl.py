"""Pictures by MuJoCo's own OpenGL renderer, world by world: for large pictures, on machines that have an OpenGL."""

import importlib
import os
import sys
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from handeye.envs.rendering import CameraConfig
from handeye.errors import Failure

PLATFORMS = ("egl", "glfw", "osmesa")
"""Ways to an OpenGL, in the order in which they are tried; the environment variable MUJOCO_GL names one alone."""
NEAR_M, FAR_M = 0.01, 10.0


class OpenGL:
    """Draws N worlds whose models share one layout; the counterpart of `rendering.RayCaster`.

    Raises: Failure where there is no OpenGL.
    """

    def __init__(self, model: mujoco.MjModel, config: CameraConfig) -> None:
        self.view = mujoco.MjrRect(0, 0, config.width_px, config.height_px)
        self.model = model.__copy__()
        self.model.vis.global_.offwidth, self.model.vis.global_.offheight = config.width_px, config.height_px
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        self.gl = _context(config.width_px, config.height_px)
        self.gl.make_current()
        self.context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.scene, self.option = mujoco.MjvScene(self.model, maxgeom=1000), mujoco.MjvOption()
        self.option.sitegroup[:] = 0
        self.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = config.shadows

    def draw(
        self, geoms: tuple[NDArray, NDArray], looks: tuple[NDArray, NDArray], eyes: tuple[NDArray, NDArray, NDArray]
    ) -> NDArray[np.uint8]:
        """Pictures (N, H, W, 3); arguments as those of `rendering.RayCaster.draw`."""
        self.gl.make_current()
        pictures = np.empty((len(geoms[0]), self.view.height, self.view.width, 3), np.uint8)
        for i, picture in enumerate(pictures):
            self.data.geom_xpos[:], self.data.geom_xmat[:] = geoms[0][i], geoms[1][i].reshape(-1, 9)
            self.model.geom_size[:], self.model.geom_rgba[:] = looks[0][i], looks[1][i]
            everything, anyone = mujoco.mjtCatBit.mjCAT_ALL, mujoco.MjvCamera()
            mujoco.mjv_updateScene(self.model, self.data, self.option, None, anyone, everything, self.scene)
            self._look(eyes[0][i], eyes[1][i], float(eyes[2][i]))
            mujoco.mjr_render(self.view, self.scene, self.context)
            mujoco.mjr_readPixels(picture, None, self.view, self.context)
        # OpenGL's rows begin at the bottom.
        return pictures[:, ::-1].copy()

    def _look(self, eye: NDArray, axes: NDArray, fovy_deg: float) -> None:
        half = NEAR_M * np.tan(np.radians(fovy_deg) / 2)
        for camera in self.scene.camera:
            camera.pos, camera.forward, camera.up = eye, -axes[:, 2], axes[:, 1]
            camera.frustum_center, camera.frustum_width = 0, 0
            camera.frustum_bottom, camera.frustum_top = -half, half
            camera.frustum_near, camera.frustum_far = NEAR_M, FAR_M


def _context(width_px: int, height_px: int) -> Any:
    wanted = os.environ.get("MUJOCO_GL", "")
    reasons = []
    for name in (wanted,) if wanted in PLATFORMS else PLATFORMS:
        if name == "glfw" and sys.platform == "linux" and not os.environ.get("DISPLAY"):
            # Its half-made context would complain when it is collected.
            reasons.append("glfw: no DISPLAY")
            continue
        try:
            return importlib.import_module(f"mujoco.{name}").GLContext(width_px, height_px)
        except Exception as error:
            reasons.append(f"{name}: {str(error) or type(error).__name__}".splitlines()[0])
    raise Failure(
        f"no OpenGL here ({'; '.join(reasons)}): use renderer='rays', which needs none, or install one "
        f"(apt install libegl1 libgl1-mesa-dri) and set MUJOCO_GL to {', '.join(PLATFORMS)}"
    )
