import copy

import numpy as np
import pytest
import torch

from handeye import cli, grasp
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.envs.rendering import CameraConfig
from handeye.nn import parameter_count
from handeye.qtopt.acting import Greedy
from handeye.qtopt.actions import ActionBounds, for_network
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.members import Members
from handeye.qtopt.mirror import BothWays
from handeye.qtopt.networks import CompactConfig, Inputs, PictureQ, StateQ, known_of, scorer, theta_of, to_inputs
from handeye.qtopt.paper_network import PaperQ
from handeye.qtopt.spatial_network import Halved, SpatialQ, View, looked_up
from handeye.qtopt.workers import BellmanUpdater, LabelConfig, LearnConfig, QLearner

BOUNDS = ActionBounds(0.06, 0.5, terminates=False)


def pictures(count, size=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Inputs(torch.rand((count, 3, size, size), generator=generator), torch.rand((count, 3), generator=generator))


VIEW = View(((0.5, 0.1, 0.0), (-0.1, -0.4, 0.1), (0.02, 0.1, 1.0)))


def spatial(**fields):
    config = CompactConfig(merge="spatial", channels=(8, 8, 8, 8), features=16, width=16, **fields)
    return SpatialQ((64, 64), 3, VIEW, config)


def some_actions(count, samples, seed=1):
    return torch.rand((count, samples, 8), generator=torch.Generator().manual_seed(seed)) - 0.5


def small(**fields):
    return PictureQ((64, 64), 3, CompactConfig(channels=(8, 8, 8), features=16, width=16, **fields))


@pytest.fixture(scope="module")
def paper():
    torch.manual_seed(0)
    return PaperQ().eval()


def test_the_papers_network_has_its_parameters_and_its_feature_maps(paper):
    assert parameter_count(paper) == 1_242_817
    with torch.no_grad():
        (maps, _), theta = paper.encode(pictures(1, 472))
        assert maps.shape == (1, 64, 27, 27) and theta is None
        assert paper.after[:-7](maps).shape == (1, 64 * 8 * 8)


@pytest.mark.parametrize("make", [small, spatial])
@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
def test_scoring_on_a_shared_encoding_is_scoring_each_action_from_the_start(norm, make):
    net, inputs, actions = make(norm=norm).eval(), pictures(3), some_actions(3, 5)
    with torch.no_grad():
        together = net.score(net.encode(inputs)[0], actions)
        for k in range(5):
            alone = net.score(net.encode(inputs)[0], actions[:, k : k + 1])
            assert torch.allclose(together[:, k : k + 1], alone, atol=1e-5)


def test_so_does_the_papers_network(paper):
    inputs, actions = pictures(1, 472), some_actions(1, 2)
    with torch.no_grad():
        together = paper.score(paper.encode(inputs)[0], actions)
        alone = [paper.score(paper.encode(inputs)[0], actions[:, k : k + 1]) for k in range(2)]
    assert torch.allclose(together, torch.cat(alone, 1), atol=1e-6)


def test_the_papers_network_tells_all_parts_of_action_and_state_apart(paper):
    inputs = pictures(1, 472)
    with torch.no_grad():
        (_, state), _ = paper.encode(inputs)
        # Before any training the weights are tiny: compare what reaches the merge.
        base = torch.cat([torch.zeros(1, 8), state], 1)
        heard = [paper.blocks[n](part) for n, part in enumerate(base.split((3, 2, 1, 1, 1, 1, 1), dim=1))]
        assert [block.in_features for block in paper.blocks] == [3, 2, 1, 1, 1, 1, 1] and len(heard) == 7


def test_first_values_are_low():
    for first in (0.05, 0.3):
        net = small(first_value=first).eval()
        with torch.no_grad():
            values = scorer(net, pictures(4), BOUNDS)(some_actions(4, 9))
        assert (values - first).abs().max() < 0.05


def test_an_untrained_network_hears_action_and_state():
    net, inputs = small(), pictures(2)
    torch.nn.init.normal_(net.body.head.out.weight)
    with torch.no_grad():
        one = net.score(net.encode(inputs)[0], some_actions(2, 4))
        other_action = net.score(net.encode(inputs)[0], some_actions(2, 4, seed=2))
        other_state = net.score(net.encode(Inputs(inputs.seen, inputs.state + 1))[0], some_actions(2, 4))
        blind = small(proprioception=False)
        same = [blind.encode(Inputs(inputs.seen, inputs.state + k))[0] for k in (0, 1)]
    assert (one - other_action).abs().min() > 1e-4 and (one - other_state).abs().max() > 1e-3
    assert torch.equal(*same)


@pytest.mark.parametrize(("make", "sight"), [(small, "aux"), (small, "bottleneck"), (spatial, "aux")])
@pytest.mark.parametrize("beta", [0.0, 0.8, 1.0])
def test_the_gradient_of_q_enters_sight_times_one_minus_beta(make, sight, beta):
    def gradients(share):
        torch.manual_seed(3)
        net = make(sight=sight, beta=share)
        hidden, out = (net.hidden, net.out) if make is spatial else (net.body.head.hidden, net.body.head.out)
        torch.nn.init.normal_(out.weight)
        net.score(net.encode(pictures(2))[0], some_actions(2, 3)).sum().backward()
        return next(net.parameters()).grad, hidden.weight.grad

    (sight_whole, head_whole), (sight_part, head_part) = gradients(0.0), gradients(beta)
    assert sight_whole.abs().max() > 0
    assert torch.allclose(sight_part, (1 - beta) * sight_whole, atol=1e-6)
    assert torch.equal(head_part, head_whole)


def test_through_the_bottleneck_only_theta_passes():
    net = small(sight="bottleneck").eval()
    with torch.no_grad():
        net.theta.weight.zero_()
        one, other = (net.encode(pictures(2, seed=k)._replace(state=torch.zeros(2, 3)))[0] for k in (0, 1))
    assert torch.equal(one, other)


def test_a_state_network_sees_the_nearest_objects_alone():
    net = StateQ(3, CompactConfig(nearest=2, features=8, width=8))
    objects = torch.rand(4, 15)
    changed = objects.clone()
    changed[:, 6:] += 1
    state = torch.rand(4, 3)
    with torch.no_grad():
        assert torch.equal(net.encode(Inputs(objects, state))[0], net.encode(Inputs(changed, state))[0])


def test_theta_by_hand():
    observation = {"objects": np.array([[[0.1, 0.2, 0.3], [1, 1, 1]]]), "pose": np.array([[0.1, -0.2, 0.05, 0.6, 0.8]])}
    known = known_of(observation)
    config = CompactConfig(nearest=1, theta_pose=True)
    told = theta_of(known, config)
    assert torch.allclose(told, torch.tensor([[1.0, 2, 3, 1, -2, 0.5, 0.6, 0.8]]).double()) and config.theta == 8
    config = CompactConfig(nearest=1)
    assert torch.allclose(theta_of(known, config), told[:, :3]) and config.theta == 3


@pytest.mark.parametrize("pose", [False, True])
def test_networks_tell_and_take_theta_in_full(pose):
    sights = [small(sight=sight, theta_pose=pose) for sight in ("aux", "bottleneck")]
    for net in (*sights, spatial(sight="aux", theta_pose=pose)):
        assert net.encode(pictures(2))[1].shape == (2, 14 if pose else 9)
    net, known, state = StateQ(3, CompactConfig(theta_pose=pose)), torch.rand(4, 20), torch.rand(4, 3)
    turned = known + torch.tensor([0.0] * 19 + [1.0])
    same = torch.equal(net.encode(Inputs(known, state))[0], net.encode(Inputs(turned, state))[0])
    assert same != pose


def test_observations_become_inputs():
    image = np.full((2, 4, 5, 3), 51, np.uint8)
    seen = to_inputs({"image": image, "objects": np.ones((2, 5, 3), np.float32), "state": np.ones((2, 3), np.float32)})
    assert seen.seen.shape == (2, 3, 4, 5) and torch.allclose(seen.seen.float(), torch.tensor(-0.3), atol=1e-3)
    known = {"objects": np.ones((2, 5, 3), np.float32), "state": np.ones((2, 3), np.float32)}
    assert to_inputs(known).seen.shape == (2, 15)
    assert to_inputs(known | {"pose": np.ones((2, 5), np.float32)}).seen.shape == (2, 20)


def test_a_network_reads_displacements_as_shares_of_their_bounds():
    action = torch.tensor([0.06, -0.03, 0.0, 0.1, 0.9, 1.0, 0.0, 0.0])
    assert torch.allclose(for_network(action, BOUNDS), torch.tensor([1.0, -0.5, 0.0, 0.1, 0.9, 1.0, 0.0, 0.0]))


def test_a_spatial_network_reads_the_picture_where_the_action_leads():
    # A feature map that is its own column and row: what is read at a place is the place.
    net = spatial()
    axis = (torch.arange(16) + 0.5) / 8 - 1
    maps = torch.stack([axis.expand(16, 16), axis[:, None].expand(16, 16)])[None]
    share = torch.tensor([[[0.2, -0.3], [0.0, 0.0], [-0.6, 0.5]]])
    assert torch.allclose(net._at(maps, share, torch.zeros(1, 2)), VIEW.project(share), atol=1e-5)
    assert torch.allclose(VIEW.project(torch.zeros(2)), torch.tensor([0.0, 0.1]))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 1), (7, 3)])
