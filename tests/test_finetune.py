import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import nn

from handeye import checkpoint
from handeye.errors import Misuse
from handeye.modular.finetune import Combined, FinetuneConfig, FinetuneStage
from handeye.modular.networks import greedy_on_picture
from handeye.nn import seeded
from handeye.rollout import episodes
from toy import CELLS, Chain, draw, go_right, labelled


def combined(seed=None):
    with seeded(seed or 0):
        control = nn.Sequential(nn.Linear(CELLS, 32), nn.ReLU(), nn.Linear(32, 9))
        return Combined(nn.Sequential(nn.Flatten(), nn.Linear(CELLS, CELLS)), control)


def stage(seed=0, camera=labelled, **fields):
    small = {"steps": 30, "environments": 8, "task_batch": 16, "camera_batch": 8, "replay": 300, "warm_up": 64}
    config = FinetuneConfig(**small | {"augment": 0.5} | fields)
    return FinetuneStage(combined(seed), combined(), Chain(config.environments), go_right, draw, camera, config, seed)


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def run(learning, steps):
    return [learning.step() for _ in range(steps)][-1]


def test_seeing_and_acting_are_learnt_together():
    learning = stage(steps=500, learning_rate=0.2, rate_end=0.5, target_rate=0.05, augment=0.0, epsilon=0.5)
    run(learning, 500)

    def act(observation):
        return sighted({"image": draw(observation["state"])[..., None]})

    sighted = greedy_on_picture(learning.average.perception, learning.average.control)
    ended = episodes(Chain(40, AutoresetMode.DISABLED), act, seed=1)
    assert np.mean([episode.terminated for episode in ended]) == 1.0


def test_nesterov_momentum_by_hand():
    learning = stage(optimiser="sgd", learning_rate=0.1, control_rate=0.5, momentum=0.9)
    before = weights(learning.net)
    for _ in range(2):
        for optimiser in learning.learner.optimisers:
            for parameter in (p for group in optimiser.param_groups for p in group["params"]):
                parameter.grad = torch.ones_like(parameter)
            optimiser.step()
    # Speeds 1 and 1.9, each looked ahead by momentum: 1 + 0.9 · 1, then 1 + 0.9 · 1.9.
    for name, value in weights(learning.net).items():
        rate = 0.1 if name.startswith("perception") else 0.05
        torch.testing.assert_close(before[name] - value, torch.full_like(value, rate * (1.9 + 2.71)))


def test_muon_sgd_turns_every_kernel_of_perception_and_descends_elsewhere():
    learning = stage(optimiser="muon-sgd", muon_rate=0.003, learning_rate=0.1, control_rate=0.5)
    before = weights(learning.net)
    for optimiser in learning.learner.optimisers:
        for parameter in (p for group in optimiser.param_groups for p in group["params"]):
            parameter.grad = torch.full_like(parameter, 2.0)
        optimiser.step()
    moved = {name: before[name] - value for name, value in weights(learning.net).items()}
    # The kernel's gradient has rank one: all of the step is along it, and nearly as long as the rate.
    kernel = moved.pop("perception.1.weight")
    assert torch.allclose(kernel, kernel.mean()) and kernel.norm().item() == pytest.approx(0.003, rel=0.35)
    for name, value in moved.items():
        torch.testing.assert_close(value, torch.full_like(value, 0.2 if name.startswith("perception") else 0.1))


def test_frozen_control_is_left_alone():
    learning = stage(freeze_control=True)
    before = weights(learning.net)
    run(learning, 5)
    after = weights(learning.net)
    assert all(torch.equal(before[name], after[name]) == name.startswith("control") for name in before)


@pytest.mark.parametrize(("beta", "asked"), [(0.0, 0), (0.8, 5), (1.0, 5)])
def test_second_domain_pictures_are_drawn_only_if_they_count(beta, asked):
    counts = []

    def camera(count, rng):
        counts.append(count)
        return labelled(count, rng)

    run(stage(beta=beta, camera=camera), 5)
    assert counts == [8] * asked


@pytest.mark.parametrize(("targets", "asked"), [("true", False), ("seen", True)])
def test_targets_know_the_next_state_or_see_it(targets, asked):
    clear, blurred = stage(targets=targets), stage(targets=targets)
    with torch.no_grad():
        blurred.average.perception[1].bias += 3
    assert (clear.step()["l_q"] != blurred.step()["l_q"]) is asked


def test_labels_do_not_move_control_and_beta_1_keeps_the_task_out_of_perception():
    def lying(count, rng):
        pictures, theta = labelled(count, rng)
        return pictures, theta + 3

    honest, lied = stage(beta=0.8), stage(beta=0.8, camera=lying)
    run(honest, 1), run(lied, 1)
    assert equal(honest.net.control.state_dict(), lied.net.control.state_dict())
    assert not equal(honest.net.perception.state_dict(), lied.net.perception.state_dict())


def test_the_learning_rate_falls_exponentially():
    learning = stage(steps=4, learning_rate=0.1, rate_end=0.01)
    rates = [learning.step()["rate"] for _ in range(4)]
    assert rates == pytest.approx([0.1, 0.1 * 0.1**0.5, 0.01, 0.01 * 0.1**0.5])


def test_it_explores_by_its_epsilon():
    learning = stage(epsilon=1.0)
    run(learning, 1)
    assert (learning.replay.rows["action"][:64] == 2).all()


OPTIMISERS = [{"optimiser": kind} for kind in ("sgd", "muon", "muon-sgd")]


@pytest.mark.parametrize("variant", [{}, {"freeze_control": True}, {"sum_gradients": True}, {"beta": 0.0}, *OPTIMISERS])
def test_two_halves_through_a_file_equal_one_whole_to_the_bit(tmp_path, variant):
    whole, half, resumed = stage(**variant), stage(**variant), stage(seed=9, **variant)
    last = run(whole, 20)
    run(half, 10)
    checkpoint.save(tmp_path / "c", half.state())
    resumed.load_state(checkpoint.load(tmp_path / "c"))
    assert run(resumed, 10) == last
    assert equal(resumed.net.state_dict(), whole.net.state_dict())
    assert equal(resumed.result(), whole.result())


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("task_batch", 0), ("camera_batch", -1), ("environments", 0), ("environments", 10**8),
     ("replay", 0), ("warm_up", 0), ("seed", -1), ("learning_rate", 0), ("rate_end", float("nan")),
     ("target_rate", 0), ("beta", 1.2), ("optimiser", "luck"), ("targets", "luck"), ("clip_norm", 0), ("muon_rate", 0),
     ("augment", 7), ("epsilon", 1.5), ("discount", 2)],
)  # fmt: skip
def test_configurations_that_train_nothing_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        FinetuneConfig(**{field: value})


def test_perception_sees_every_picture_in_the_same_layout():
    shapes = []

    class Watching(nn.Module):
        def forward(self, pictures):
            shapes.append((tuple(pictures.shape[1:]), float(pictures.min()) >= 0, float(pictures.max()) <= 1))
            return pictures

    learning = stage(augment=1.0)
    learning.net.perception.insert(0, Watching())
    learning.step()
    assert len(shapes) > 2 and len(set(shapes)) == 1
