import numpy as np
import pytest
from numpy.testing import assert_allclose

from handeye import planar_arm
from handeye.envs.reaching import HOLD, PlanarReachVectorEnv
from handeye.evaluate import (
    ReachTrials,
    distance_figures,
    reach_figures,
    run_reach_trials,
    sight_errors_px,
    sight_figures,
)


def test_figures_of_distances_by_hand():
    figures = distance_figures(np.array([0.01, 0.02, 0.03, 0.04, 0.05]))
    assert figures["d_med_cm"] == pytest.approx(3.0)
    assert figures["d_q3_cm"] == pytest.approx(4.0)
    assert figures["d_med_px"] == pytest.approx(0.03 / 0.02383)
    assert figures["d_q3_px"] == pytest.approx(0.04 / 0.02383)
    assert figures["d_med_low_cm"] <= 3.0 <= figures["d_med_high_cm"]


def test_the_paper_s_own_pairs_of_cm_and_px_agree_with_the_scale():
    for cm, px in [(4.598, 1.929), (6.150, 2.581), (3.568, 1.497), (4.813, 2.020), (3.449, 1.447)]:
        assert distance_figures(np.array([cm / 100]))["d_med_px"] == pytest.approx(px, abs=1e-3)


def test_figures_of_trials_by_hand():
    trials = ReachTrials(
        final_m=np.array([0.02, 0.04]), closest_m=np.array([0.01, 0.03]), returns=np.array([1.0, -0.5]),
        success=np.array([True, False]), steps=np.array([10, 300]),
    )  # fmt: skip
    figures = reach_figures(trials)
    expected = {"d_med_cm": 3.0, "closest_med_cm": 2.0, "mean_return": 0.25, "success": 0.5, "steps_mean": 155.0}
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert 0 < figures["success_low"] < 0.5 < figures["success_high"] < 1


def test_trials_report_final_and_closest_distance_and_the_undiscounted_return():
    env = PlanarReachVectorEnv(2, autoreset_mode="disabled", observe="theta", max_steps=8)
    joints = np.array([[0.2, 0.8, 0.4], [0.2, 0.8, 0.4]])
    target = planar_arm.hand(joints) + np.array([[0.03, 0.0], [0.2, 0.0]])
    trials = run_reach_trials(
        env, lambda o: np.full(2, HOLD), seed=0, options={"joints_rad": joints, "target_m": target}
    )
    assert_allclose(trials.final_m, [0.03, 0.2])
    assert_allclose(trials.closest_m, [0.03, 0.2])
    assert_allclose(trials.returns, [1.0, 8 * 1e-3 * (0.05 / 0.2 - 1)], rtol=1e-6)
    assert trials.success.tolist() == [True, False]
    assert trials.steps.tolist() == [3, 8]


def test_the_closest_distance_may_lie_before_the_end():
    env = PlanarReachVectorEnv(1, autoreset_mode="disabled", observe="theta", max_steps=4)
    joints = np.array([[0.2, 0.8, 0.4]])
    options = {"joints_rad": joints, "target_m": planar_arm.hand(joints)}
    trials = run_reach_trials(env, lambda o: np.array([2]), seed=0, options=options)
    assert trials.closest_m[0] == 0.0 < trials.final_m[0]


def test_sight_errors_count_pixels_of_target_and_hand():
    joints, target = np.array([[0.1, 0.7, 0.2]]), np.array([[0.5, 0.1]])
    moved = joints + np.array([0.05, 0.0, 0.0])
    seen = planar_arm.to_theta(target + np.array([0.02383, 0.0]), moved)
    target_px, hand_px = sight_errors_px(seen, planar_arm.to_theta(target, joints))
    assert_allclose(target_px, [[1, 0]], atol=1e-4)
    assert_allclose(hand_px, (planar_arm.hand(moved) - planar_arm.hand(joints)) / 0.02383, atol=1e-4)


def test_sight_that_is_right_has_no_error_and_a_shared_shift_none_between_hand_and_target():
    theta = np.random.default_rng(0).random((9, 5), dtype=np.float32)
    assert set(sight_figures(theta, theta).values()) == {0.0}
    assert sight_figures(theta, theta).keys() == {
        f"{what}_{figure}_px" for what in ("target", "hand", "relative") for figure in ("med", "q3")
    }
