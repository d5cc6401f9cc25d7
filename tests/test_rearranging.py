import numpy as np
import pytest
from numpy.testing import assert_allclose

from handeye import planar_arm, rearranging, squares
from handeye.envs import camera_domain, reach_pictures

SCENES = planar_arm.random_scenes(np.random.default_rng(0), 300)


def of_sim(target, joints):
    return reach_pictures.draw(target, joints)


def of_camera(target, joints):
    return camera_domain.draw(target, joints, np.arange(len(joints), dtype=np.uint64))


def drawn(count, pictures, theta, turn_rad, move_share):
    camera = rearranging.StillCamera(pictures, theta)
    return rearranging.rearranging_source(camera, turn_rad, move_share)(count, np.random.default_rng(1))


def test_a_turn_moves_hand_and_target_about_the_shoulder():
    target, joints = SCENES
    after, _ = rearranging.turned_theta(planar_arm.to_theta(target, joints), np.full(300, np.pi / 2))
    turned_target, turned_joints = planar_arm.from_theta(after)
    for before, then in ((target, turned_target), (planar_arm.hand(joints), planar_arm.hand(turned_joints))):
        assert_allclose(then, np.stack([-before[:, 1], before[:, 0]], 1), atol=1e-6)


def test_a_turn_beyond_a_limit_is_not_allowed():
    theta = planar_arm.to_theta(np.array([[0.5, 0.0]] * 3), np.array([[0.0, 1.0, 0.0], [0.9, 1, 0], [0.0, 1, 0]]))
    _, allowed = rearranging.turned_theta(theta, np.array([-0.3, -0.3, 3.0]))
    assert allowed.tolist() == [True, False, False]


@pytest.mark.parametrize(("render", "near", "far"), [(of_sim, 1.5, 8), (of_camera, 9, 12)])
def test_a_turned_picture_is_the_picture_of_the_turned_scene(render, near, far):
    pictures, theta = render(*SCENES), planar_arm.to_theta(*SCENES)
    shown, labels = drawn(64, pictures, theta, 0.4, 0.0)
    moved = ~(labels[:, None] == theta).all(-1).any(1)
    assert 30 < moved.sum() < 55
    truth = render(*planar_arm.from_theta(labels))[moved].astype(float)
    assert np.abs(shown[moved] - truth).mean() < near
    assert np.abs(np.roll(shown[moved], 1, axis=0) - truth).mean() > far


def test_the_arm_lies_within_its_pixels():
    _, joints = SCENES
    shown = of_sim(np.full((300, 2), 9.0), joints)
    column = of_sim(np.full((1, 2), 9.0), np.array([[-2.147, 0, 0]]))[0] < 255
    covered = rearranging.arm_pixels(joints, reach_pictures.to_px)
    assert not ((shown < 255) & ~covered & ~column).any()
    assert covered.mean() < 0.15


def test_what_does_not_move_stays_when_the_arm_is_turned():
    ratio, moves = np.ones((1, 84, 84), np.float32), np.zeros((1, 84, 84), bool)
    ratio[0, 20, 20], ratio[0, 50:53, 60:63] = 0.9, 0.2
    moves[0, 48:55, 58:65] = True
    turned = rearranging.turned_pictures(ratio, moves, np.array([np.pi / 2]), np.array([42.0, 42.0]))[0]
    expected = np.ones((84, 84))
    expected[20, 20], expected[21:24, 50:53] = 0.9, 0.2
    assert_allclose(turned, expected, atol=1e-4)


