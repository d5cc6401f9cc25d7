import runpy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.testing import assert_equal

from handeye.envs import bin as bin_
from handeye.envs import known, objects
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasp_policies import Oracle, Scripted
from handeye.envs.grasping import CLOSE, COSINE, OPEN, TERMINATE, GraspConfig, GraspEnv, GraspVectorEnv
from handeye.envs.rendering import CameraConfig
from handeye.errors import Misuse

NAME = "handeye/Grasp-v0"
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WORLD = BinConfig(models=3, placements=1)
VIEW = CameraConfig(width_px=16, height_px=16)


def bins(count, mode="disabled", **fields):
    config = GraspConfig(world=WORLD, view=VIEW, observe="objects")
    return GraspVectorEnv(count, config, mode, threads=1, **fields)


def action(count=1, **parts):
    """Actions that do nothing but what is named."""
    actions = np.zeros((count, 8))
    actions[:, COSINE] = 1
    for name, value in parts.items():
        actions[:, {"x": 0, "y": 1, "z": 2, "close": CLOSE, "open": OPEN, "terminate": TERMINATE}[name]] = value
    return actions


def play(env, policy, seed=0):
    """One episode of every environment: rewards (T, N), and the last step's results."""
    observation, _ = env.reset(seed=seed)
    rewards = []
    while not env.done.all():
        observation, reward, _, _, info = env.step(policy(observation))
        rewards.append(reward)
    return np.array(rewards), info


# Interfaces


@pytest.mark.parametrize("observe", ["image", "objects", "both"])
def test_gymnasium_checks_the_single_environment(observe):
    check_env(gym.make(NAME, config=GraspConfig(world=WORLD, view=VIEW), observe=observe).unwrapped)


@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
def test_both_vector_entry_points_give_batches_of_the_declared_spaces(mode):
    config = GraspConfig(world=WORLD, view=VIEW, observe="both", bottom_bonus=0.1)
    env = gym.make_vec(NAME, num_envs=2, vectorization_mode=mode, config=config)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    env.action_space.seed(0)
    for _ in range(3):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert reward.shape == terminated.shape == truncated.shape == info["is_success"].shape == (2,)
    env.close()


def test_the_same_seed_gives_the_same_bytes_alone_and_in_a_batch():
    config = GraspConfig(world=WORLD, view=CameraConfig(width_px=16, height_px=16, randomise="strong"), observe="both")
    many, one = GraspVectorEnv(3, config, "disabled"), GraspVectorEnv(1, config, "disabled")
    ours, theirs = many.reset(seed=3)[0], one.reset(seed=5)[0]
    for _ in range(3):
        for key in ours:
            assert_equal(ours[key][2], theirs[key][0])
        ours, theirs = many.step(action(3, x=0.03, z=-0.05))[0], one.step(action(1, x=0.03, z=-0.05))[0]


