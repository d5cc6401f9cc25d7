"""Pictures of all bins in one call, by mujoco_warp's ray-caster: on the processor or on CUDA, without OpenGL."""

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp
from numpy.typing import NDArray

from handeye.envs import scene
from handeye.errors import need, need_one_of

# It tells of every kernel that it loads.
wp.config.log_level = wp.LOG_ERROR
CAMERAS = ("shoulder", "follow", "wrist")
Randomise = Literal["off", "mild", "strong"]
LEVELS: dict[Randomise, float] = {"off": 0.0, "mild": 0.3, "strong": 1.0}
EYE_M, AIM_M, ZOOM, GAIN, TINT = 0.06, 0.03, 0.12, 0.25, 0.25
"""At level strong: how far the camera and the point that it looks at move, how much field of view, light and the
colours of table and tray change; uniform either way."""
CHUNK = 4
"""Worlds that one thread draws in one call."""


@cache
def start_warp() -> None:
    """Start Warp, once. Its library tells of every machine without CUDA on standard error, which is not shown."""
    shown, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        wp.init()
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        os.close(nowhere)


@dataclass(frozen=True)
class CameraConfig:
    """Who looks, and at what size. Raises ValueError for what is no picture."""

    camera: Literal["shoulder", "follow", "wrist"] = "follow"
    """`shoulder` stands still; `follow` moves with the gripper's x, y, as a crop around its projection would; `wrist`
    is fixed to the hand."""
    width_px: int = 64
    height_px: int = 64
    randomise: Randomise = "off"
    """How much pose, field of view, light and colours change from episode to episode."""
    shadows: bool = False
    renderer: Literal["rays", "opengl"] = "rays"
    """`rays` draws all worlds in one call, anywhere; `opengl` draws large pictures faster, where there is an OpenGL."""

    def __post_init__(self) -> None:
        need(self, ("width_px", "height_px"), 8, 2048)
        need_one_of(self, "camera", CAMERAS)
        need_one_of(self, "randomise", tuple(LEVELS))
        need_one_of(self, "renderer", ("rays", "opengl"))


