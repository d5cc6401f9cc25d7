import numpy as np
import pytest
from numpy.testing import assert_allclose

from handeye import planar_arm, turning
from handeye.envs import camera_domain, reach_pictures

SCENES = planar_arm.random_scenes(np.random.default_rng(0), 300)


def of_sim(target, joints):
    return reach_pictures.draw(target, joints)


def of_camera(target, joints):
    return camera_domain.draw(target, joints, np.arange(len(joints), dtype=np.uint64))


def test_a_turn_moves_hand_and_target_about_the_shoulder():
    target, joints = SCENES
    after, _ = turning.turned_theta(planar_arm.to_theta(target, joints), np.full(300, np.pi / 2))
    turned_target, turned_joints = planar_arm.from_theta(after)
    for before, then in ((target, turned_target), (planar_arm.hand(joints), planar_arm.hand(turned_joints))):
        assert_allclose(then, np.stack([-before[:, 1], before[:, 0]], 1), atol=1e-6)


def test_a_turn_beyond_a_limit_is_not_allowed():
    theta = planar_arm.to_theta(np.array([[0.5, 0.0]] * 3), np.array([[0.0, 1.0, 0.0], [0.9, 1, 0], [0.0, 1, 0]]))
    _, allowed = turning.turned_theta(theta, np.array([-0.3, -0.3, 3.0]))
    assert allowed.tolist() == [True, False, False]


@pytest.mark.parametrize(("render", "near", "far"), [(of_sim, 1.5, 8), (of_camera, 9, 12)])
def test_a_turned_picture_is_the_picture_of_the_turned_scene(render, near, far):
    pictures, theta = render(*SCENES), planar_arm.to_theta(*SCENES)
    shown, labels = turning.turning_source(pictures, theta, 0.4)(64, np.random.default_rng(1))
    moved = ~(labels[:, None] == theta).all(-1).any(1)
    assert 30 < moved.sum() < 55
    truth = render(*planar_arm.from_theta(labels))[moved].astype(float)
    assert np.abs(shown[moved] - truth).mean() < near
    assert np.abs(np.roll(shown[moved], 1, axis=0) - truth).mean() > far


def test_without_spread_pictures_and_labels_stay_as_they_were_taken():
    pictures, theta = of_camera(*SCENES), planar_arm.to_theta(*SCENES)
    shown, labels = turning.turning_source(pictures, theta, 0.0)(50, np.random.default_rng(1))
    which = (labels[:, None] == theta).all(-1).argmax(1)
    assert (shown == pictures[which]).all() and (labels == theta[which]).all()


def test_drawing_leaves_the_pictures_alone():
    pictures, theta = of_camera(*SCENES), planar_arm.to_theta(*SCENES)
    before = pictures.copy(), theta.copy()
    turning.turning_source(pictures, theta, 1.0)(50, np.random.default_rng(1))
    assert (pictures == before[0]).all() and (theta == before[1]).all()


def test_the_background_is_what_the_arm_hides_now_and_then():
    pictures = of_camera(*planar_arm.random_scenes(np.random.default_rng(2), 300))
    empty = camera_domain.draw(np.array([[9.0, 9.0]]), np.array([[-2.147, 0, 0]]), np.zeros(1, np.uint64))[0]
    right = np.s_[10:, 60:]
    assert np.abs(turning.background(pictures)[right] - empty[right]).mean() < 8