def test_render_is_a_large_colour_picture():
    env = GraspEnv(GraspConfig(world=WORLD, observe="objects"), render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (512, 640, 3)


# Rules


def test_an_oracle_grasps_and_is_paid_once():
    env = bins(8)
    rewards, info = play(env, Oracle(env))
    assert info["is_success"].mean() >= 0.75
    for i in np.flatnonzero(info["is_success"]):
        steps = env.steps[i]
        assert rewards[:, i].sum() == pytest.approx(1 - 0.05 * (steps - 1))
        assert rewards[steps - 1, i] == 1


@pytest.mark.parametrize("termination", ["heuristic", "learned"])
@pytest.mark.parametrize("max_steps", [8, 20])
def test_a_return_never_exceeds_one_whatever_follows_the_end(termination, max_steps):
    env = bins(8, termination=termination, max_steps=max_steps)
    oracle, rewards = Oracle(env), []
    observation, info = env.reset(seed=0)
    for _ in range(max_steps + 3):
        observation, reward, _, _, info = env.step(oracle(observation))
        rewards.append(reward)
    assert info["is_success"].any() and env.done.all()
    assert (np.sum(rewards, 0)[info["is_success"]] > 0).all() and (np.sum(rewards, 0) <= 1).all()


@pytest.mark.parametrize("policy", [Oracle, Scripted])
def test_policies_of_the_world_act_within_their_bounds(policy):
    env = bins(4, termination="learned")
    act = policy(env) if policy is Oracle else policy(env, np.random.default_rng(0).spawn(4))
    observation, _ = env.reset(seed=1)
    for _ in range(env.config.max_steps):
        actions = act(observation)
        assert env.action_space.contains(actions)
        assert (np.abs(np.arctan2(actions[:, 3], actions[:, 4])) <= env.config.turn_rad + 1e-6).all()
        observation = env.step(actions)[0]


def test_the_large_picture_has_the_field_of_view_of_the_episode():
    env = bins(1, view=CameraConfig(randomise="strong"), render_mode="rgb_array")
    env.reset(seed=0)
    env.look.zoom[:] = 1.0
    before = env.render()[0]
    env.look.zoom[:] = 0.8
    assert np.abs(env.render()[0].astype(int) - before).mean() > 3


def test_who_judges_by_pictures_draws_with_as_many_threads_as_the_rest():
    judge = bins(1, reward_source="pictures", view=CameraConfig(randomise="mild")).judge
    assert (judge.threads, judge.view.randomise) == (1, "mild")


def test_a_time_limit_is_a_truncation():
    env = bins(1, max_steps=2)
    env.reset(seed=0)
    assert env.step(action())[2:4] == (np.array([False]), np.array([False]))
    _, reward, terminated, truncated, info = env.step(action())
    assert (terminated[0], truncated[0], info["is_success"][0]) == (False, True, False)
    assert reward[0] == 0


def test_no_episode_ends_at_its_first_step_unless_it_is_asked():
    for termination in ("heuristic", "learned"):
        env = bins(4, termination=termination)
        env.reset(seed=0)
        _, _, terminated, truncated, _ = env.step(action(4, z=0.06, close=1))
        assert not (terminated | truncated).any()


def test_the_heuristic_stops_a_closed_gripper_that_is_high_and_sent_up():
    env = bins(1)
    env.reset(seed=0)
    env.step(action(close=1))
    height = env.bin.tip_m[0, 2]
    assert not env.step(action(z=-0.01))[2][0]
    _, reward, terminated, _, info = env.step(action(z=0.05))
    assert terminated[0] and not info["is_success"][0] and reward[0] == 0
    assert env.bin.tip_m[0, 2] < height


def test_terminate_is_looked_at_only_where_termination_is_learned():
    heuristic, learned = bins(1), bins(1, termination="learned")
    for env in (heuristic, learned):
        env.reset(seed=0)
    assert not heuristic.step(action(terminate=1))[2][0]
    before = learned.bin.qpos.copy()
    assert learned.step(action(terminate=1, x=0.05))[2][0]
    assert_equal(learned.bin.qpos, before)


def test_policies_of_the_world_stop_when_the_heuristic_would_where_stopping_is_learned():
    ended = {}
    for termination in ("heuristic", "learned"):
        env = bins(4, termination=termination)
        rewards, info = play(env, Oracle(env))
        ended[termination] = rewards, info["is_success"]
    for mine, theirs in zip(ended["heuristic"], ended["learned"], strict=True):
        assert_equal(mine, theirs)
    assert ended["learned"][1].any() and len(ended["learned"][0]) < 20


def test_of_close_and_open_the_larger_counts_above_a_half():
    env = bins(1)
    env.reset(seed=0)
    for commands, closed in (((0.4, 0.3), False), ((0.9, 0.6), True), ((0.4, 0.4), True), ((0.6, 0.9), False)):
        env.step(action(close=commands[0], open=commands[1]))
        assert env.bin.closed[0] == closed


def test_displacements_beyond_the_bounds_are_clipped():
    env = bins(1)
    env.reset(seed=0)
    before = env.bin.gripper[0].copy()
    env.step(action(y=5.0))
    assert abs(env.bin.gripper[0, 1] - before[1]) <= 0.06 + 1e-9


def test_options_of_the_world():
    slow, plain = bins(1, slow_below_m=1.0, slow_share=0.5), bins(1)
    for env in (slow, plain):
        env.reset(seed=0)
        before = env.bin.gripper[0, 2]
        env.step(action(z=-0.04))
        env.fell = before - env.bin.gripper[0, 2]
    assert (slow.fell, plain.fell) == (pytest.approx(0.02), pytest.approx(0.04))
    ascending = bins(1, auto_ascend=True)
    ascending.reset(seed=0)
    ascending.step(action(z=-0.06))
    low = ascending.bin.gripper[0].copy()
    ascending.step(action(x=0.05, close=1))
    assert ascending.bin.gripper[0] - low == pytest.approx([0, 0, 0.06, 0])


def blind(env):
    """Down as far as it goes, close, up: a policy that sees nothing."""

    def act(observation):
        low = env.bin.gripper[:, 2] <= WORLD.lowest_m
        closed = env.bin.closed
        return action(env.num_envs, z=np.where(closed, 0.06, np.where(low, 0, -0.06)), close=low & ~closed)

    return act


def test_easy_episodes_succeed_blindly_and_a_share_of_one_is_the_default():
    ended = []
    for share in (None, 1.0, 0.0):
        env = bins(12)
        if share is not None:
            env.ease(share)
        _, info = play(env, blind(env))
        ended.append((info["is_success"].sum(), env.steps.mean(), env.bin.qpos.copy()))
    assert_equal(ended[0][2], ended[1][2])
    assert ended[2][0] > ended[0][0] + 3 and ended[2][1] < ended[0][1]


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_a_share_of_ease_outside_its_range_is_refused(share):
    with pytest.raises(Misuse, match=f"ease must be in 0.*{share}"):
        GraspEnv(GraspConfig(world=WORLD, view=VIEW)).ease(share)


def test_bonus_and_penalties():
    env = bins(1, bottom_bonus=0.1, bottom_m=1.0, wall_penalty=0.5, bottom_penalty=0.25)
    env.reset(seed=0)
    env.bin.gripper[0, :2] = 0
    paid = [env.step(action(x=0.06))[1][0] for _ in range(3)]
    assert paid == pytest.approx([0.05, -0.05, -0.55])
    assert env.step(action())[0]["state"][0, 3] == 1
    for _ in range(5):
        reward = env.step(action(z=-0.06))[1][0]
    assert reward == pytest.approx(-0.3)


def test_objects_are_seen_from_the_gripper_nearest_first():
    env = bins(3)
    seen = env.reset(seed=0)[0]["objects"]
    away = np.linalg.norm(seen, axis=-1)
    assert (np.diff(away, axis=1) >= 0).all()
    truth = np.sort(np.linalg.norm(env.bin.objects_m - env.bin.tip_m[:, None], axis=-1), axis=1)
    np.testing.assert_allclose(away, truth, rtol=1e-5)
    assert env.step(action(3))[0]["state"][:, 2] == pytest.approx([1 / 20] * 3)


def test_what_is_known_is_what_a_picture_can_show():
    env = bins(2)
    seen = env.reset(seed=0)[0]["objects"]
    nearest = np.linalg.norm(env.bin.objects_m - env.bin.tip_m[:, None], axis=-1).argmin(1)
    # Sent by this displacement, the gripper would be there: commands and Θ have the same axes.
    reached = env.bin.tip_m + seen[:, 0]
    np.testing.assert_allclose(reached, env.bin.objects_m[[0, 1], nearest], atol=1e-6)
    pose = known.pose(env.bin)
    # Turned by half a circle, its fingers exchanged, a gripper looks the same.
    env.bin.gripper[:, 3] += np.pi
    np.testing.assert_allclose(known.objects(env.bin), seen, atol=1e-6)
    np.testing.assert_allclose(known.pose(env.bin), pose, atol=1e-6)


def test_a_diverged_simulation_truncates_and_is_never_a_success():
    env = bins(2)
    env.reset(seed=0)
    env.bin.qvel[0, 9:] = 1e6
    _, _, terminated, truncated, info = env.step(action(2))
    assert (terminated.any(), truncated.tolist(), info["diverged"].tolist()) == (False, [True, False], [True, False])


def until_closed(env):
    """Let the oracle grasp until it has closed its fingers around the first environment's object."""
    policy = Oracle(env)
    observation, _ = env.reset(seed=0)
    while not env.course.closed[0]:
        observation, *_ = env.step(policy(observation))


def test_what_leans_on_the_tray_is_wedged_and_no_success():
    env = bins(1)
    until_closed(env)
    env.bin.rest_m[:] = -0.2  # As if it had been lifted; it still touches the floor.
    info = env.step(action())[4]
    assert info["pressed"][0] and info["wedged"][0] and info["objects_held"][0] == 0
    env.steps[:] = 19
    _, reward, _, truncated, info = env.step(action())
    assert truncated[0] and reward[0] == 0 and info["wedged"][0] and not info["is_success"][0]


@pytest.mark.parametrize(
    ("pressed", "high", "leaning", "held"),
    [
        ([[1, 1], [0, 0]], [1, 1], [0, 0], [1, 0]),  # One object, by both fingers.
        ([[1, 0], [0, 1]], [1, 1], [0, 0], [1, 1]),  # Two, each by its own.
        ([[1, 1], [1, 0]], [1, 1], [0, 0], [1, 1]),  # One by both, one carried along.
        ([[1, 0], [1, 0]], [1, 1], [0, 0], [0, 0]),  # The other finger presses nothing.
        ([[1, 0], [0, 1]], [1, 0], [0, 0], [0, 0]),  # The other object lies where it lay.
        ([[1, 0], [0, 1]], [1, 1], [0, 1], [0, 0]),  # It leans on the tray.
        ([[1, 1], [0, 1]], [1, 1], [0, 1], [1, 0]),
    ],
)
def test_what_is_held_is_between_the_fingers(monkeypatch, pressed, high, leaning, held):
    env = bins(1, world=BinConfig(objects=2))
    env.reset(seed=0)
    env.bin.rest_m[:] = env.bin.objects_m[..., 2] - np.where(high, 0.1, 0.0)
    monkeypatch.setattr(type(env.bin), "pressed", property(lambda _: np.array([pressed])))
    monkeypatch.setattr(type(env.bin), "leaning", property(lambda _: np.array([leaning], bool)))
    assert env.objects_held[0].tolist() == [bool(flag) for flag in held]


def test_two_objects_between_the_fingers_are_told_from_one(monkeypatch):
    env = bins(3, world=BinConfig(objects=2))
    env.reset(seed=0)
    told = []
    for now in ([1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1]):  # By left and right finger: first object, second object.
        pressed = np.array([[now[:2], now[2:]], [[0, 0], now[2:]], [[0, 0], [0, 0]]])
        monkeypatch.setattr(type(env.bin), "pressed", property(lambda _, known=pressed: known))
        env.course.note(np.arange(3))
        told.append((env.course.paired.tolist(), env.course.pressed.tolist()))
    apart, together = ([True, False, False], [False] * 3), ([False] * 3, [True, False, False])
    assert told == [apart, together, together]


def test_what_the_fingers_alone_hold_is_not_wedged():
    env = bins(4)
    _, info = play(env, Oracle(env))
    assert info["is_success"].any() and not info["wedged"][info["is_success"]].any()


def test_the_family_is_that_of_the_object_between_the_fingers():
    env = bins(3)
    policy = Oracle(env)
    _, info = play(env, policy)
    grasped = [
        objects.FAMILY_NAMES.index(env.bin.shapes[i][k].family) for i, k in enumerate(env.objects_held.argmax(1))
    ]
    assert info["is_success"].all() and info["family"].tolist() == grasped


def test_a_jam_is_remembered_until_the_episode_ends(monkeypatch):
    env = bins(2)
    env.reset(seed=0)
    monkeypatch.setattr(bin_, "ASTRAY_M", 0.002)  # Less than a moving arm lags behind.
    move = action(2)
    move[0, 2] = -0.06
    assert env.step(move)[4]["jammed"].tolist() == [True, False]
    assert env.step(action(2))[4]["jammed"].tolist() == [True, False]
    assert not env.bin.jammed.any() and not env.reset(seed=0)[1]["jammed"].any()


# Restarts


def test_same_step_restart_keeps_the_final_observation():
    env = bins(2, "same_step", max_steps=2)
    env.reset(seed=0)
    env.step(action(2))
    observation, _, _, truncated, info = env.step(action(2))
    assert truncated.all() and info["_final_obs"].all()
    assert [final["state"][2] for final in info["final_obs"]] == [1, 1]
    assert (observation["state"][:, 2] == 0).all()


def test_next_step_restart():
    env = bins(1, "next_step", max_steps=1)
    env.reset(seed=0)
    assert env.step(action())[3][0]
    observation, reward, terminated, truncated, _ = env.step(action())
    assert (observation["state"][0, 2], reward[0], terminated[0], truncated[0]) == (0, 0, False, False)


def test_a_step_after_the_end_is_an_error_alone_and_rest_in_a_batch():
    single = GraspEnv(GraspConfig(world=WORLD, view=VIEW, observe="objects", max_steps=1))
    single.reset(seed=0)
    single.step(action()[0])
    with pytest.raises(RuntimeError, match="reset"):
        single.step(action()[0])
    env = bins(1, max_steps=1)
    env.reset(seed=0)
    env.step(action())
    before = env.bin.qpos.copy()
    assert env.step(action(x=0.05))[1][0] == 0
    assert_equal(env.bin.qpos, before)


# Policies and errors


def test_the_scripted_policy_goes_down_closes_and_comes_up():
    env = bins(4)
    policy = Scripted(env, np.random.default_rng(0).spawn(env.num_envs))
    observation, _ = env.reset(seed=0)
    heights = []
    while not env.done.all():
        observation, *_ = env.step(policy(observation))
        heights.append(env.bin.tip_m[:, 2].copy())
    assert env.bin.closed.all()
    assert (np.min(heights, axis=0) < 0.05).all()
    assert (env.steps < 20).all()


def test_an_oracle_goes_for_what_is_wanted():
    env = bins(4)
    wanted = np.array([3, 0, 4, 1])
    _, info = play(env, Oracle(env, wanted=wanted))
    good = info["is_success"]
    assert good.sum() >= 2
    assert_equal(env.objects_held.argmax(1)[good], wanted[good])


@pytest.mark.slow
@pytest.mark.parametrize(("split", "models"), [("train", [0, 77, 239]), ("heldout", [0, 47])])
def test_every_object_of_a_sample_can_be_grasped_alone(split, models):
    study = runpy.run_path(str(BENCHMARKS / "graspable.py"))["study"]
    found = study(split, np.array(models))
    assert found["objects"] == 5 * len(models) and found["never"] == []


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_rates_of_the_worlds_own_policies(split):
    env = GraspVectorEnv(
        64, GraspConfig(world=BinConfig(split=split, models=48, placements=2), observe="objects"), "disabled"
    )
    oracle = np.mean([play(env, Oracle(env), seed)[1]["is_success"].mean() for seed in (0, 1000, 2000, 3000)])
    policies = [Scripted(env, np.random.default_rng(seed).spawn(env.num_envs)) for seed in range(8)]
    scripted = np.mean([play(env, p, 1000 * k)[1]["is_success"].mean() for k, p in enumerate(policies)])
    assert oracle > 0.92 and 0.15 < scripted < 0.3


@pytest.mark.parametrize("wrong", [np.zeros((2, 8)), np.zeros((1, 7)), np.full((1, 8), np.nan)])
def test_actions_of_another_shape_or_not_finite_are_refused(wrong):
    env = bins(1)
    env.reset(seed=0)
    with pytest.raises(Misuse, match="actions must be"):
        env.step(wrong)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_steps", 0),
        ("move_m", 0),
        ("termination", "never"),
        ("observe", "touch"),
        ("slow_share", 2),
        ("lift_m", -1),
    ],
)
def test_tasks_that_cannot_be_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        GraspConfig(**{field: value})


