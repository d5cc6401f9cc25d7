import sys
import types

import gymnasium as gym
import numpy as np
import pytest

from handeye.envs.window import Window


class Screen:
    """Stands in for tkinter: keeps what was shown."""

    def __init__(self):
        self.shown, self.open, self.told = [], True, {}
        fake = types.ModuleType("tkinter")
        fake.TclError = RuntimeError
        fake.Tk = lambda: self
        fake.Label = lambda *_, **__: self
        fake.PhotoImage = self.picture
        self.module = fake

    def picture(self, master, data, format):
        # Without its window, a picture belongs to whichever was opened first.
        assert master is self and self.open
        return format, data

    def protocol(self, name, does):
        self.told[name] = does

    def title(self, _): ...

    def pack(self): ...

    def update(self): ...

    def configure(self, image):
        self.shown.append(image)

    def destroy(self):
        self.open = False


@pytest.fixture
def screen(monkeypatch):
    ours = Screen()
    monkeypatch.setitem(sys.modules, "tkinter", ours.module)
    return ours


@pytest.mark.parametrize(("name", "size"), [("handeye/PlanarReach-v0", b"504 504"), ("handeye/Grasp-v0", b"640 512")])
def test_human_mode_shows_the_large_picture_after_reset_and_every_step(screen, name, size):
    env, like = gym.make(name, render_mode="human"), gym.make(name, render_mode="rgb_array")
    action = np.ones_like(env.action_space.sample())
    for each in (env, like):
        each.reset(seed=3)
        each.step(action)
    assert env.render() is None
    assert [kind for kind, _ in screen.shown] == ["ppm", "ppm"]
    assert screen.shown[-1][1] == b"P6 %s 255\n" % size + like.render().tobytes()
    env.close()
    assert not screen.open


def test_a_user_may_close_the_window(screen):
    env = gym.make("handeye/PlanarReach-v0", render_mode="human")
    env.reset(seed=3)
    screen.told["WM_DELETE_WINDOW"]()
    assert not screen.open
    env.step(1)
    env.close()
    assert len(screen.shown) == 1


def test_without_a_screen_one_line_says_so_and_nothing_fails(screen, monkeypatch, caplog):
    def no_display():
        raise screen.module.TclError("no display name")

    monkeypatch.setattr(screen.module, "Tk", no_display)
    env = gym.make("handeye/PlanarReach-v0", render_mode="human")
    env.reset(seed=1)
    env.close()
    (line,) = caplog.messages
    assert "needs a screen: no display name" in line


def test_without_tkinter_too(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tkinter", None)
    window = Window("a title", 25)
    window.show(np.zeros((2, 3, 3), np.uint8))
    window.close()
    assert "needs a screen" in caplog.text


def test_frames_are_not_shown_faster_than_asked(screen):
    window, picture = Window("a title", 1000), np.zeros((2, 3, 3), np.uint8)
    window.show(picture)
    due = window.due_s
    window.show(picture)
    assert window.due_s >= due + window.period_s
    assert screen.shown[0] == ("ppm", b"P6 3 2 255\n" + bytes(18))
