import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from handeye.modular.losses import perception_loss, q_loss, q_targets, weighted_loss
from handeye.nn import seeded
from handeye.types import discount

TASK, ALL = 3, 7


def test_perception_loss_is_half_the_mean_squared_distance():
    predicted, theta = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    assert perception_loss(predicted, theta) == (1 + 4 + 9) / (2 * 2)


def test_q_loss_looks_at_the_actions_taken():
    values = torch.tensor([[1.0, 5.0], [2.0, 7.0]])
    assert q_loss(values, torch.tensor([1, 0]), torch.tensor([4.0, 4.0])) == (1 + 4) / (2 * 2)


def test_only_a_terminal_step_does_not_bootstrap():
    terminated = np.array([False, True, False])
    truncated = np.array([False, False, True])
    assert truncated[2] and not terminated[2]
    ahead = torch.tensor([[1.0, 3.0], [9.0, 9.0], [2.0, 0.0]])
    reward = torch.tensor([0.5, -1.0, 0.0])
    targets = q_targets(reward, torch.as_tensor(discount(terminated, 0.9)), ahead)
    assert_allclose(targets, [0.5 + 0.9 * 3, -1.0, 0.9 * 2], rtol=1e-6)


class Tiny:
    """A linear perception and a control of one hidden layer, small enough to differentiate by hand."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.pictures, self.theta = rng.normal(size=(ALL, 4)), rng.normal(size=(ALL, 5))
        self.action, self.targets = np.array([2, 0, 8]), rng.normal(size=TASK)
        with seeded(0):
            self.perception = nn.Linear(4, 5).double()
            self.control = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 9)).double()

    def gradients(self, beta, sum_gradients=False, theta_scale=1.0, bound=0.0):
        """(δ at the bottleneck (ALL, 5), gradients of control's parameters) by autograd."""
        seen = self.perception(torch.as_tensor(self.pictures))
        seen.retain_grad()
        theta = theta_scale * torch.as_tensor(self.theta)
        action, targets = torch.as_tensor(self.action), torch.as_tensor(self.targets)
        loss, _, _ = weighted_loss(seen[:TASK], seen, theta, self.control, action, targets, beta, sum_gradients, bound)
        self.control.zero_grad()
        loss.backward()
        return seen.grad.numpy(), [p.grad.clone().numpy() for p in self.control.parameters()]

    def by_hand(self):
        """(δ of L_p (ALL, 5), δ of L_q (TASK, 5), gradients of control's parameters) from the formulas."""
        w, b = (p.detach().numpy() for p in self.perception.parameters())
        w1, b1, w2, b2 = (p.detach().numpy() for p in self.control.parameters())
        seen = self.pictures @ w.T + b
        sight = (seen - self.theta) / ALL
        hidden = seen[:TASK] @ w1.T + b1
        active = np.maximum(hidden, 0)
        values = active @ w2.T + b2
        error = np.zeros((TASK, 9))
        rows = np.arange(TASK)
        error[rows, self.action] = (values[rows, self.action] - self.targets) / TASK
        back = (error @ w2) * (hidden > 0)
        return sight, back @ w1, [back.T @ seen[:TASK], back.sum(0), error.T @ active, error.sum(0)]


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.8, 1.0])
def test_delta_at_the_bottleneck_is_the_weighted_sum_computed_by_hand(beta):
    tiny = Tiny()
    sight, task, control = tiny.by_hand()
    expected = beta * sight
    expected[:TASK] += (1 - beta) * task
    delta, gradients = tiny.gradients(beta)
    assert_allclose(delta, expected, atol=1e-12)
    for ours, theirs in zip(gradients, control, strict=True):
        assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_control_learns_nothing_from_labels(beta):
    tiny = Tiny()
    (delta, control), (other_delta, other_control) = tiny.gradients(beta), tiny.gradients(beta, theta_scale=5.0)
    assert np.abs(delta - other_delta).max() > 0.1
    for ours, theirs in zip(control, other_control, strict=True):
        assert (ours == theirs).all()


def test_naive_fine_tuning_learns_nothing_from_labels_either():
    delta, _ = Tiny().gradients(0.0)
    assert (delta[TASK:] == 0).all() and (delta[:TASK] != 0).any()


def test_summed_gradients_weigh_perception_by_the_ratio_of_the_batches():
    tiny = Tiny()
    beta = 0.8
    sight, task, control = tiny.by_hand()
    delta, gradients = tiny.gradients(beta, sum_gradients=True)
    expected = beta * ALL / TASK * sight
    expected[:TASK] += (1 - beta) * task
    assert_allclose(delta, expected, atol=1e-12)
    for ours, theirs in zip(gradients, control, strict=True):
        assert_allclose(ours, theirs, atol=1e-12)


def test_a_bound_shortens_what_the_task_says_of_one_picture_and_nothing_else():
    tiny = Tiny()
    beta = 0.4
    sight, task, control = tiny.by_hand()
    lengths = TASK * np.linalg.norm(task, axis=1)
    bound = np.median(lengths)
    delta, gradients = tiny.gradients(beta, bound=bound)
    expected = beta * sight
    expected[:TASK] += (1 - beta) * task * np.minimum(1, bound / lengths)[:, None]
    assert (lengths > bound).any() and (lengths < bound).any()
    assert_allclose(delta, expected, atol=1e-12)
    for ours, theirs in zip(gradients, control, strict=True):
        assert_allclose(ours, theirs, atol=1e-12)


def test_the_losses_reported_are_unweighted():
    tiny = Tiny()
    seen, theta = torch.as_tensor(tiny.theta) + 1.0, torch.as_tensor(tiny.theta)
    action, targets = torch.as_tensor(tiny.action), torch.as_tensor(tiny.targets)
    _, sight, task = weighted_loss(seen[:TASK], seen, theta, tiny.control, action, targets, 0.3)
    assert sight.item() == pytest.approx(2.5)
    assert task.item() == pytest.approx(q_loss(tiny.control(seen[:TASK]), action, targets).item())
