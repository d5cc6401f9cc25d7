import pytest
import torch
from torch import nn

from handeye.qtopt.actions import ActionBounds
from handeye.qtopt.bellman import clip_targets, state_values, values_in_turn
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.networks import Inputs

BOUNDS = ActionBounds(0.06, 0.5, terminates=False)
INPUTS = Inputs(torch.zeros(4, 1), torch.tensor([[0.0], [1.0], [2.0], [3.0]]))


class Says(nn.Module):
    """Logits that are the state, plus a gain times the first displacement as a share of its bound."""

    def __init__(self, gain, more=0.0):
        super().__init__()
        self.gain, self.more = gain, more

    def encode(self, inputs):
        return inputs.state[:, 0] + self.more, None

    def score(self, encoding, action):
        return encoding[:, None] + self.gain * action[..., 0]


def test_targets_by_hand():
    reward = torch.tensor([-0.05, -0.05, 1.0, -0.05, 0.5])
    discount = torch.tensor([0.9, 0.9, 0.0, 0.0, 0.9])
    value = torch.tensor([0.5, 0.02, 0.7, 0.7, 0.9])
    targets = clip_targets(reward, discount, value)
    assert torch.allclose(targets.target, torch.tensor([0.4, 0.0, 1.0, 0.0, 1.0]))
    assert targets.clipped == pytest.approx(3 / 5)


def values(average, lagged):
    config = MaximiserConfig(samples=64, iterations=4)
    return state_values(average, lagged, INPUTS, BOUNDS, config, torch.Generator().manual_seed(0))


def test_the_value_is_that_of_the_best_action():
    found = values(Says(2.0), None)
    assert torch.allclose(found, (INPUTS.state[:, 0] + 2).sigmoid(), atol=0.02)


def test_the_second_network_judges_the_action_of_the_first_and_the_lesser_counts():
    # The second likes the opposite: at the first's best action it says state − 2.
    assert torch.allclose(values(Says(2.0), Says(-2.0)), (INPUTS.state[:, 0] - 2).sigmoid(), atol=0.03)
    assert torch.allclose(values(Says(2.0), Says(2.0, more=9.0)), (INPUTS.state[:, 0] + 2).sigmoid(), atol=0.02)


@pytest.mark.parametrize("double", [True, False])
def test_members_look_for_the_best_action_in_turn_and_the_next_one_judges_it(double):
    # Each finds its own best action, at the other end of the bounds for the last; what the judge says tells who it was.
    members = [Says(2.0), Says(2.0, more=1.0), Says(-2.0, more=2.0)]
    config = MaximiserConfig(samples=64, iterations=4)
    found = values_in_turn(members, double, INPUTS, BOUNDS, config, torch.Generator().manual_seed(0))
    more = torch.tensor([1.0 + 2, 2 - 2, 0 - 2, 1 + 2] if double else [0.0 + 2, 1 + 2, 2 + 2, 0 + 2])
    torch.testing.assert_close(found, (INPUTS.state[:, 0] + more).sigmoid(), atol=0.03, rtol=0)
