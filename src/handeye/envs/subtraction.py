"""Success as a robot sees it, by subtracting two pictures: the tray without what the hand carries, then with it.

After the grasp the arm carries away what it holds and the still camera takes a picture of the tray. Then the hand comes
back, opens, and the camera takes another when all has come to rest. If enough pixels differ, something was held.

The arm itself is left out of both pictures, as if it stood beside the camera's field. What it holds is not: it is
carried out of the picture by the physics, and may slip on the way. Nothing but pixels decides.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handeye.envs import rendering, scene
from handeye.envs.bin import Bin
from handeye.envs.objects import PARTS
from handeye.envs.rendering import CameraConfig, Look, Randomise, RayCaster
from handeye.errors import need

HIGH_M, ASIDE_M = 0.35, 0.30
"""Where the hand carries what it holds: above the tray's bottom, and left of the tray's middle."""
DROP_M, DROP_REACH_M = 0.14, 0.07
"""Height of the fingertips when they open again, and how far from the tray's middle at most, in x and y."""
LEG_S, REST_S = 0.6, 1.0
NOWHERE_M = np.array([0.0, 0.0, -10.0])


@dataclass(frozen=True)
class SubtractionConfig:
    """What counts as a change. Raises ValueError for values that make none."""

    width_px: int = 128
    height_px: int = 128
    level: float = 0.1
    """A pixel has changed when one of its colours has, by more than this share of the range."""
    pixels: float = 0.005
    """The picture has changed when more than this share of its pixels has."""

    def __post_init__(self) -> None:
        need(self, ("width_px", "height_px"), 8, 2048)
        need(self, ("level", "pixels"), 0, 1)


def changed(before: NDArray[np.uint8], after: NDArray[np.uint8], config: SubtractionConfig) -> bool:
    """Whether two pictures (H, W, 3) differ."""
    difference = np.abs(before.astype(np.int16) - after).max(-1)
    return bool((difference > 255 * config.level).mean() > config.pixels)


class Judge:
    """Says of worlds of a bin whether something was held, and leaves them as they were."""

    def __init__(self, config: SubtractionConfig, randomise: Randomise = "off", threads: int = 0) -> None:
        """`randomise`: as of the views of these worlds. `threads` of drawing, 0: all cores."""
        self.config, self.threads = config, threads
        self.view = CameraConfig("shoulder", config.width_px, config.height_px, randomise=randomise)
        self.caster: RayCaster | None = None

    def __call__(self, bins: Bin, look: Look, ids: NDArray) -> NDArray[np.bool_]:
        """Verdicts (n,) on worlds `ids`."""
        if not len(ids):
            return np.zeros(0, bool)
        kept = bins.keep(ids)
        _carry_away(bins, ids)
        before = self._pictures(bins, look, ids)
        _bring_back(bins, ids)
        after = self._pictures(bins, look, ids)
        bins.restore(ids, kept)
        return np.array([changed(*pair, self.config) for pair in zip(before, after, strict=True)])

    def _pictures(self, bins: Bin, look: Look, ids: NDArray) -> NDArray[np.uint8]:
        """Pictures (n, H, W, 3) of worlds `ids` by the camera over the shoulder."""
        place = bins.geom_pos[ids]
        place[:, scene.TRAY.stop : place.shape[1] - PARTS * bins.config.objects] = NOWHERE_M
        eye, axes, fovy = rendering.eyes("shoulder", look, bins.gripper, bins.cam_pos, bins.cam_mat)
        if self.caster is None:
            self.caster = RayCaster(bins.models[0], bins.worlds, self.view, self.threads)
        looks = look.size[ids], look.rgba[ids]
        return self.caster.draw((place, bins.geom_mat[ids]), looks, (eye[ids], axes[ids], fovy[ids]))


def _carry_away(bins: Bin, ids: NDArray) -> None:
    goal = bins.gripper[ids].copy()
    goal[:, 2] = HIGH_M
    bins.glide(ids, goal, LEG_S)
    goal[:, 1] = ASIDE_M
    bins.glide(ids, goal, LEG_S)


def _bring_back(bins: Bin, ids: NDArray) -> None:
    """Back over the tray, open, and let fall."""
    goal = bins.gripper[ids].copy()
    goal[:, :2] = np.clip(goal[:, :2], -DROP_REACH_M, DROP_REACH_M)
    bins.glide(ids, goal, LEG_S)
    goal[:, 2] = DROP_M
    bins.glide(ids, goal, LEG_S)
    bins.closed[ids] = False
    bins.glide(ids, goal, REST_S)
