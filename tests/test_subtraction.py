import numpy as np
import pytest
from numpy.testing import assert_equal

from handeye.envs.bin_config import BinConfig
from handeye.envs.grasp_policies import Oracle
from handeye.envs.grasping import CLOSE, COSINE, GraspConfig, GraspVectorEnv
from handeye.envs.subtraction import SubtractionConfig, changed
from handeye.errors import Misuse

WORLD = BinConfig(models=3, placements=1)


def bins(count, **fields):
    config = GraspConfig(world=WORLD, observe="objects", reward_source="pictures", **fields)
    return GraspVectorEnv(count, config, "disabled", threads=1)


def grasped(count, seed=0, **fields):
    env = bins(count, **fields)
    policy, rewards = Oracle(env), []
    observation, _ = env.reset(seed=seed)
    while not env.done.all():
        observation, reward, _, _, info = env.step(policy(observation))
        rewards.append(reward)
    return env, np.array(rewards), info


def lifted_nothing(env):
    """Close in the air and ask to go up: the last step's reward and facts."""
    env.reset(seed=0)
    action = np.zeros((env.num_envs, 8))
    action[:, COSINE] = 1
    action[:, CLOSE] = 1
    env.step(action)
    action[:, 2] = 0.05
    _, reward, _, _, info = env.step(action)
    assert env.done.all()
    return reward, info


def test_a_picture_has_changed_when_enough_pixels_have_by_enough():
    config = SubtractionConfig(level=0.1, pixels=0.02)
    before = np.full((10, 10, 3), 100, np.uint8)
    for count, by, verdict in ((3, 26, True), (3, 25, False), (2, 100, False), (3, -90, True)):
        after = before.astype(int)
        after.reshape(-1, 3)[:count, 1] += by
        assert changed(before, after.astype(np.uint8), config) == verdict


def test_what_is_held_is_seen_and_paid():
    env, rewards, info = grasped(4)
    assert info["is_success"].all() and info["rewarded"].sum() >= 3
    for i in np.flatnonzero(info["rewarded"]):
        assert rewards[:, i].sum() == pytest.approx(1 - 0.05 * (env.steps[i] - 1))


def test_an_empty_hand_is_paid_nothing():
    reward, info = lifted_nothing(bins(3))
    assert not reward.any() and not info["rewarded"].any() and not info["is_success"].any()


def test_nothing_is_paid_where_more_than_all_pixels_would_have_to_change():
    _, _, info = grasped(2, subtraction=SubtractionConfig(pixels=1.0))
    assert info["is_success"].all() and not info["rewarded"].any()


def test_the_world_is_left_as_it_was():
    pictures, _, _ = grasped(3)
    truth = GraspVectorEnv(3, GraspConfig(world=WORLD, observe="objects"), "disabled", threads=1)
    policy = Oracle(truth)
    observation, _ = truth.reset(seed=0)
    while not truth.done.all():
        observation, *_ = truth.step(policy(observation))
    for name in ("qpos", "qvel", "gripper", "closed", "geom_pos"):
        assert_equal(getattr(pictures.bin, name), getattr(truth.bin, name))
    assert_equal(pictures.objects_held, truth.objects_held)


def test_the_verdict_is_the_same_alone_and_in_a_batch():
    many, _, said = grasped(3)
    one, _, says = grasped(1, seed=2)
    assert many.steps[2] == one.steps[0] and said["rewarded"][2] == says["rewarded"][0]


@pytest.mark.parametrize(("field", "value"), [("width_px", 2), ("level", 1.5), ("pixels", -0.1)])
def test_thresholds_that_cannot_be_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        SubtractionConfig(**{field: value})


def test_a_reward_from_elsewhere_is_refused():
    with pytest.raises(Misuse, match=r"reward_source.*truth, pictures.*'guess'"):
        GraspConfig(reward_source="guess")
