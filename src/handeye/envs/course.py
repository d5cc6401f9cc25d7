"""What has happened so far in each episode of grasping: facts for `info` and for the names of failures."""

import numpy as np
from numpy.typing import NDArray

from handeye.envs.bin import Bin
from handeye.envs.objects import FAMILY_NAMES

ROSE_M = 0.02
"""An object that is held rose when it is this much above where it lay."""

FLAGS = ("closed", "pressed", "paired", "rose", "jammed")


class Course:
    """Of each environment (N,): whether fingers have `closed`, `pressed` one object, it `rose`, and anything `jammed`.

    `paired` (N,): each finger has pressed an object, and never both the same.
    `about` (N,): number of the object that both fingers pressed last, or else was nearest until they first closed.
    """

    def __init__(self, bins: Bin) -> None:
        self.bin = bins
        flags: NDArray[np.bool_] = np.zeros((len(FLAGS), bins.worlds), bool)
        self.closed, self.pressed, self.paired, self.rose, self.jammed = flags
        self.about = np.zeros(bins.worlds, np.int64)

    def begin(self, which: NDArray) -> None:
        """New episodes begin in environments `which`."""
        for name in FLAGS:
            getattr(self, name)[which] = False
        self.about[which] = self._nearest(which)

    def note(self, which: NDArray) -> None:
        """Environments `which` have made a step."""
        touched = self.bin.pressed[which] > 0
        between = touched.all(-1)
        risen = self.bin.risen_m[which] > ROSE_M
        self.about[which] = np.where(self.closed[which], self.about[which], self._nearest(which))
        self.about[which] = np.where(between.any(1), between.argmax(1), self.about[which])
        self.closed[which] |= self.bin.closed[which]
        self.pressed[which] |= between.any(1)
        self.paired[which] = (self.paired[which] | touched.any(1).all(-1)) & ~self.pressed[which]
        self.rose[which] |= (between & risen).any(1)
        self.jammed[which] |= self.bin.jammed[which]

    def facts(self) -> dict[str, NDArray]:
        """Copies (N,) of all, and the object's `family`, a place in `objects.FAMILY_NAMES`; -1 before a reset."""
        shapes = [own[k] if own else None for own, k in zip(self.bin.shapes, self.about, strict=True)]
        family = [FAMILY_NAMES.index(shape.family) if shape else -1 for shape in shapes]
        return {name: getattr(self, name).copy() for name in FLAGS} | {"family": np.array(family, np.int64)}

    def _nearest(self, which: NDArray) -> NDArray:
        away = self.bin.objects_m[which] - self.bin.tip_m[which, None]
        return np.linalg.norm(away, axis=-1).argmin(1)
