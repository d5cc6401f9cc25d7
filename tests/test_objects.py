import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handeye.envs import objects
from handeye.envs.objects import KINDS, SLOTS, Part, Shape, bounds_m, draw_shape, half_extent, rotation
from handeye.envs.scene import OPEN_M


def geometry(shape):
    return tuple((p.kind, p.size_m, p.pos_m, p.quat) for p in shape.parts)


def all_shapes(split, count):
    return [draw_shape(split, slot, index) for slot in range(SLOTS) for index in range(count)]


def test_the_same_numbers_give_the_same_object():
    assert draw_shape("train", 2, 17) == draw_shape("train", 2, 17)
    assert draw_shape("train", 2, 17) != draw_shape("train", 2, 18)


def test_training_and_held_out_objects_are_disjoint_and_many():
    train, held = (
        {geometry(s) for s in all_shapes(split, count)} for split, count in (("train", 240), ("heldout", 48))
    )
    assert len(train) == 1200 and len(held) == 240
    assert not train & held


def test_every_family_is_drawn_in_both_splits():
    families = {family for slot in objects.FAMILIES for family in slot}
    for split, count in (("train", 240), ("heldout", 48)):
        assert {shape.family for shape in all_shapes(split, count)} == families


@settings(max_examples=60, deadline=None)
@given(slot=st.integers(0, SLOTS - 1), index=st.integers(0, 10**6), split=st.sampled_from(objects.SPLITS))
def test_objects_are_centred_fit_the_tray_and_somewhere_fit_the_gripper(slot, index, split):
    shape = draw_shape(split, slot, index)
    assert tuple(part.kind for part in shape.parts) == KINDS[slot]
    half = np.array([half_extent(part.kind, part.size_m, part.quat) for part in shape.parts])
    middle = np.array([part.pos_m for part in shape.parts])
    np.testing.assert_allclose((middle + half).max(0), -(middle - half).min(0), atol=1e-9)
    assert bounds_m(shape).max() < 0.09
    assert np.sort(bounds_m(shape))[0] < 0.9 * OPEN_M
    assert all(0 <= channel <= 1 for channel in shape.rgb)


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(["box", "cylinder", "capsule", "ellipsoid"]), seed=st.integers(0, 1000))
def test_half_extents_bound_the_surface_tightly(kind, seed):
    rng = np.random.default_rng(seed)
    quat, size = rng.standard_normal(4), rng.uniform(0.01, 0.05, 3)
    quat /= np.linalg.norm(quat)
    ball = rng.standard_normal((20000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    if kind == "box":
        surface = np.sign(ball) * size
    elif kind == "ellipsoid":
        surface = ball * size
    elif kind == "capsule":
        surface = ball * size[0] + np.sign(ball[:, 2:]) * [0, 0, size[1]]
    else:
        round_ = ball[:, :2] / np.linalg.norm(ball[:, :2], axis=1, keepdims=True)
        surface = np.concatenate([round_ * size[0], np.sign(ball[:, 2:]) * size[1]], 1)
    seen = np.abs(surface @ rotation(quat).T).max(0)
    np.testing.assert_allclose(half_extent(kind, size, quat), seen, rtol=0.02)


def test_bounds_reach_to_the_furthest_part():
    part = Part("box", (0.01, 0.02, 0.03), (0.05, 0.0, -0.01), (1.0, 0.0, 0.0, 0.0))
    assert bounds_m(Shape("a", (part,), (1, 0, 0), 500, 1)) == pytest.approx([0.06, 0.02, 0.04])
