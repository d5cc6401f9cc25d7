import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from handeye import planar_arm

HALF = np.pi / 2
poses = st.tuples(
    *(st.floats(low, high) for low, high in zip(planar_arm.LOWER_RAD, planar_arm.UPPER_RAD, strict=True))
).map(np.array)


@pytest.mark.parametrize(
    ("joints", "points"),
    [
        ((0, 0, 0), [(0.36442, -0.069), (0.73871, -0.079), (0.968235, -0.079)]),
        ((HALF, 0, 0), [(-0.069, -0.36442), (-0.079, -0.73871), (-0.079, -0.968235)]),
        ((-HALF, 0, 0), [(0.069, 0.36442), (0.079, 0.73871), (0.079, 0.968235)]),
        ((0, HALF, 0), [(0.36442, -0.069), (0.35442, -0.44329), (0.35442, -0.672815)]),
        ((0, HALF, -HALF), [(0.36442, -0.069), (0.35442, -0.44329), (0.583945, -0.44329)]),
    ],
)
def test_forward_agrees_with_poses_computed_by_hand(joints, points):
    assert_allclose(planar_arm.forward(np.array(joints, float)), [(0, 0), *points], atol=1e-12)


@given(poses)
def test_jacobian_turns_the_hand_about_each_joint(joints):
    points = planar_arm.forward(joints)
    lever = points[3] - points[:3]
    exact = np.stack([lever[:, 1], -lever[:, 0]], axis=1)
    h = 1e-6
    measured = [(planar_arm.hand(joints + h * e) - planar_arm.hand(joints - h * e)) / (2 * h) for e in np.eye(3)]
    assert_allclose(measured, exact, atol=1e-8)


@given(poses)
def test_links_keep_their_lengths(joints):
    lengths = np.linalg.norm(np.diff(planar_arm.forward(joints), axis=0), axis=1)
    assert_allclose(lengths, np.hypot(planar_arm.LINK_ALONG_M, planar_arm.LINK_DOWN_M))


def test_forward_keeps_leading_axes():
    joints = planar_arm.random_joints(np.random.default_rng(0), 6).reshape(2, 3, 3)
    assert planar_arm.forward(joints).shape == (2, 3, 4, 2)
    assert_allclose(planar_arm.hand(joints)[1, 2], planar_arm.hand(joints[1, 2]))


@given(poses, st.tuples(st.floats(-0.42, 0.98), st.floats(-0.96, 0.92)).map(np.array))
def test_theta_round_trip(joints, target):
    theta = planar_arm.to_theta(target, joints)
    assert theta.dtype == np.float32
    assert ((theta >= 0) & (theta <= 1)).all()
    back = planar_arm.from_theta(theta)
    assert_allclose(back[0], target, atol=1e-6)
    assert_allclose(back[1], joints, atol=1e-6)


def test_theta_is_zero_and_one_at_the_ends_of_the_ranges():
    assert_allclose(planar_arm.to_theta(planar_arm.TARGET_LOW_M, planar_arm.LOWER_RAD), 0)
    assert_allclose(planar_arm.to_theta(planar_arm.TARGET_HIGH_M, planar_arm.UPPER_RAD), 1)


def test_goals_put_the_hand_inside_the_target_region():
    goals = planar_arm.random_goals(np.random.default_rng(0), 1000)
    hands = planar_arm.hand(goals)
    assert goals.shape == (1000, 3)
    assert ((hands >= planar_arm.TARGET_LOW_M) & (hands <= planar_arm.TARGET_HIGH_M)).all()
    assert ((goals >= planar_arm.LOWER_RAD) & (goals <= planar_arm.UPPER_RAD)).all()


def test_same_seed_same_poses():
    first, again, other = (planar_arm.random_goals(np.random.default_rng(s), 5) for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_half_of_the_scenes_to_learn_from_have_the_target_near_the_arm():
    target, joints = planar_arm.random_scenes(np.random.default_rng(0), 4000)
    away = np.linalg.norm(target[:, None] - planar_arm.forward(joints), axis=2)
    inside = planar_arm.in_region(planar_arm.hand(joints)).mean()
    assert planar_arm.in_region(target).all()
    about = np.array(planar_arm.NEAR_POINTS) * [1, 1, 1, inside]
    # Of the drawn scales, 0.55 put a target within 6 cm.
    assert ((away < 0.06).mean(axis=0) > 0.4 * 0.5 * about).all()
    assert (away[:, 3] < 0.02).mean() > 0.06
