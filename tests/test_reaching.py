import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.testing import assert_allclose, assert_equal

from handeye import planar_arm
from handeye.envs.reaching import HOLD, PlanarReachConfig, PlanarReachEnv, PlanarReachVectorEnv, guide
from handeye.errors import Misuse

NAME = "handeye/PlanarReach-v0"
BENT = np.array([0.2, 0.8, 0.4])


def one_arm(joints=BENT, offset_m=(0.3, 0.0), **fields):
    """A single arm, its target `offset_m` away from its hand."""
    env = PlanarReachEnv(observe="theta", **fields)
    env.reset(seed=0, options={"joints_rad": joints, "target_m": planar_arm.hand(np.asarray(joints)) + offset_m})
    return env


def many_arms(count, mode, **fields):
    return PlanarReachVectorEnv(count, autoreset_mode=mode, observe="both", **fields)


# Interfaces


@pytest.mark.parametrize("observe", ["image", "theta", "both"])
@pytest.mark.parametrize("domain", ["sim", "camera"])
def test_gymnasium_checks_the_single_environment(observe, domain):
    check_env(gym.make(NAME, observe=observe, domain=domain, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
@pytest.mark.parametrize("domain", ["sim", "camera"])
def test_both_vector_entry_points_give_batches_of_the_declared_spaces(mode, domain):
    env = gym.make_vec(NAME, num_envs=3, vectorization_mode=mode, observe="both", domain=domain)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert info["distance_m"].shape == (3,)
    env.action_space.seed(0)
    for _ in range(5):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert reward.shape == terminated.shape == truncated.shape == info["is_success"].shape == (3,)
    env.close()


def test_both_vector_entry_points_give_the_same_bytes():
    batched, synced = (
        gym.make_vec(NAME, num_envs=3, vectorization_mode=mode, observe="both", max_steps=1000)
        for mode in ("vector_entry_point", "sync")
    )
    rng = np.random.default_rng(0)
    assert_equal(batched.reset(seed=5)[0], synced.reset(seed=5)[0])
    for _ in range(10):
        action = rng.integers(9, size=3)
        ours, theirs = batched.step(action), synced.step(action)
        assert_equal(ours[0], theirs[0])
        assert_allclose(ours[1], theirs[1])


def test_render_is_a_large_colour_picture():
    env = gym.make(NAME, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (504, 504, 3)
    assert len(PlanarReachVectorEnv(2, render_mode="rgb_array").render()) == 2
    assert PlanarReachEnv().render() is None


# Seeds


@pytest.mark.parametrize("domain", ["sim", "camera"])
def test_environment_i_equals_a_single_one_seeded_seed_plus_i(domain):
    batch = many_arms(3, "disabled", domain=domain)
    singles = [PlanarReachEnv(observe="both", domain=domain) for _ in range(3)]
    seen, _ = batch.reset(seed=7)
    alone = [env.reset(seed=7 + i)[0] for i, env in enumerate(singles)]
    for step in range(6):
        for i in range(3):
            assert_equal({name: value[i] for name, value in seen.items()}, alone[i])
        action = 3 * np.arange(3) + 2 * (step % 2)
        seen, *_ = batch.step(action)
        alone = [env.step(action[i])[0] for i, env in enumerate(singles)]


def test_same_seed_same_bytes_through_restarts_and_another_seed_others():
    def play(seed):
        env, rng = many_arms(4, "same_step", max_steps=5, domain="camera"), np.random.default_rng(0)
        seen = [env.reset(seed=seed)[0]] + [env.step(rng.integers(9, size=4))[0] for _ in range(12)]
        return np.stack([s["image"] for s in seen]), np.stack([s["state"] for s in seen])

    first, again, other = play(1), play(1), play(2)
    assert_equal(first, again)
    assert (first[1] != other[1]).any()


def test_a_later_reset_without_seed_draws_another_trial():
    env = PlanarReachEnv(observe="theta")
    first, _ = env.reset(seed=3)
    second, _ = env.reset()
    assert (first["state"] != second["state"]).any()
    assert_equal(env.reset(seed=3)[0], first)


# Motion, rewards, endings


@pytest.mark.parametrize("action", range(9))
def test_an_action_moves_one_joint_by_one_step(action):
    env = one_arm()
    env.step(action)
    expected = BENT.copy()
    expected[action // 3] += 0.04 * (action % 3 - 1)
    assert_allclose(env.batch.joints_rad[0], expected)


def test_reward_outside_is_lambda_times_delta_over_d_minus_1():
    _, reward, terminated, truncated, info = one_arm(offset_m=(0.2, 0.0)).step(HOLD)
    assert reward == pytest.approx(1e-3 * (0.05 / 0.2 - 1))
    assert (terminated, truncated) == (False, False)
    assert info["distance_m"] == pytest.approx(0.2)
    assert not info["is_success"]


def test_third_consecutive_step_inside_pays_one_and_ends():
    env = one_arm(offset_m=(0.03, 0.0))
    results = [env.step(HOLD) for _ in range(3)]
    assert [r[1] for r in results] == [0.0, 0.0, 1.0]
    assert [r[2] for r in results] == [False, False, True]
    assert [bool(r[4]["is_success"]) for r in results] == [False, False, True]
    assert not results[-1][3]


def test_leaving_the_zone_starts_the_count_anew():
    env = one_arm(offset_m=(0.0, 0.0))
    env.step(HOLD), env.step(HOLD)
    env.batch.target_m += 1.0
    assert env.step(HOLD)[1] < 0
    env.batch.target_m -= 1.0
    assert [env.step(HOLD)[2] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("joint", range(3))
@pytest.mark.parametrize("way", [0, 2])
def test_a_joint_limit_costs_one_and_ends_even_on_the_target(joint, way):
    joints = BENT.copy()
    limit = (planar_arm.UPPER_RAD if way else planar_arm.LOWER_RAD)[joint]
    joints[joint] = limit - 0.01 * (way - 1)
    env = one_arm(joints, offset_m=(0.0, 0.0))
    env.step(HOLD), env.step(HOLD)
    _, reward, terminated, truncated, info = env.step(3 * joint + way)
    assert (reward, terminated, truncated) == (-1.0, True, False)
    assert info["limit_hit"] and not info["is_success"]
    assert env.batch.joints_rad[0, joint] == limit


def test_the_time_limit_truncates_and_does_not_terminate():
    env = one_arm(max_steps=2)
    assert env.step(HOLD)[2:4] == (False, False)
    _, reward, terminated, truncated, info = env.step(HOLD)
    assert (terminated, truncated) == (False, True)
    assert reward < 0 and not info["is_success"]


def test_success_on_the_last_step_is_termination_not_truncation():
    env = one_arm(offset_m=(0.0, 0.0), max_steps=3)
    assert [env.step(HOLD)[2:4] for _ in range(3)] == [(False, False), (False, False), (True, False)]


def test_constants_of_the_reward_are_configuration():
    env = one_arm(
        offset_m=(0.2, 0.0), success_radius_m=0.1, success_steps=1, distance_weight=2.0, success_reward=5.0,
        limit_reward=-3.0, step_rad=0.5,
    )  # fmt: skip
    assert env.step(HOLD)[1] == pytest.approx(2.0 * (0.5 - 1))
    env.batch.target_m -= [0.15, 0.0]
    assert env.step(HOLD)[1:3] == (5.0, True)
    env = one_arm(step_rad=0.5, limit_reward=-3.0)
    assert [env.step(2)[1:3] for _ in range(2)][-1] == (-3.0, True)


def test_a_single_environment_refuses_to_go_on_after_its_end():
    env = one_arm(max_steps=1)
    env.step(HOLD)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(HOLD)
    with pytest.raises(RuntimeError, match="reset"):
        PlanarReachEnv().step(HOLD)


def test_trials_can_be_set():
    env = many_arms(2, "disabled")
    joints, target = np.array([[0.1, 0.5, 0.2], [0.3, 1.0, -0.4]]), np.array([[0.5, 0.1], [0.2, -0.4]])
    observation, _ = env.reset(seed=0, options={"joints_rad": joints, "target_m": target})
    assert_allclose(observation["state"], planar_arm.to_theta(target, joints))


def test_near_starts_are_a_share_of_the_trials():
    def starts(share):
        env = PlanarReachVectorEnv(400, observe="theta", near_share=share, near_rad=0.1)
        env.reset(seed=0)
        near = (np.abs(env.joints_rad - env.goal_joints_rad) <= 0.1).all(axis=1)
        assert ((env.joints_rad >= planar_arm.LOWER_RAD) & (env.joints_rad <= planar_arm.UPPER_RAD)).all()
        return near.mean()

    assert starts(0.0) < 0.01
    assert starts(0.5) == pytest.approx(0.5, abs=0.08)
    assert starts(1.0) == 1.0


# Restarts


def test_same_step_hands_over_the_last_observation_of_the_old_episode():
    env = many_arms(2, "same_step", max_steps=2)
    twin = many_arms(2, "disabled", max_steps=2)
    for world in (env, twin):
        world.reset(seed=0, options={"joints_rad": [BENT, [1.03, 0.5, 0.2]], "target_m": [[0.2, 0.5], [0.5, 0.5]]})
    action = np.array([5, 2])
    (seen, _, terminated, truncated, info), last = env.step(action), twin.step(action)
    assert terminated.tolist() == info["_final_obs"].tolist() == info["_final_info"].tolist() == [False, True]
    assert info["final_obs"][0] is None
    assert_equal(info["final_obs"][1], {name: value[1] for name, value in last[0].items()})
    assert_equal(info["final_info"], last[4])
    assert info["final_info"]["limit_hit"][1] and not info["limit_hit"].any()
    assert (seen["image"][1] != last[0]["image"][1]).any()
    assert_equal(seen["image"][0], last[0]["image"][0])
    _, _, terminated, truncated, info = env.step(np.array([HOLD, HOLD]))
    assert truncated.tolist() == [True, False] and not terminated.any()
    assert_equal(info["final_obs"][0], {name: value[0] for name, value in twin.step(np.full(2, HOLD))[0].items()})


def test_same_step_reports_nothing_final_while_nothing_ends():
    env = many_arms(2, "same_step")
    env.reset(seed=0)
    assert "final_obs" not in env.step(np.full(2, HOLD))[4]


def test_next_step_shows_the_end_then_starts_without_reward():
    env = many_arms(2, "next_step", max_steps=1)
    env.reset(seed=0)
    ended, _, _, truncated, _ = env.step(np.full(2, HOLD))
    assert truncated.all()
    fresh, reward, terminated, truncated, _ = env.step(np.full(2, HOLD))
    assert (reward == 0).all() and not (terminated | truncated).any()
    assert (fresh["state"] != ended["state"]).any(axis=1).all()
    assert (env.steps == 0).all()
    assert env.step(np.full(2, HOLD))[3].all()


def test_disabled_stands_still_until_it_is_reset_by_mask():
    env = many_arms(2, "disabled", max_steps=1, domain="camera")
    env.reset(seed=0)
    ended = env.step(np.full(2, HOLD))[0]
    still, reward, terminated, truncated, _ = env.step(np.full(2, 2))
    assert_equal(still, ended)
    assert (reward == 0).all() and not (terminated | truncated).any()
    fresh, _ = env.reset(options={"reset_mask": np.array([True, False])})
    assert (fresh["image"][0] != ended["image"][0]).any()
    assert_equal(fresh["image"][1], ended["image"][1])
    assert env.step(np.full(2, HOLD))[3].tolist() == [True, False]


def test_a_reset_by_mask_leaves_the_seeds_of_the_others_alone():
    env, twin = (many_arms(2, "disabled") for _ in range(2))
    for each in (env, twin):
        each.reset(seed=0)
    env.reset(seed=7, options={"reset_mask": np.array([False, True])})
    assert_equal(env.reset()[0]["state"][0], twin.reset()[0]["state"][0])
    assert_equal(env.joints_rad[1], many_joints(8, 2)[1])


def many_joints(seed, resets):
    """Where two arms stand after so many resets, the first by a seed."""
    env = many_arms(2, "disabled")
    env.reset(seed=seed - 1)
    for _ in range(resets - 1):
        env.reset()
    return env.joints_rad


def test_seeds_and_masks_are_one_for_each_environment():
    env = many_arms(2, "disabled")
    with pytest.raises(Misuse, match="seed must be a number or 2 of them, got 3"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(Misuse, match=r"reset_mask must have shape \(2,\), got \(3,\)"):
        env.reset(options={"reset_mask": np.ones(3, bool)})
    env.reset(seed=[None, 5])
    one = many_arms(1, "disabled")
    one.reset(seed=5)
    assert_equal(env.joints_rad[1], one.joints_rad[0])


def test_a_start_at_a_limit_is_within_it_and_one_beyond_is_refused():
    env = many_arms(2, "disabled")
    env.reset(options={"joints_rad": np.tile(np.float32(planar_arm.UPPER_RAD), (2, 1))})
    _, _, terminated, _, info = env.step(np.full(2, HOLD))
    assert not terminated.any() and not info["limit_hit"].any()
    with pytest.raises(Misuse, match=r"joints_rad must be within .* got \[\[0.0, 0.0, 3.0\]"):
        env.reset(options={"joints_rad": np.array([[0, 0, 3.0], [0, 0, 0]])})


@pytest.mark.parametrize("domain", ["sim", "camera"])
@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_state_resumes_exactly(domain, mode):
    rng = np.random.default_rng(0)
    actions = rng.integers(9, size=(20, 4))
    env = many_arms(4, mode, max_steps=6, domain=domain)
    env.reset(seed=1)
    for action in actions[:10]:
        env.step(action)
    saved = env.state()
    resumed = many_arms(4, mode, max_steps=6, domain=domain)
    resumed.load_state(saved)
    assert_equal(resumed.observation(), env.observation())
    for action in actions[10:]:
        (*ours, info), (*theirs, known) = resumed.step(action), env.step(action)
        assert_equal(ours, theirs)
        assert_equal(list(info.pop("final_obs", [])), list(known.pop("final_obs", [])))
        assert_equal(info, known)


def test_state_is_a_copy():
    env = many_arms(2, "same_step")
    env.reset(seed=0)
    saved = env.state()
    before = json.dumps({k: v.tolist() if k != "rngs" else v for k, v in saved.items()})
    env.step(np.array([2, 5]))
    env.reset()
    assert json.dumps({k: v.tolist() if k != "rngs" else v for k, v in saved.items()}) == before


# The kinematic controller of K-GPS


def guided(away_steps, *options):
    env = PlanarReachVectorEnv(1, observe="theta")
    env.reset(seed=0)
    env.joints_rad[0] = BENT
    env.goal_joints_rad[0] = BENT + 0.04 * np.array(away_steps)
    return guide(env, *options)(env.observation())[0]


@pytest.mark.parametrize(
    ("away_steps", "action"),
    [((3, -2, 5), 2), ((-3, 2, 5), 0), ((0.9, -2, 5), 3), ((0.5, 0.9, 1.1), 8), ((-0.9, 0.9, -7), 6), ((0.9,) * 3, 1)],
)
def test_guide_moves_the_first_joint_that_is_a_step_away(away_steps, action):
    assert guided(away_steps) == action


def test_guide_with_a_finer_tolerance_ends_nearer():
    assert guided((0.6, 0.6, 0.6), 0.5) == 2
    assert guided((0.4, 0.4, 0.4), 0.5) == HOLD


def test_a_polishing_guide_ends_with_the_move_that_brings_the_hand_nearest():
    env = PlanarReachVectorEnv(50, autoreset_mode="disabled", observe="theta")
    env.reset(seed=0)
    env.goal_joints_rad = env.joints_rad + np.random.default_rng(0).uniform(-0.039, 0.039, (50, 3))
    env.target_m = planar_arm.hand(env.goal_joints_rad)
    chosen = guide(env, 1.0, True)(env.observation())
    start, distances = env.state(), []
    for action in range(9):
        env.load_state(start)
        info = env.step(np.full(50, action))[4]
        distances.append(np.where(info["limit_hit"], np.inf, info["distance_m"]))
    assert_allclose(np.array(distances)[chosen, np.arange(50)], np.min(distances, axis=0))


def test_guide_succeeds_wherever_no_limit_is_in_the_way():
    env = PlanarReachVectorEnv(64, autoreset_mode="disabled", observe="theta")
    observation, _ = env.reset(seed=0)
    expert, success = guide(env), np.zeros(64, bool)
    for _ in range(300):
        observation, _, _, _, info = env.step(expert(observation))
        success |= info["is_success"]
    assert success.mean() > 0.95


# Misuse


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step_rad", 0), ("step_rad", float("nan")), ("success_radius_m", -0.1), ("success_steps", 0),
        ("max_steps", 0), ("distance_weight", float("inf")), ("success_reward", float("nan")),
        ("limit_reward", float("-inf")), ("near_share", 1.5), ("near_rad", -1), ("observe", "smell"),
        ("domain", "moon"),
    ],
)  # fmt: skip
def test_configurations_that_make_no_task_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=rf"{field}.*{value}"):
        PlanarReachConfig(**{field: value})


@pytest.mark.parametrize(
    "options", [{"num_envs": 0}, {"autoreset_mode": "never"}, {"render_mode": "hologram"}, {"max_steps": 0}]
)
def test_environments_that_cannot_be_are_refused(options):
    with pytest.raises(Misuse, match=next(iter(options))):
        PlanarReachVectorEnv(**options)


@pytest.mark.parametrize("actions", [[9, 0], [-1, 0], [0], [0, 0, 0]])
def test_actions_that_do_not_exist_are_refused(actions):
    env = PlanarReachVectorEnv(2, observe="theta")
    env.reset(seed=0)
    with pytest.raises(Misuse, match="actions"):
        env.step(np.array(actions))
