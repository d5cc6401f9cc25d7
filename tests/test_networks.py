import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from handeye.modular.networks import (
    LIFT_GREY,
    Darkness,
    Foreground,
    control_net,
    greedy_on_picture,
    greedy_on_theta,
    load_conv1,
    perceive,
    perception_net,
    stand_before,
)
from handeye.nn import parameter_count, seeded


def test_parameter_counts_are_those_of_the_paper():
    net = perception_net()
    convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    assert sum(parameter_count(layer) for layer in convolutions) == 105_728
    assert net[-1].in_features == 18_496
    assert parameter_count(control_net()) == 125_409


def test_layers_are_those_of_the_paper():
    convolutions = [layer for layer in perception_net() if isinstance(layer, nn.Conv2d)]
    shapes = [(layer.kernel_size, layer.stride, layer.padding) for layer in convolutions]
    assert shapes == [((7, 7), (2, 2), (1, 1)), ((4, 4), (2, 2), (0, 0)), ((3, 3), (1, 1), (0, 0))]
    sizes = [(layer.in_features, layer.out_features) for layer in control_net() if isinstance(layer, nn.Linear)]
    assert sizes == [(5, 400), (400, 300), (300, 9)]
    assert isinstance(perception_net()[-1], nn.Linear) and isinstance(control_net()[-1], nn.Linear)


def test_perception_maps_pictures_to_five_numbers():
    with seeded(0):
        net = perception_net()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 84, 84, 1), np.uint8)
    theta = perceive(net, pictures)
    assert theta.shape == (3, 5) and theta.dtype == torch.float32
    torch.testing.assert_close(perceive(net, pictures[1:2]), theta[1:2], rtol=0.02, atol=0.005)


def test_darkness_is_zero_on_the_brightest_ground_and_does_not_depend_on_exposure():
    pictures = torch.rand(4, 1, 6, 6)
    pictures[:, :, 0, 0] = 1.0
    torch.testing.assert_close(Darkness()(pictures), 1 - pictures)
    torch.testing.assert_close(Darkness()(0.4 * pictures), 1 - pictures)
    assert Darkness()(torch.zeros(1, 1, 2, 2)).isfinite().all()


def test_foreground_is_what_the_picture_would_be_before_white():
    white = torch.ones(3, 1, 84, 84)
    white[:, :, 20:40, 30:50] = torch.rand(3, 1, 20, 20)
    behind = 0.99 * torch.rand(1, 1, 84, 84)
    lift, exposure = LIFT_GREY / 255, torch.tensor([0.8, 1.0, 1.2]).view(3, 1, 1, 1)
    before_it = white * exposure * (behind + lift) - lift
    net = nn.Sequential(Foreground())
    torch.testing.assert_close(net(white), 1 - white)
    stand_before(net, 255 * behind[0, 0].numpy())
    # One batch of both: each picture by the background that it fits.
    torch.testing.assert_close(net(torch.cat([white, before_it])), 1 - torch.cat([white, white]))
    assert net(torch.zeros(1, 1, 84, 84)).isfinite().all()


def constant(values):
    """A control that sees nothing: its Q-values are the same everywhere."""
    net = nn.Linear(5, 9)
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(torch.tensor(values))
    return net


def test_greedy_policies_take_the_best_action():
    control = constant([0.0, 1, 2, 9, 4, 5, 6, 7, 8])
    assert greedy_on_theta(control)({"state": np.zeros((4, 5), np.float32)}).tolist() == [3] * 4
    sighted = greedy_on_picture(nn.Sequential(nn.Flatten(), nn.Linear(4, 5)), control, batch=3)
    assert sighted({"image": np.zeros((7, 2, 2, 1), np.uint8)}).tolist() == [3] * 7


def test_greedy_on_picture_acts_on_what_perception_sees():
    sees = nn.Sequential(nn.Flatten(), nn.Linear(5, 5))
    acts = nn.Linear(5, 9)
    with torch.no_grad():
        for layer in (sees[1], acts):
            layer.weight.copy_(torch.eye(*layer.weight.shape))
            layer.bias.zero_()
    pictures = np.eye(5, dtype=np.uint8)[[4, 0, 2]].reshape(3, 1, 5, 1) * 255
    assert greedy_on_picture(sees, acts)({"image": pictures}).tolist() == [4, 0, 2]


def test_the_first_convolution_can_start_from_a_file(tmp_path):
    net = perception_net()
    kernels = torch.randn(64, 1, 7, 7)
    save_file({"weight": kernels}, tmp_path / "conv1")
    bias = net[1].bias.clone()
    load_conv1(net, str(tmp_path / "conv1"))
    assert torch.equal(net[1].weight, kernels) and torch.equal(net[1].bias, bias)


@pytest.mark.parametrize("tensors", [{}, {"weight": torch.ones(64, 3, 7, 7)}, {"weight": torch.ones(1), "bias": 0}])
def test_weights_that_do_not_fit_the_first_convolution_are_refused(tmp_path, tensors):
    save_file({k: v if isinstance(v, torch.Tensor) else torch.ones(3) for k, v in tensors.items()}, tmp_path / "c")
    with pytest.raises((ValueError, RuntimeError), match=r"weight must have shape \(64, 1, 7, 7\), found"):
        load_conv1(perception_net(), str(tmp_path / "c"))