def test_halved_maps_and_their_gradients_are_those_of_average_pooling(size, kind):
    torch.manual_seed(0)
    maps = torch.randn(2, 3, *size).to(kind, memory_format=torch.channels_last)
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    halved = Halved()(ours)
    weight = torch.randn(halved.shape)
    (halved * weight).sum().backward()
    (torch.nn.functional.avg_pool2d(theirs, 2, ceil_mode=True) * weight).sum().backward()
    assert ours.grad.dtype == kind
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6 if kind == torch.float32 else 0.01)


def test_features_between_cells_by_hand():
    maps = torch.zeros(1, 1, 2, 4)
    maps[0, 0, 0, 1], maps[0, 0, 1, 3] = 8.0, 4.0
    # Middles of cells are at ±¼, ±¾ across and ±½ down: on the first, between four, between two, at an edge, away.
    place = torch.tensor([[[-0.25, -0.5], [0.0, 0.0], [-0.25, 0.0], [1.0, 0.5], [5.0, -7.0]]])
    for asked in (maps, maps.requires_grad_()):
        assert torch.allclose(looked_up(asked, place)[0, :, 0], torch.tensor([8.0, 2.0, 4.0, 2.0, 0.0]))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_features_are_looked_up_alike_with_and_without_gradients(kind):
    torch.manual_seed(0)
    maps = torch.randn(3, 8, 5, 7).to(kind, memory_format=torch.channels_last)
    place, weight = 3 * torch.rand(3, 6, 2) - 1.5, torch.randn(3, 6, 8)
    ours, theirs = maps.clone().requires_grad_(), maps.float().requires_grad_()
    found = looked_up(ours, place)
    assert torch.allclose(found, looked_up(maps, place), atol=1e-6)
    grid = torch.nn.functional.grid_sample(theirs, place[:, :, None], align_corners=False)
    (found * weight).sum().backward()
    (grid[..., 0].transpose(1, 2) * weight).sum().backward()
    assert torch.allclose(ours.grad.float(), theirs.grad, atol=1e-5 if kind == torch.float32 else 0.05)
    assert ours.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("camera", ["follow", "shoulder"])
