import numpy as np
import pytest
from numpy.testing import assert_allclose

from handeye import planar_arm
from handeye.envs import reach_pictures
from handeye.envs.reaching import draw_theta

LEVEL = np.zeros((1, 3))
FAR = np.array([[0.3, -0.7]])


def scenes(count):
    rng = np.random.default_rng(0)
    return planar_arm.hand(planar_arm.random_goals(rng, count)), planar_arm.random_joints(rng, count)


def grey_at(picture, position_m):
    column, row = np.floor(reach_pictures.to_px(np.asarray(position_m))).astype(int)
    return picture[row, column]


def test_grey_values_are_those_of_the_paper():
    picture = reach_pictures.draw(FAR, LEVEL)[0]
    points = planar_arm.forward(LEVEL)[0]
    assert picture[0, 0] == 255
    assert grey_at(picture, points[:2].mean(0)) == 142
    assert grey_at(picture, points[1:3].mean(0)) == 142
    assert grey_at(picture, points[3]) == grey_at(picture, planar_arm.COLUMN_FOOT_M) == 67
    assert [grey_at(picture, point) for point in points[:3]] == [45, 45, 45]
    assert grey_at(picture, FAR[0]) == 36


def test_the_shoulder_appears_where_the_paper_has_it_and_y_points_down():
    assert_allclose(reach_pictures.to_px(np.zeros(2)), (0.24 * 84, 0.49 * 84))
    assert_allclose(reach_pictures.to_px(np.array([0.02383, 0.02383])) - reach_pictures.to_px(np.zeros(2)), (1, -1))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_the_target_moves_by_fractions_of_a_pixel(fraction):
    def centroid(target_m):
        dark = 255.0 - reach_pictures.draw(target_m, LEVEL)[0, 60:, 22:45]
        rows, columns = np.indices(dark.shape)
        return np.array([(dark * columns).sum(), (dark * rows).sum()]) / dark.sum()

    moved = FAR + fraction * planar_arm.M_PER_PX * np.array([1, -1])
    assert_allclose(centroid(moved) - centroid(FAR), (fraction, fraction), atol=0.05)


def test_one_step_of_any_joint_changes_the_picture():
    target, joints = scenes(20)
    before = reach_pictures.draw(target, joints).astype(int)
    for step in 0.04 * np.eye(3):
        after = reach_pictures.draw(target, joints + step)
        assert (np.abs(after - before).sum(axis=(1, 2)) > 100).all()


def test_a_batch_equals_single_pictures_to_the_byte():
    target, joints = scenes(9)
    batch = reach_pictures.draw(target, joints)
    assert batch.shape == (9, 84, 84)
    for i in range(9):
        assert (reach_pictures.draw(target[i : i + 1], joints[i : i + 1])[0] == batch[i]).all()


def test_pictures_of_theta_are_pictures_of_what_it_stands_for():
    target, joints = scenes(5)
    from_theta = draw_theta(planar_arm.to_theta(target, joints)).astype(int)
    assert np.abs(from_theta - reach_pictures.draw(target, joints)).max() <= 1


def test_large_pictures_show_the_scene_and_what_is_believed():
    target, joints = scenes(2)
    plain = reach_pictures.draw_colour(target, joints)
    believed = reach_pictures.draw_colour(target, joints, belief=(target + 0.2, joints + 0.3))
    assert plain.shape == believed.shape == (2, 504, 504, 3)
    column, row = (reach_pictures.to_px(target[0]) * reach_pictures.LARGE).astype(int)
    assert tuple(plain[0, row, column]) == (30, 140, 90)
    assert (plain != believed).any(axis=(1, 2, 3)).all()