class RayCaster:
    """Draws worlds whose models share one layout. A picture shows what is given with it, nothing older."""

    def __init__(self, model: mujoco.MjModel, worlds: int, config: CameraConfig, threads: int = 0) -> None:
        """`worlds` that are drawn at once at most; `threads` draw on the processor, all cores by default."""
        start_warp()
        cuda = wp.get_device().is_cuda
        self.chunk = worlds if cuda else min(CHUNK, worlds)
        cores = 1 if cuda else min(threads or os.cpu_count() or 1, -(-worlds // self.chunk))
        self.parts = [_Part(model, self.chunk, config) for _ in range(cores)]
        self.pool = ThreadPoolExecutor(cores) if cores > 1 else None
        self.shape = config.height_px, config.width_px, 3
        self.loaded = False

    def draw(
        self, geoms: tuple[NDArray, NDArray], looks: tuple[NDArray, NDArray], eyes: tuple[NDArray, NDArray, NDArray]
    ) -> NDArray[np.uint8]:
        """Pictures (N, H, W, 3) of N worlds, the same however they are shared among the threads.

        Args:
            geoms: places (N, G, 3) and axes (N, G, 9).
            looks: half sizes (N, G, 3) and colours (N, G, 4).
            eyes: the camera's place (N, 3), axes (N, 3, 3), and vertical field of view (N,) in degrees.
        """
        count = len(geoms[0])
        pictures = np.empty((count, *self.shape), np.uint8)
        starts = range(0, count, self.chunk)

        def draw_share(part: _Part, first: int) -> None:
            for start in starts[first :: len(self.parts)]:
                rows = np.arange(start, min(start + self.chunk, count))
                # The last chunk is filled up with its first world.
                padded = np.r_[rows, np.full(self.chunk - len(rows), start)]
                groups = (tuple(array[padded] for array in group) for group in (geoms, looks, eyes))
                pictures[rows] = part.draw(*groups)[: len(rows)]

        # Warp computes without Python's lock, on one thread a call. What it loads at the first is not for two at once.
        together = self.pool.map if self.pool and self.loaded else map
        list(together(draw_share, self.parts, range(len(self.parts))))
        self.loaded = True
        return pictures


class _Part:
    """What one thread draws with: so many worlds at once."""

    def __init__(self, model: mujoco.MjModel, worlds: int, config: CameraConfig) -> None:
        seen = copy.copy(model)
        seen.cam_fovy[:] = scene.FOVY_DEG[config.camera]
        self.model = mjw.put_model(seen, batch_sizes=dict.fromkeys(("geom_size", "geom_rgba", "cam_fovy"), worlds))
        self.data = mjw.make_data(seen, nworld=worlds, nconmax=1, njmax=1)
        self.context = mjw.create_render_context(
            seen, nworld=worlds, cam_res=(config.width_px, config.height_px), render_rgb=True, render_depth=False,
            render_seg=False, use_shadows=config.shadows, use_textures=False, cam_active=["shoulder"],
            use_precomputed_rays=config.randomise == "off", enable_emission=False, enable_backface_culling=False,
        )  # fmt: skip
        self.picture = wp.zeros((worlds, config.height_px, config.width_px), dtype=wp.vec3f)
        still = mujoco.MjData(seen)
        mujoco.mj_forward(seen, still)
        _fill(self.data.light_xpos, still.light_xpos)
        _fill(self.data.light_xdir, still.light_xdir)

    def draw(
        self, geoms: tuple[NDArray, ...], looks: tuple[NDArray, ...], eyes: tuple[NDArray, ...]
    ) -> NDArray[np.uint8]:
        """As `RayCaster.draw`, of just so many worlds."""
        place, axes = geoms
        _fill(self.data.geom_xpos, place)
        _fill(self.data.geom_xmat, axes.reshape(*place.shape[:2], 3, 3))
        _fill(self.model.geom_size, looks[0])
        _fill(self.model.geom_rgba, looks[1])
        for array, values in zip((self.data.cam_xpos, self.data.cam_xmat, self.model.cam_fovy), eyes, strict=True):
            _fill(array, values[:, None])
        mjw.refit_bvh(self.model, self.data, self.context)
        mjw.render(self.model, self.data, self.context)
        mjw.get_rgb(self.context, 0, self.picture)
        return (self.picture.numpy() * 255 + 0.5).clip(0, 255).astype(np.uint8)


class Renderer(Protocol):
    """Draws worlds as `RayCaster` does."""

    def draw(
        self, geoms: tuple[NDArray, NDArray], looks: tuple[NDArray, NDArray], eyes: tuple[NDArray, NDArray, NDArray]
    ) -> NDArray[np.uint8]: ...


def renderer(model: mujoco.MjModel, worlds: int, config: CameraConfig, threads: int) -> Renderer:
    """What draws such pictures, of so many worlds at once. Raises: Failure for `opengl` where there is none."""
    if config.renderer == "rays":
        return RayCaster(model, worlds, config, threads)
    from handeye.envs.opengl import OpenGL

    return OpenGL(model, config)


def _fill(array: wp.array, values: NDArray) -> None:
    """Write values into an array of either device, broadcast to its shape."""
    shape = (*array.shape, *array.dtype._shape_) if hasattr(array.dtype, "_shape_") else array.shape
    array.assign(np.ascontiguousarray(np.broadcast_to(values, shape), np.float32))


@dataclass
class Look:
    """What differs from world to world and episode to episode in how a bin is seen."""

    eye_m: NDArray
    aim_m: NDArray
    zoom: NDArray
    gain: NDArray
    size: NDArray
    rgba: NDArray

    @classmethod
    def plain(cls, worlds: int, model: mujoco.MjModel) -> "Look":
        """Nothing differs yet."""
        one, three = np.ones(worlds), np.zeros((worlds, 3))
        geoms = np.repeat(model.geom_size[None], worlds, 0), np.repeat(model.geom_rgba[None], worlds, 0)
        return cls(three.copy(), three.copy(), one.copy(), one.copy(), *geoms)

    def draw(self, i: int, model: mujoco.MjModel, level: float, rng: np.random.Generator) -> None:
        """World i's look for a new episode; the same numbers of the generator are used at every level."""
        signs = rng.uniform(-1, 1, 14) * level
        self.eye_m[i], self.aim_m[i] = signs[:3] * EYE_M, signs[3:6] * AIM_M
        self.zoom[i], self.gain[i] = 1 + signs[6] * ZOOM, 1 + signs[7] * GAIN
        self.size[i], self.rgba[i] = model.geom_size, model.geom_rgba
        self.rgba[i, scene.TABLE, :3] *= 1 + signs[8:11] * TINT
        self.rgba[i, scene.TRAY, :3] *= 1 + signs[11:14] * TINT
        self.rgba[i, :, :3] = np.clip(self.rgba[i, :, :3] * self.gain[i], 0, 1)


def eyes(
    camera: str, look: Look, gripper: NDArray, cam_pos: NDArray, cam_mat: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Place (N, 3), axes (N, 3, 3) and vertical field of view (N,) in degrees of a camera in every world.

    Args:
        gripper: (N, 4) in the tray's frame.
        cam_pos: (N, C, 3) and `cam_mat` (N, C, 9): the model's own cameras.
    """
    fovy = scene.FOVY_DEG[camera] * look.zoom
    if camera == "wrist":
        index = scene.CAMERA_NAMES.index("wrist")
        return cam_pos[:, index] + look.eye_m * 0.1, cam_mat[:, index].reshape(-1, 3, 3), fovy
    if camera == "follow":
        below = np.concatenate([gripper[:, :2], np.zeros((len(gripper), 1))], 1) + scene.ORIGIN_M
        eye, aim = below + scene.FOLLOW_OFFSET_M, below + np.array([0, 0, scene.FOLLOW_AIM_M])
    else:
        eye, aim = np.array(scene.SHOULDER_M), np.array(scene.SHOULDER_AIM_M)
    eye, aim = eye + look.eye_m, aim + look.aim_m
    return eye, scene.axes_looking(eye, aim), fovy


def device() -> str:
    """What draws: the name of the processor or the GPU."""
    start_warp()
    return str(wp.get_preferred_device().name)


def kernel_folder() -> Path:
    """Where compiled kernels are kept from one process to the next."""
    start_warp()
    return Path(str(wp.config.kernel_cache_dir))
