import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from handeye import checkpoint
from handeye.errors import Misuse
from handeye.modular.networks import perception_net
from handeye.modular.perception import PerceptionConfig, PerceptionStage, cosine
from handeye.nn import seeded


def source(grey):
    """Pictures of one shade; their Θ is that shade."""

    def draw(count, rng):
        shade = (grey + rng.random(count)).astype(np.float32)
        pictures = np.broadcast_to(100 * shade[:, None, None], (count, 84, 84)).astype(np.uint8)
        return pictures, np.repeat(shade[:, None], 5, 1)

    return draw


def stage(seed=0, net=perception_net, **fields):
    with seeded(seed):
        ours = net()
    config = PerceptionConfig(**{"steps": 6, "batch": 8, "camera_share": 0.5, "augment": 0.5, "average": 0.1} | fields)
    return PerceptionStage(ours, net(), source(0.0), source(1.0), config, seed)


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(84 * 84, 5))


def equal(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_tiny_data_set_is_learnt_by_heart():
    rng = np.random.default_rng(0)
    pictures, theta = rng.integers(0, 256, (6, 84, 84), np.uint8), rng.random((6, 5), dtype=np.float32)
    with seeded(0):
        net = perception_net()
    config = PerceptionConfig(steps=60, batch=6)
    learning = PerceptionStage(net, perception_net(), lambda *_: (pictures, theta), source(0), config, 0)
    losses = [learning.step()["loss"] for _ in range(60)]
    assert losses[-1] < 0.002 < 0.1 < losses[0]


@pytest.mark.parametrize(("share", "camera"), [(0.0, 0), (0.25, 2), (0.5, 4), (0.75, 6), (1.0, 8)])
def test_the_share_of_the_second_domain_is_kept_in_every_batch(share, camera):
    _, theta = stage(camera_share=share, net=linear)._batch()
    assert (theta[:, 0] >= 1).sum() == camera and len(theta) == 8


def test_only_pictures_of_the_second_domain_are_augmented():
    plain, augmented = (stage(net=linear, augment=strength)._batch()[0] for strength in (0.0, 1.0))
    assert torch.equal(plain[:4], augmented[:4])
    assert (plain[4:] != augmented[4:]).any(dim=(1, 2, 3)).all()


def test_the_learning_rate_falls_along_half_a_cosine():
    assert [cosine(step, 4) for step in (0, 2, 4, 9)] == pytest.approx([1, 0.5, 0, 0])
    learning = stage(steps=4, learning_rate=0.1, net=linear)
    rates = [learning.step()["rate"] for _ in range(4)]
    assert_allclose(rates, [0.1, 0.1 * cosine(1, 4), 0.05, 0.1 * cosine(3, 4)])


def test_the_loss_is_that_of_the_paper():
    learning = stage(net=linear, camera_share=0.0)
    with torch.no_grad():
        learning.net[1].weight.zero_()
        learning.net[1].bias.zero_()
    _, theta = source(0.0)(8, np.random.default_rng(0))
    assert learning.step()["loss"] == pytest.approx(5 * np.mean(theta**2) / 2, rel=0.01)


def test_the_result_is_the_average_where_one_is_kept():
    averaged, last = stage(net=linear), stage(net=linear, average=0.0)
    for learning in (averaged, last):
        learning.step()
        learning.step()
    assert equal(averaged.result(), averaged.learner.average.state_dict())
    assert not equal(averaged.result(), averaged.net.state_dict())
    assert equal(last.result(), last.net.state_dict())


def test_two_halves_through_a_file_equal_one_whole_to_the_bit(tmp_path):
    whole, half, resumed = stage(), stage(), stage(seed=9)
    for _ in range(6):
        whole.step()
    for _ in range(3):
        half.step()
    checkpoint.save(tmp_path / "c", half.state())
    resumed.load_state(checkpoint.load(tmp_path / "c"))
    for _ in range(3):
        resumed.step()
    assert resumed.done == whole.done == 6
    assert equal(resumed.net.state_dict(), whole.net.state_dict())
    assert equal(resumed.result(), whole.result())


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batch", 0), ("batch", 10**9), ("learning_rate", 0.0), ("learning_rate", float("nan")),
     ("camera_share", 1.5), ("augment", -0.1), ("average", float("nan"))],
)  # fmt: skip
def test_configurations_that_train_nothing_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        PerceptionConfig(**{field: value})
