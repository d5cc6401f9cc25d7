from itertools import islice, pairwise

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from handeye.rollout import episodes, episodes_in_turn, policy_rng, transitions
from handeye.types import discount
from toy import CELLS, LEFT, RIGHT, Chain, Counter, go_right


def test_transitions_end_in_the_last_observation_of_their_own_episode():
    env = Chain(3)
    first, _ = env.reset(seed=0)
    steps = list(islice(transitions(env, go_right, first), 20))
    for before, after in pairwise(steps):
        cell, following = (o["state"].argmax(1) for o in (before.observation, before.next_observation))
        assert (following == cell + 1).all()
        assert (before.terminated == (following == CELLS - 1)).all()
        going_on = ~before.terminated
        assert (after.observation["state"][going_on] == before.next_observation["state"][going_on]).all()
        assert (after.observation["state"].argmax(1) < CELLS - 1).all()
    assert sum(step.terminated.sum() for step in steps) > 15


def test_episodes_hold_everything_from_first_to_last():
    env = Chain(8, AutoresetMode.DISABLED)
    for episode in episodes(env, go_right, seed=0):
        cells = episode.observation["state"].argmax(1)
        assert cells.tolist() == list(range(cells[0], CELLS))
        assert episode.action.tolist() == [RIGHT] * (len(cells) - 1)
        assert episode.reward.tolist() == [0.0] * (len(cells) - 2) + [1.0]
        assert (episode.terminated, episode.truncated) == (True, False)
        assert (episode.facts["cell"] == cells).all()


def test_an_episode_that_runs_out_of_time_is_truncated_not_terminated():
    env = Chain(2, AutoresetMode.DISABLED)
    for episode in episodes(env, lambda o: np.full(len(o["state"]), LEFT), seed=0):
        assert len(episode.action) == env.max_steps
        assert (episode.terminated, episode.truncated) == (False, True)


def test_episodes_keep_only_what_is_asked():
    episode = episodes(Chain(1, AutoresetMode.DISABLED), go_right, keep=(), seed=0)[0]
    assert episode.observation == {} and len(episode.reward) > 0


def counted(num_envs, seeds):
    """The episodes of `seeds` with a random policy, and the environment."""
    env, rngs = Counter(num_envs), [np.random.default_rng() for _ in range(num_envs)]
    ended = list(episodes_in_turn(env, lambda _: np.array([rng.random() for rng in rngs]), seeds, rngs))
    return ended, env


@given(st.integers(1, 5), st.lists(st.integers(0, 2**60), max_size=12))
def test_an_episode_in_turn_is_a_function_of_its_seed(num_envs, seeds):
    ended, _ = counted(num_envs, seeds)
    assert [episode.provenance.seed for episode in ended] == seeds
    for seed, episode in zip(seeds, ended, strict=True):
        length = int(np.random.default_rng(seed).integers(1, 7))
        assert episode.observation["state"].tolist() == [[length, k] for k in range(length + 1)]
        assert episode.facts["count"].tolist() == list(range(length + 1))
        assert (episode.terminated, episode.truncated) == (length % 2 == 1, length % 2 == 0)
        drawn = policy_rng(seed).random(length)
        assert (episode.action == drawn).all() and (episode.reward == drawn.astype(np.float32)).all()


def test_environments_are_kept_busy():
    ended, env = counted(4, range(100))
    steps = sum(len(episode.action) + 1 for episode in ended)
    assert env.steps * 4 <= steps + 4 * 7


def test_loops_refuse_environments_that_restart_otherwise():
    with pytest.raises(ValueError, match="autoreset_mode=DISABLED"):
        episodes(Chain(1), go_right, seed=0)
    with pytest.raises(ValueError, match="autoreset_mode=SAME_STEP"):
        next(transitions(Chain(1, AutoresetMode.NEXT_STEP), go_right, {}))
    with pytest.raises(ValueError, match="autoreset_mode=NEXT_STEP"):
        next(episodes_in_turn(Chain(1), go_right, [0], []))


def test_discount_is_zero_only_where_the_episode_terminated():
    values = discount(np.array([True, False]), 0.99)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [0.0, 0.99])
