"""A window on the screen that shows pictures one after another: `render_mode="human"`."""

import importlib
import logging
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NO_SCREEN = 'render_mode="human" needs a screen: %s. Nothing is shown; "rgb_array" gives the same pictures.'


class Window:
    """A window of the desktop, made with Python's own tkinter.

    Where there is no screen, one line of the log says so and nothing is shown: an environment must not fail by it.
    """

    def __init__(self, title: str, frames_per_second: float) -> None:
        self.period_s, self.due_s = 1 / frames_per_second, time.monotonic()
        self.root = _desktop()
        if self.root is not None:
            self.root.title(title)
            self.root.protocol("WM_DELETE_WINDOW", self.close)
            self.label = _tkinter().Label(self.root, borderwidth=0)
            self.label.pack()

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture (H, W, 3), no sooner than a frame's time after the last, unless the user closed the window."""
        if self.root is None:
            return
        time.sleep(max(0.0, self.due_s - time.monotonic()))
        self.due_s = time.monotonic() + self.period_s
        height, width, _ = picture.shape
        ppm = b"P6 %d %d 255\n" % (width, height) + picture.tobytes()
        self.image = _tkinter().PhotoImage(master=self.root, data=ppm, format="ppm")
        self.label.configure(image=self.image)
        self.root.update()

    def close(self) -> None:
        if self.root is not None:
            self.root.destroy()
        self.root = None


def _tkinter() -> Any:
    # Some Pythons come without it, and most uses of this package need none.
    return importlib.import_module("tkinter")


def _desktop() -> Any:
    """A new top window, or None without a screen."""
    try:
        tkinter = _tkinter()
    except ImportError as error:
        logging.getLogger("handeye").warning(_NO_SCREEN, error)
        return None
    try:
        return tkinter.Tk()
    except tkinter.TclError as error:
        logging.getLogger("handeye").warning(_NO_SCREEN, error)
        return None
