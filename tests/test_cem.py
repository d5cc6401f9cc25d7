import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handeye.errors import Misuse
from handeye.qtopt import actions
from handeye.qtopt.actions import ActionBounds
from handeye.qtopt.cem import MaximiserConfig, best_actions

BOUNDS = ActionBounds(0.06, 0.5, terminates=True)
FINE = MaximiserConfig(samples=256, elites=24, iterations=6)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def peaks(count, seed=0):
    """Where each of `count` states has its best pose, in the bounds' units."""
    return 1.6 * torch.rand((count, 4), generator=generator(seed)) - 0.8


def hill(peak, command=None, stop=None):
    """A value (N, S) that is highest at a pose, with one command, stopping or not."""

    def score(tried):
        angle = torch.atan2(tried[..., 3], tried[..., 4])[..., None] / BOUNDS.turn_rad
        pose = torch.cat([tried[..., :3] / BOUNDS.move_m, angle], -1)
        value = -(pose - peak[:, None]).square().sum(-1)
        kind = tried[..., 5] + 2 * tried[..., 6]
        value = value + (kind == command) if command is not None else value
        return value + (tried[..., 7] == stop) if stop is not None else value

    return score


def pose_of(action):
    angle = torch.atan2(action[..., 3], action[..., 4])[..., None] / BOUNDS.turn_rad
    return torch.cat([action[..., :3] / BOUNDS.move_m, angle], -1)


@given(command=st.integers(0, 2), stop=st.integers(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_it_finds_pose_command_and_stop_of_every_state(command, stop, seed):
    peak = peaks(6, seed)
    action, value = best_actions(hill(peak, command, stop), 6, BOUNDS, FINE, generator(seed))
    assert (pose_of(action) - peak).abs().max() < 0.15
    assert (action[:, 5] + 2 * action[:, 6] == command).all() and (action[:, 7] == stop).all()
    assert torch.allclose(value, hill(peak, command, stop)(action[:, None])[:, 0])


def test_an_optimum_beyond_the_bounds_is_found_on_them():
    peak = torch.tensor([[3.0, -3.0, 0.0, 3.0]])
    action, _ = best_actions(hill(peak), 1, BOUNDS, FINE, generator())
    assert (pose_of(action) - torch.tensor([1.0, -1.0, 0.0, 1.0])).abs().max() < 0.12


@pytest.mark.parametrize("kind", ["cem", "uniform"])
def test_all_that_is_tried_is_within_the_bounds_and_well_formed(kind):
    tried = []

    def score(action):
        tried.append(action)
        return action.sum(-1)

    best_actions(score, 3, BOUNDS, MaximiserConfig(kind=kind, spread=3.0), generator())
    every = torch.cat(tried, 1)
    assert every[..., :3].abs().max() <= BOUNDS.move_m + 1e-6
    assert torch.atan2(every[..., 3], every[..., 4]).abs().max() <= BOUNDS.turn_rad + 1e-6
    assert torch.allclose(every[..., 3].square() + every[..., 4].square(), torch.ones(()))
    assert set(every[..., 5:].flatten().tolist()) == {0.0, 1.0}
    assert (every[..., 5] + every[..., 6]).max() == 1


@pytest.mark.parametrize("kind", ["cem", "uniform"])
def test_without_the_right_to_stop_nothing_that_stops_is_tried(kind):
    def score(action):
        assert not action[..., 7].any()
        return action[..., 0]

    best_actions(score, 4, ActionBounds(0.06, 0.5, terminates=False), MaximiserConfig(kind=kind), generator())


@pytest.mark.parametrize("kind", ["cem", "uniform"])
def test_with_one_noise_for_all_a_state_has_the_same_action_in_any_batch(kind):
    peak, config = peaks(8), MaximiserConfig(kind=kind)
    together, values = best_actions(hill(peak, 1), 8, BOUNDS, config, generator(), alike=True)
    for i in range(8):
        alone, value = best_actions(hill(peak[i : i + 1], 1), 1, BOUNDS, config, generator(), alike=True)
        assert torch.equal(alone[0], together[i]) and torch.equal(value[0], values[i])


def test_more_iterations_come_nearer_than_as_many_uniform_samples():
    peak = peaks(50)
    near = [
        best_actions(hill(peak), 50, BOUNDS, MaximiserConfig(kind=kind, iterations=4), generator())[1].mean()
        for kind in ("cem", "uniform")
    ]
    assert near[0] > 0.2 * near[1]


def test_the_same_generator_finds_the_same():
    found = [best_actions(hill(peaks(3)), 3, BOUNDS, FINE, generator(5))[0] for _ in range(2)]
    assert torch.equal(*found)


def test_encoded_actions_say_what_they_were_made_of():
    pose = torch.tensor([[1.0, -0.5, 0.0, 0.5]])
    action = actions.encode(pose, torch.tensor([2]), torch.tensor([1]), BOUNDS)[0]
    turn = torch.tensor(0.25)
    expected = torch.tensor([0.06, -0.03, 0, turn.sin(), turn.cos(), 0, 1, 1])
    assert torch.allclose(action, expected)
    assert torch.allclose(actions.for_network(action, BOUNDS)[:3], pose[0, :3])


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"elites": 65}, {"kind": "best"}, {"spread": 0}])
def test_configurations_that_find_nothing_are_refused(wrong):
    with pytest.raises(Misuse, match=next(iter(wrong))):
        MaximiserConfig(**wrong)
