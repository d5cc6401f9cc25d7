import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handeye.policies import EpsilonMix, Remembered, linear, random_policy


def always(action):
    return lambda observation: np.full(len(observation["state"]), action)


def seen(count):
    return {"state": np.zeros((count, 5), np.float32)}


def test_random_policy_is_uniform_and_repeatable():
    drawn = random_policy(9, np.random.default_rng(0))(seen(90_000))
    assert np.abs(np.bincount(drawn, minlength=9) - 10_000).max() < 400
    assert (random_policy(9, np.random.default_rng(0))(seen(90_000)) == drawn).all()


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_the_mix_follows_its_guide_so_often(epsilon):
    mix = EpsilonMix(always(1), always(0), np.random.default_rng(0), epsilon)
    assert mix(seen(20_000)).mean() == pytest.approx(epsilon, abs=0.015)


def test_the_mix_chooses_for_each_environment_anew_every_step_and_repeatably():
    def play():
        mix = EpsilonMix(always(1), always(0), np.random.default_rng(3), 0.5)
        return np.stack([mix(seen(50)) for _ in range(50)])

    chosen = play()
    assert (chosen == play()).all()
    assert chosen.mean(0).min() > 0 and chosen.mean(0).max() < 1
    assert chosen.mean(1).min() > 0 and chosen.mean(1).max() < 1


def test_the_mix_handles_continuous_actions():
    mix = EpsilonMix(lambda _: np.ones((4, 3)), lambda _: np.zeros((4, 3)), np.random.default_rng(1), 0.5)
    assert set(mix(seen(4)).mean(axis=1)) == {0.0, 1.0}


def test_remembered_asks_once_for_each_distinct_observation():
    asked = []

    def policy(observation):
        asked.extend(observation["state"][:, 0].tolist())
        return observation["state"][:, 0].astype(int) * 10

    remembered = Remembered(policy)
    assert remembered({"state": np.array([[3.0], [1.0], [3.0]])}).tolist() == [30, 10, 30]
    assert remembered({"state": np.array([[1.0], [2.0], [3.0]])}).tolist() == [10, 20, 30]
    assert asked == [3.0, 1.0, 2.0]


def test_remembered_looks_at_every_part_of_an_observation():
    remembered = Remembered(lambda o: o["image"][:, 0] + o["state"][:, 0])
    for image, state in [(1, 1), (1, 2), (2, 1)]:
        assert remembered({"image": np.array([[image]]), "state": np.array([[state]])}) == [image + state]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 1000), st.integers(0, 2000))
def test_linear_schedule_stays_between_its_ends(start, end, over, step):
    schedule = linear(start, end, over)
    assert schedule(0) == start
    assert schedule(over) == pytest.approx(end) == schedule(over + step)
    assert min(start, end) - 1e-12 <= schedule(step) <= max(start, end) + 1e-12
