import numpy as np
import pytest
import torch

from handeye.envs import known, rendering
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.errors import Misuse
from handeye.grasp_config import GraspLearning
from handeye.qtopt import mirror
from handeye.qtopt.networks import CompactConfig, Inputs, PictureQ
from handeye.qtopt.workers import LabelConfig

FLIP = np.diag([1.0, -1.0, 1.0])
WORLD = GraspConfig(world=BinConfig(models=3, placements=1), observe="both", show_pose=True)


@pytest.fixture
def env():
    return GraspVectorEnv(3, WORLD, "disabled", threads=1)


def in_mirror(observation):
    nothing = {"observation": observation, "next_observation": observation, "action": np.zeros((3, 8))}
    return mirror.batch_in_mirror(nothing, np.ones(3, bool))["observation"]


def test_the_camera_sees_the_mirrored_world_as_the_picture_turned_left_to_right(env):
    seen = env.reset(seed=3)[0]["image"].astype(int)
    bins, look, view = env.bin, env.look, env.config.view
    places, turns = bins.geom_pos @ FLIP, (FLIP @ bins.geom_mat.reshape(3, -1, 3, 3) @ FLIP).reshape(3, -1, 9)
    eyes = rendering.eyes(view.camera, look, bins.gripper * [1, -1, 1, -1], bins.cam_pos, bins.cam_mat)
    other = env.casters[view].draw((places, turns), (look.size, look.rgba), eyes)[:, :, ::-1].astype(int)
    # The light alone comes from one side.
    assert np.abs(other - seen).mean() < 3 < 10 < np.abs(other[:, :, ::-1] - seen).mean()


def test_a_mirrored_action_leads_to_the_mirrored_place(env):
    actions = np.zeros((2, 3, 8), np.float32)
    actions[0, :, :5] = [0.03, 0.05, 0.02, np.sin(0.3), np.cos(0.3)]
    batch = {"observation": env.reset(seed=3)[0], "next_observation": {"state": np.zeros((3, 7))}, "action": actions[0]}
    actions[1] = mirror.batch_in_mirror(batch, np.ones(3, bool))["action"]
    went = []
    for action in actions:
        env.reset(seed=3)
        before = env.bin.gripper.copy()
        env.step(action)
        went.append(env.bin.gripper - before)
    np.testing.assert_allclose(went[1], went[0] * [1, -1, 1, -1], atol=2e-3)
    assert (np.abs(went[0][:, [1, 3]]) > 0.02).all()


def test_what_is_known_of_the_mirrored_world_is_what_is_known_in_the_mirror(env):
    seen = env.reset(seed=4)[0]
    bins = env.bin
    gripper, tips, objects = bins.gripper * [1, -1, 1, -1], bins.tip_m @ FLIP, bins.objects_m @ FLIP
    there = type("Mirrored", (), {"gripper": gripper, "tip_m": tips, "objects_m": objects})
    turned = in_mirror(seen)
    np.testing.assert_allclose(turned["objects"], known.objects(there), atol=1e-6)
    np.testing.assert_allclose(turned["pose"], known.pose(there), atol=1e-6)
    state = np.column_stack([seen["state"][:, :3], gripper[:, :2], *known.turns(there)])
    np.testing.assert_allclose(turned["state"], state, atol=1e-6)


def test_only_the_chosen_rows_are_turned_and_twice_is_not_at_all(env):
    seen = env.reset(seed=5)[0]
    action = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    batch = {"observation": seen, "next_observation": seen, "action": action, "reward": np.zeros(3)}
    which = np.array([True, False, True])
    once = mirror.batch_in_mirror(batch, which)
    assert (once["observation"]["image"][1] == seen["image"][1]).all()
    assert (once["next_observation"]["image"][0] == seen["image"][0][:, ::-1]).all()
    assert (once["action"][:, 1] == [-action[0, 1], action[1, 1], -action[2, 1]]).all()
    twice = mirror.batch_in_mirror(once, which)
    for name, value in seen.items():
        np.testing.assert_array_equal(twice["observation"][name], value)
    np.testing.assert_array_equal(twice["action"], action)


def test_asked_both_ways_a_network_says_the_same_of_the_mirrored_world():
    torch.manual_seed(0)
    net = mirror.BothWays(PictureQ((32, 32), 3, CompactConfig(channels=(8, 8), features=16, width=16)))
    torch.nn.init.normal_(net.net.body.head.out.weight)
    seen, state, action = torch.rand(2, 3, 32, 32), torch.rand(2, 3), torch.rand(2, 5, 8) - 0.5
    here = net.score(net.encode(Inputs(seen, state))[0], action)
    turned = action * torch.tensor(mirror.ACTION)
    there = net.score(net.encode(Inputs(seen.flip(-1), state))[0], turned)
    torch.testing.assert_close(here, there)
    asked = ((seen, action), (seen.flip(-1), turned))
    one, other = (net.net.score(net.net.encode(Inputs(s, state))[0], a) for s, a in asked)
    torch.testing.assert_close(here, (one + other) / 2)
    assert (one - other).abs().max() > 1e-3


def test_a_camera_from_one_side_has_no_mirror():
    aside = GraspConfig(view=rendering.CameraConfig(camera="shoulder"))
    with pytest.raises(Misuse, match="follow, got shoulder"):
        GraspLearning(env=aside, labels=LabelConfig(mirror=True))
    with pytest.raises(Misuse, match="got picture, shoulder"):
        GraspLearning(env=aside, both_ways=True)
    with pytest.raises(Misuse, match="got state"):
        GraspLearning(network="state", both_ways=True)
