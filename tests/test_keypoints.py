from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from handeye import checkpoint, planar_arm
from handeye.envs import reach_pictures
from handeye.modular.keypoints import KeypointPerception, KinematicControl, keypoint_loss
from handeye.modular.perception import PerceptionConfig, PerceptionStage
from handeye.nn import seeded
from handeye.reach import draw_sim, geometry


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(0)
    joints, target = planar_arm.random_joints(rng, 200), planar_arm.hand(planar_arm.random_goals(rng, 200))
    return joints, target, torch.as_tensor(planar_arm.to_theta(target, joints))


def test_the_geometry_is_that_of_the_arm(scenes):
    joints, target, theta = scenes
    metric = geometry().metric(theta)
    assert_allclose(metric[0], target, atol=1e-5)
    assert_allclose(metric[1], joints, atol=1e-5)
    points = planar_arm.forward(joints)[:, 1:]
    assert_allclose(geometry().links(metric[1]).cumsum(1), points, atol=1e-5)
    seen = reach_pictures.to_px(np.concatenate([points, target[:, None]], 1))
    assert_allclose(geometry().points_px(theta), seen, atol=1e-3)


def test_theta_of_the_points_is_the_theta_that_put_them_there(scenes):
    theta = scenes[2]
    net = KeypointPerception(geometry())
    assert_allclose(net.theta(geometry().points_px(theta)), theta, atol=1e-5)


def test_a_heat_map_of_four_neighbours_means_the_point_itself(scenes):
    net = KeypointPerception(geometry())
    heat = torch.full((1, 4, 42, 42), -1e9)
    heat[0, :, 10:12, 20:22] = 0.0
    assert_allclose(net.positions(heat)[0], [[42.0, 22.0]] * 4, atol=1e-4)


def test_the_loss_is_least_at_the_shares_of_the_true_points(scenes):
    theta = scenes[2][:1]
    net = KeypointPerception(geometry())
    points = geometry().points_px(theta)[0]
    inside = (points > 3) & (points < 81)
    assert inside.all(), "pick a scene within the picture"

    def with_heat(px):
        cell = (px - 1) / 2
        away = (torch.arange(42) - cell[..., None]).abs()
        share = (1 - away).clamp(0, 1)
        heat = (share[:, 1, :, None] * share[:, 0, None, :]).clamp(min=1e-9).log()[None]
        net.heat = lambda picture: heat
        return net.loss(torch.zeros(1, 1, 84, 84), theta).item(), net.positions(heat)[0]

    least, found = with_heat(points)
    assert_allclose(found, points, atol=1e-3)
    assert all(with_heat(points + torch.tensor(shift))[0] > least for shift in ([0.5, 0.0], [0.0, -0.5], [1.5, 1.5]))


def test_perception_learns_where_things_are(scenes):
    joints, target, theta = (part[:8] for part in scenes)
    pictures = torch.as_tensor(reach_pictures.draw(target, joints))[:, None] / 255
    with seeded(0):
        net = KeypointPerception(geometry(), width=8)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = net.loss(pictures, theta)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
    assert net(pictures).shape == (8, 5)


def test_two_halves_of_training_equal_one_whole_to_the_bit(tmp_path):
    def stage(seed):
        with seeded(seed):
            net, average = (KeypointPerception(geometry(), width=8) for _ in range(2))
        config = PerceptionConfig(steps=4, batch=4, camera_share=0.5, average=0.1)
        return PerceptionStage(net, average, draw_sim, draw_sim, config, seed, keypoint_loss)

    whole, half, resumed = stage(0), stage(0), stage(9)
    for learning, steps in ((whole, 4), (half, 2)):
        for _ in range(steps):
            learning.step()
    checkpoint.save(tmp_path / "c", half.state())
    resumed.load_state(checkpoint.load(tmp_path / "c"))
    resumed.step(), resumed.step()
    assert all(torch.equal(value, whole.result()[name]) for name, value in resumed.result().items())


def test_the_task_can_teach_perception_through_the_bottleneck(scenes):
    with seeded(0):
        net, control = KeypointPerception(geometry(), width=8), KinematicControl(geometry(), width=16)
    control(net(torch.rand(2, 1, 84, 84))).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.stem.parameters())


def test_kinematic_features_hold_the_error_the_motion_and_the_distance(scenes):
    joints, target, theta = scenes
    net = KinematicControl(geometry())
    features = net.features(theta).numpy()
    assert features.shape[1] == net.FEATURES
    hand = planar_arm.hand(joints)
    assert_allclose(features[:, -1], np.linalg.norm(target - hand, axis=1), atol=1e-5)
    assert_allclose(features[:, 15:17], np.tanh((target - hand) / 0.2), atol=2e-5)
    h = 1e-5 * np.eye(3)
    motion = np.stack([(planar_arm.hand(joints + e) - planar_arm.hand(joints - e)) / 2e-5 for e in h], 1)
    assert_allclose(features[:, 19:25].reshape(-1, 3, 2), motion, atol=1e-4)


def test_parameters_hold_no_geometry_so_another_arm_can_use_them():
    other = replace(geometry(), m_per_px=0.01)
    KeypointPerception(other).load_state_dict(KeypointPerception(geometry()).state_dict())