def test_a_camera_shows_objects_where_its_view_says(camera):
    config = GraspConfig(view=CameraConfig(camera=camera, width_px=128, height_px=128))
    env = GraspVectorEnv(6, config, "disabled", world=BinConfig(models=6, placements=1, objects=1))
    image = env.reset(seed=1)[0]["image"].astype(float)
    away = (env.bin.objects_m[:, 0, :2] - env.bin.gripper[:, :2]) / config.move_m
    gripper = torch.as_tensor(env.bin.gripper[:, :2], dtype=torch.float32)
    shares = torch.as_tensor(away, dtype=torch.float32)[:, None]
    places = grasp.view_of(config).project(shares, gripper)[:, 0].numpy()
    for picture, place in zip(image, places, strict=True):
        if np.abs(place).max() < 0.8:
            column, row = ((place + 1) * 64).astype(int)
            coloured = np.ptp(picture[row - 3 : row + 4, column - 3 : column + 4], axis=-1).max()
            assert coloured > 40, (place, coloured)


NETS = {
    "state": lambda: StateQ(3, CompactConfig()),
    "late": lambda: PictureQ((64, 64), 3, CompactConfig(sight="aux")),
    "bottleneck": lambda: PictureQ((64, 64), 3, CompactConfig(sight="bottleneck", theta_pose=True)),
    "spatial": lambda: SpatialQ((64, 64), 3, VIEW, CompactConfig(merge="spatial", sight="aux")),
    "members": lambda: Members([StateQ(3, CompactConfig()) for _ in range(2)]),
    "both ways": lambda: BothWays(PictureQ((64, 64), 3, CompactConfig())),
    "paper": PaperQ,
}


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("maximiser", ["cem", "uniform"])
def test_whatever_is_made_is_made_where_the_network_is(kind, maximiser):
    net, side = NETS[kind](), 472 if kind == "paper" else 64
    average, lagged = copy.deepcopy(net).eval(), copy.deepcopy(net).eval()
    rng, bounds = np.random.default_rng(0), ActionBounds(0.06, 0.5, True)
    shapes = {"state": (3,), "pose": (5,), "objects": (5, 3)}
    seen = {name: rng.random((2, *shape), np.float32) for name, shape in shapes.items()}
    if kind not in ("state", "members"):
        seen["image"] = rng.integers(256, size=(2, side, side, 3), dtype=np.uint8)
    batch = {"observation": seen, "next_observation": seen, "action": rng.random((2, 8), np.float32)}
    batch |= {"reward": np.zeros(2, np.float32), "discount": np.ones(2, np.float32)}
    search = MaximiserConfig(kind=maximiser, samples=4, elites=2)
    learner = QLearner(net, average, lagged, bounds, LearnConfig(optimiser="sgd"), 500)
    # What says nothing of where it is lands on a device whose numbers are nowhere, and mixes with none.
    with torch.device("meta"):
        assert Greedy(average, bounds, search)(seen).shape == (2, 8)
        labelled, _ = BellmanUpdater(bounds, LabelConfig(maximiser=search)).label(average, lagged, (batch, rng))
        if kind != "both ways":
            assert np.isfinite(learner.update(labelled, 1.0)["l_q"])


def test_a_device_that_is_not_there_is_told(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["train", "grasp-paper", "--run.device", "cuda"]) == 1
    assert "finds no GPU here; give --run.device cpu" in capsys.readouterr().err
    assert cli.main(["train", "grasp", "--run.device", "cuda", "--runner", "ray"]) == 2
    assert "needs --runner local" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
