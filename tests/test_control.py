import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

from handeye import checkpoint
from handeye.errors import Misuse
from handeye.modular.control import ControlConfig, ControlStage, Experience, remember, replay_of_theta
from handeye.modular.networks import greedy_on_theta
from handeye.nn import seeded
from handeye.policies import random_policy
from handeye.rollout import episodes
from handeye.types import Transition
from toy import CELLS, Chain, go_right


def net():
    return nn.Sequential(nn.Linear(CELLS, 32), nn.ReLU(), nn.Linear(32, 9))


def stage(seed=0, guide=go_right, **fields):
    with seeded(seed):
        ours = net()
    small = {"steps": 40, "environments": 8, "batch": 32, "replay": 300, "warm_up": 100, "target_rate": 0.1}
    config = ControlConfig(**small | fields)
    return ControlStage(ours, net(), Chain(config.environments), guide, config, seed)


def success(network):
    ended = episodes(Chain(40, AutoresetMode.DISABLED), greedy_on_theta(network), seed=1)
    return np.mean([episode.terminated for episode in ended])


def equal(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("exploration", ["k-gps", "epsilon-greedy"])
def test_a_chain_is_solved_where_chance_seldom_does(exploration):
    chance = episodes(Chain(400, AutoresetMode.DISABLED), random_policy(9, np.random.default_rng(0)), seed=1)
    assert np.mean([episode.terminated for episode in chance]) < 0.6
    learning = stage(steps=400, exploration=exploration, discount=0.8, learning_rate=5e-3, replay=4000, warm_up=1000)
    for _ in range(400):
        values = learning.step()
    assert success(learning.average) == 1.0
    assert values["return"] > 0.5


def test_values_are_those_of_the_chain():
    learning = stage(steps=600, learning_rate=5e-3, replay=4000, warm_up=1000, discount=0.9, epsilon_end=0.8)
    for _ in range(600):
        learning.step()
    best = learning.average(torch.eye(CELLS)[:-1]).max(1).values.detach().numpy()
    np.testing.assert_allclose(best, 0.9 ** np.arange(3, -1, -1), atol=0.05)


def test_k_gps_asks_the_guide_and_epsilon_greedy_does_not():
    asked = []

    def guide(observation):
        asked.append(1)
        return go_right(observation)

    stage(guide=guide, exploration="epsilon-greedy").step()
    assert not asked
    learning = stage(guide=guide, exploration="k-gps")
    learning.step()
    assert asked
    assert (learning.replay.rows["action"][:100] == go_right({"state": np.zeros(100)})).all()


def test_epsilon_falls_over_its_share_of_the_steps():
    learning = stage(steps=10, epsilon_start=1.0, epsilon_end=0.2, epsilon_over=0.5)
    epsilons = [learning.step()["epsilon"] for _ in range(10)]
    assert epsilons == pytest.approx([1.0, 0.84, 0.68, 0.52, 0.36, 0.2, 0.2, 0.2, 0.2, 0.2])


def test_so_many_updates_follow_each_step_of_the_environments():
    learning = stage(environments=8, warm_up=80, updates_per_step=4)
    for _ in range(8):
        learning.step()
    assert learning.replay.added == 80 + 2 * 8


def test_what_is_remembered_bootstraps_after_truncation_only():
    replay = replay_of_theta(2)
    theta = np.zeros((2, 5), np.float32)
    ends = (np.array([True, False]), np.array([False, True]))
    batch = Transition({"state": theta}, np.array([3, 4]), np.array([1, 2], np.float32), *ends, {"state": theta + 1})
    remember(replay, batch, 0.5)
    assert replay.rows["discount"].tolist() == [0.0, 0.5]
    assert replay.rows["next_theta"].tolist() == (theta + 1).tolist()


def test_experience_sums_up_the_trials_that_ended():
    env = Chain(4)
    experience = Experience(env, go_right, seed=0)
    assert experience.summary() == {}
    for _ in range(20):
        experience.step()
    assert experience.summary() == {"return": 1.0, "success": 1.0}


def test_two_halves_through_a_file_equal_one_whole_to_the_bit(tmp_path):
    whole, half, resumed = stage(updates_per_step=3), stage(updates_per_step=3), stage(seed=9, updates_per_step=3)
    for _ in range(40):
        last = whole.step()
    for _ in range(20):
        half.step()
    checkpoint.save(tmp_path / "c", half.state())
    resumed.load_state(checkpoint.load(tmp_path / "c"))
    for _ in range(20):
        again = resumed.step()
    assert again == last
    assert equal(resumed.net.state_dict(), whole.net.state_dict())
    assert equal(resumed.result(), whole.result())
    assert (resumed.replay.rows["theta"] == whole.replay.rows["theta"]).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("environments", 0), ("environments", 10**8), ("updates_per_step", 0), ("batch", 0), ("replay", 0),
     ("warm_up", 0), ("learning_rate", 2), ("learning_rate", float("nan")), ("epsilon_over", 0), ("target_rate", 0),
     ("discount", 1.01), ("epsilon_start", -0.5), ("epsilon_end", 2), ("exploration", "luck")],
)  # fmt: skip
def test_configurations_that_train_nothing_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        ControlConfig(**{field: value})
