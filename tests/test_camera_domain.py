import numpy as np
from numpy.testing import assert_allclose

from handeye import planar_arm
from handeye.envs import camera_domain, reach_pictures

TARGET, LEVEL = np.array([[0.5, -0.6]]), np.zeros((1, 3))


def taken(target, joints, seed=0):
    return camera_domain.draw(target, joints, np.arange(seed, seed + len(joints), dtype=np.uint64))


def test_same_seed_same_bytes_and_another_seed_only_noise_and_exposure():
    first, again, other = (taken(TARGET, LEVEL, seed).astype(float) for seed in (3, 3, 4))
    assert (first == again).all()
    assert 1 < np.abs(first - other).mean() < 25
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] > 0.98


def test_a_batch_equals_single_pictures_to_the_byte():
    rng = np.random.default_rng(0)
    target, joints = planar_arm.hand(planar_arm.random_goals(rng, 6)), planar_arm.random_joints(rng, 6)
    batch = taken(target, joints)
    for i in range(6):
        assert (taken(target[i : i + 1], joints[i : i + 1], i)[0] == batch[i]).all()


def test_greys_are_those_of_the_published_photograph():
    seen = camera_domain.draw(
        np.repeat(TARGET, 200, 0), np.repeat(LEVEL, 200, 0), np.arange(200, dtype=np.uint64)
    ).mean(0)
    column, row = reach_pictures.to_px(TARGET[0]).astype(int)
    assert seen[:4].min() >= 5 and seen[:4].max() <= 55, "ceiling"
    assert seen[12:28, 40:70].min() >= 100 and seen[12:28, 40:70].max() <= 210, "curtain"
    assert seen[-3:, -3:].min() >= 40 and seen[-3:, -3:].max() <= 100, "vignetted corner"
    assert 36 <= seen[row, column] <= 60, "target"
    assert 7 <= seen[42:45, 30:40].min() <= 40, "arm"


def test_the_camera_errs_as_much_as_the_facts_say():
    assert (np.hypot(*camera_domain.SHIFT_PX) >= 1) and (np.abs(camera_domain.SHIFT_PX) <= 2).all()
    assert 1.01 <= camera_domain.SCALE <= 1.02
    assert np.rad2deg(camera_domain.ROTATION_RAD) <= 1


def test_it_looks_nothing_like_the_simulator():
    plain = reach_pictures.draw(TARGET, LEVEL)[0].astype(float)
    assert np.abs(plain - taken(TARGET, LEVEL)[0]).mean() > 60


def test_labels_are_true_or_err_as_a_recording_would():
    exact = camera_domain.labelled(1500, 5, label_noise=False)
    noisy = camera_domain.labelled(1500, 5, label_noise=True)
    assert (exact[0] == noisy[0]).all()
    (target, joints), (target_seen, joints_seen) = planar_arm.from_theta(exact[1]), planar_arm.from_theta(noisy[1])
    assert_allclose((joints_seen - joints).std(0), camera_domain.LABEL_NOISE_RAD, rtol=0.08)
    assert_allclose((target_seen - target).std(0), camera_domain.LABEL_NOISE_M, rtol=0.08)
    redrawn = camera_domain.labelled(1500, 5, label_noise=True)
    assert (redrawn[0] == noisy[0]).all() and (redrawn[1] == noisy[1]).all()
