import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from handeye.envs.drawing import paint


def painted(*capsules, grey=(1.0,), size=24):
    canvas = np.zeros((1, size, size), np.float32)
    paint(canvas, np.array([capsules], np.float32), np.array(grey, np.float32))
    return canvas[0]


@given(st.floats(8, 16), st.floats(1, 4))
def test_coverage_of_straight_edges_is_exact(y, radius):
    rows = painted((-90, y, 90, y, radius, radius))[:, 12]
    top, bottom = np.arange(24), np.arange(1, 25)
    exact = np.clip(np.minimum(bottom, y + radius) - np.maximum(top, y - radius), 0, 1)
    assert_allclose(rows, exact, atol=1e-5)


@given(st.floats(8, 16), st.floats(8, 16))
def test_a_disc_covers_its_area_and_sits_at_its_centre(x, y):
    disc = painted((x, y, x, y, 4, 4))
    centres = np.arange(24) + 0.5
    assert_allclose(disc.sum(), np.pi * 16, rtol=0.01)
    assert_allclose((disc.sum(0) @ centres, disc.sum(1) @ centres) / disc.sum(), (x, y), atol=0.03)


def test_later_capsules_cover_earlier_ones():
    both = painted((12, 12, 12, 12, 6, 6), (12, 12, 12, 12, 3, 3), grey=(0.5, 1.0))
    assert both[12, 12] == 1.0
    assert both[12, 7] == 0.5


def test_a_limb_tapers_from_one_end_to_the_other():
    limb = painted((6, 12, 18, 12, 5, 2))
    assert_allclose(limb[:, [6, 12, 17]].sum(0), (9.75, 6.75, 4.25), atol=0.3)


def test_capsules_outside_the_picture_leave_it_alone():
    assert (painted((-30, -30, -20, 40, 5, 5), (90, 3, 90, 3, 9, 9), grey=(1.0, 1.0)) == 0).all()


def test_a_batch_equals_single_pictures_to_the_byte():
    rng = np.random.default_rng(0)
    capsules = rng.uniform(0, 24, (7, 3, 6)).astype(np.float32)
    grey = np.array([0.2, 0.7, 1.0], np.float32)
    batch = np.zeros((7, 24, 24), np.float32)
    paint(batch, capsules, grey)
    for one, shapes in zip(batch, capsules, strict=True):
        alone = np.zeros((1, 24, 24), np.float32)
        paint(alone, shapes[None], grey)
        assert (alone[0] == one).all()