def test_the_state_tells_the_grippers_pose_if_asked():
    env = bins(3, show_pose=True)
    before = env.reset(seed=2)[0]["state"]
    assert env.observation_space["state"].contains(before) and before.shape == (3, 7)
    pose = np.stack([*env.bin.gripper[:, :2].T, *(f(2 * env.bin.gripper[:, 3]) for f in (np.sin, np.cos))], 1)
    np.testing.assert_allclose(before[:, 3:], pose, atol=1e-6)
    turned = action(3, x=0.02)
    turned[:, 3:5] = np.sin(0.25), np.cos(0.25)
    env.bin.gripper[:, 0] = np.minimum(env.bin.gripper[:, 0], 0.05)
    after = env.step(turned)[0]["state"]
    np.testing.assert_allclose(after[:, 3], np.minimum(before[:, 3], 0.05) + 0.02, atol=1e-6)
    angle = np.arctan2(after[:, 5], after[:, 6]) - np.arctan2(before[:, 5], before[:, 6])
    np.testing.assert_allclose(np.cos(angle), np.cos(0.5), atol=1e-6)


def test_the_simulator_knows_the_grippers_pose_whatever_the_state_tells():
    env = bins(3)
    seen = env.reset(seed=2)[0]
    shown = bins(3, show_pose=True).reset(seed=2)[0]["state"]
    assert seen["state"].shape == (3, 3) and seen["pose"].shape == (3, 5)
    np.testing.assert_array_equal(seen["pose"][:, [0, 1, 3, 4]], shown[:, 3:])
    np.testing.assert_array_equal(seen["pose"][:, 2], shown[:, 1])
