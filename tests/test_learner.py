import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from handeye import checkpoint
from handeye.learner import Learner, Muon, muon_and_adam
from handeye.modular.networks import perception_net
from handeye.nn import seeded


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 12), extra=st.integers(0, 30), seed=st.integers(0, 99), scale=st.floats(1e-4, 1e4))
def test_orthogonalised_matrices_have_singular_values_near_one_at_any_scale(rows, extra, seed, scale):
    rng = np.random.default_rng(seed)
    # Well conditioned: five iterations do not lift singular values of a thousandth.
    basis = np.linalg.qr(rng.standard_normal((rows + extra, rows)))[0].T * rng.uniform(0.3, 1, (rows, 1))
    values = torch.linalg.svdvals(Muon.orthogonal(torch.as_tensor(scale * basis, dtype=torch.float32)))
    assert (values > 0.6).all() and (values < 1.3).all()


def test_a_zero_gradient_moves_nothing():
    assert (Muon.orthogonal(torch.zeros(3, 5)) == 0).all()


def test_the_first_step_of_muon_by_hand():
    kernel = nn.Parameter(torch.zeros(2, 1, 1, 2))
    kernel.grad = torch.tensor([[3.0, 0.0], [0.0, 3.0]]).view_as(kernel)
    Muon([kernel], lr=0.1).step()
    x = 2**-0.5
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    assert torch.allclose(kernel.view(2, 2), -0.1 * x * torch.eye(2))


def test_a_tall_kernel_moves_further():
    kernel = nn.Parameter(torch.zeros(8, 2))
    kernel.grad = torch.eye(8, 2)
    Muon([kernel], lr=0.1).step()
    assert kernel.abs().max().item() == pytest.approx(0.2, rel=0.35)


def test_muon_takes_the_kernels_of_all_layers_but_the_last():
    net = perception_net()
    muon, adam = muon_and_adam(net, 0.01, 0.001)
    assert [p.shape[2:] for p in muon.param_groups[0]["params"]] == [(7, 7), (4, 4), (3, 3)]
    assert sum(p.numel() for o in (muon, adam) for p in o.param_groups[0]["params"]) == 105_728 + 92_485
    (only,) = muon_and_adam(net, 0.0, 0.001)
    assert isinstance(only, torch.optim.Adam)


def learner(seed):
    with seeded(seed):
        net, average = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2)) for _ in range(2))
    return Learner(net, average, muon_and_adam(net, 0.01, 0.001))


def descend(ours, times):
    for k in range(times):
        ours.update(ours.net(torch.full((2, 3, 1, 1), 1.0 + k)).square().sum(), 0.5, 0.3)


def test_the_average_starts_as_the_network_and_follows_it():
    ours = learner(0)
    start = ours.net[0].weight.detach().clone()
    assert torch.equal(ours.average[0].weight, start)
    descend(ours, 1)
    assert not torch.equal(ours.net[0].weight, start)
    assert torch.allclose(ours.average[0].weight, start + 0.3 * (ours.net[0].weight - start))


def test_the_scale_applies_to_every_optimiser_and_does_not_pile_up():
    ours = learner(0)
    descend(ours, 3)
    assert [o.param_groups[0]["lr"] for o in ours.optimisers] == [0.005, 0.0005]


def test_a_state_written_and_read_continues_in_identical_weights(tmp_path):
    ours, theirs = learner(0), learner(1)
    descend(ours, 3)
    checkpoint.save(tmp_path / "state.safetensors", ours.state())
    theirs.load_state(checkpoint.load(tmp_path / "state.safetensors"))
    descend(ours, 3)
    descend(theirs, 3)
    for name in ("net", "average"):
        pairs = zip(getattr(ours, name).parameters(), getattr(theirs, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_long_gradient_is_shortened_for_each_optimiser():
    net, average = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    before = net.weight.detach().clone()
    Learner(net, average, [torch.optim.SGD(net.parameters(), lr=1.0)], clip_norm=0.5).update(
        (net.weight * torch.tensor([[3.0, 4.0]])).sum(), 1.0, 1.0
    )
    assert torch.allclose(before - net.weight, torch.tensor([[0.3, 0.4]]), atol=1e-5)