def test_only_what_stands_before_the_bright_is_turned_and_only_to_where_it_does():
    camera = rearranging.StillCamera(of_camera(*SCENES), planar_arm.to_theta(*SCENES))
    ahead, up = np.array([0.2, 0.6, 0.3]), np.array([-1.5, 0.0, 0.0])
    middle, before_the_body = np.array([0.5, -0.6]), np.array([-0.3, -0.6])
    scenes = ((middle, ahead), (before_the_body, ahead), (middle, up), (middle, np.array([1.0, 2.5, 0.0])))
    theta = planar_arm.to_theta(*(np.array(part) for part in zip(*scenes, strict=True)))
    assert camera.in_the_open(theta).tolist() == [[True, True], [True, False], [False, True], [False, True]]
    source = rearranging.rearranging_source(camera, 0.5, 0.0)
    _, labels = source(200, np.random.default_rng(0))
    turned = ~(labels[:, None, 2] == camera.theta[:, 2]).any(1)
    own = (labels[:, None, 3:] == camera.theta[:, 3:]).all(-1).argmax(1)
    assert turned.sum() > 40
    assert camera.open[own[turned]].all() and camera.in_the_open(labels[turned]).all()


def test_without_spread_pictures_and_labels_stay_as_they_were_taken():
    pictures, theta = of_camera(*SCENES), planar_arm.to_theta(*SCENES)
    shown, labels = drawn(1000, pictures, theta, 0.0, 0.0)
    which = (labels[:, None] == theta).all(-1).argmax(1)
    assert (shown == pictures[which]).all() and (labels == theta[which]).all()
    in_the_open = rearranging.StillCamera(pictures, theta).open.all(1)
    assert_allclose(in_the_open[which].mean(), in_the_open.mean(), atol=0.06)


def test_drawing_leaves_the_pictures_alone():
    pictures, theta = of_camera(*SCENES), planar_arm.to_theta(*SCENES)
    before = pictures.copy(), theta.copy()
    drawn(50, pictures, theta, 1.0, 0.0)
    assert (pictures == before[0]).all() and (theta == before[1]).all()


def test_the_background_is_what_the_arm_hides_now_and_then():
    pictures = of_camera(*planar_arm.random_scenes(np.random.default_rng(2), 300))
    empty = camera_domain.draw(np.array([[9.0, 9.0]]), np.array([[-2.147, 0, 0]]), np.zeros(1, np.uint64))[0]
    right = np.s_[10:, 60:]
    assert np.abs(rearranging.background(pictures)[right] - empty[right]).mean() < 8


def test_a_moved_target_makes_the_picture_of_the_scene_that_its_label_tells():
    target, joints = planar_arm.random_scenes(np.random.default_rng(4), 400)
    pictures, theta = of_camera(target, joints), planar_arm.to_theta(target, joints)
    shown, labels = drawn(200, pictures, theta, 0.0, 1.0)
    moved = ~(labels[:, None] == theta).all(-1).any(1)
    assert moved.sum() > 80
    scenes = planar_arm.from_theta(labels[moved])
    truth = of_camera(*scenes).astype(float)
    about = squares.within(4, reach_pictures.to_px(scenes[0]) + camera_domain.SHIFT_PX)
    assert np.abs(shown[moved] - truth).mean() < 9
    assert np.abs(shown[moved] - truth)[about].mean() < 16
    assert np.abs(np.roll(shown[moved], 1, axis=0) - truth)[about].mean() > 25


def test_the_still_camera_is_measured_from_where_it_sees_the_targets():
    target, joints = planar_arm.random_scenes(np.random.default_rng(4), 400)
    camera = rearranging.StillCamera(of_camera(target, joints), planar_arm.to_theta(target, joints))
    shoulder = camera.to_px(np.zeros((1, 2)))[0]
    assert_allclose(shoulder, reach_pictures.SHOULDER_PX + camera_domain.SHIFT_PX, atol=0.5)
    found = camera.to_px(target[camera.free]) - camera.centres_px
    assert np.median(np.linalg.norm(found, axis=1)) < 0.35


def test_with_few_pictures_no_target_is_moved_and_the_camera_is_taken_as_ideal():
    pictures, theta = of_camera(*SCENES)[:20], planar_arm.to_theta(*SCENES)[:20]
    camera = rearranging.StillCamera(pictures, theta)
    assert_allclose(camera.to_px(np.zeros((1, 2)))[0], reach_pictures.SHOULDER_PX)
    _, labels = drawn(50, pictures, theta, 0.0, 1.0)
    assert (labels[:, None] == theta).all(-1).any(1).all()
