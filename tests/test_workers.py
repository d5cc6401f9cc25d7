import copy
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from handeye.errors import Misuse
from handeye.frames import FrameReplay
from handeye.nn import seeded
from handeye.qtopt.acting import Greedy, NoiseConfig, Random
from handeye.qtopt.actions import ActionBounds
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.members import Members
from handeye.qtopt.networks import CompactConfig, PictureQ, StateQ
from handeye.qtopt.run_local import Frames, LocalRunner, RunConfig, Workers
from handeye.qtopt.workers import BellmanUpdater, Collector, Exploration, LabelConfig, LearnConfig, QLearner, Shared
from toy import Pick

BOUNDS = ActionBounds(0.06, 0.5, terminates=False)
MAXIMISER = MaximiserConfig(samples=32, elites=4)
FIELDS = {"state": ((3,), np.float32), "objects": ((1, 3), np.float32)}
NET = CompactConfig(nearest=1, features=32, width=32)
FRAMES = Frames(Pick.max_steps + 1)
RUN = RunConfig(
    rounds=6,
    first_rounds=2,
    environments=8,
    updates=3,
    off_frames=500,
    on_frames=500,
    scripted_first=0.5,
    scripted=0.25,
)
LEARN = LearnConfig(batch=16, labelled=64)
UPDATER = BellmanUpdater(BOUNDS, LabelConfig(maximiser=MAXIMISER, lag=2))


def net_of(seed=0):
    with seeded(seed):
        return StateQ(3, NET)


def guide(env, rngs):
    """Straight to the thing, then close."""

    def act(observation):
        action = np.zeros((env.num_envs, 8), np.float32)
        action[:, :3] = np.clip(env.away, -0.06, 0.06)
        action[:, 5] = np.abs(env.away - action[:, :3]).max(1) < 0.01
        return action

    return act


def chance(env, rngs):
    return lambda observation: np.stack([rng.uniform(-1, 1, 8) * 0.06 for rng in rngs]).astype(np.float32)


def collector(worlds=8, seed=0):
    return Collector(Pick(worlds), chance, guide, BOUNDS, MAXIMISER, NoiseConfig(), seed)


def runner(folder=None, members=1, **fields):
    config = replace(RUN, **fields)
    workers = Workers(collector(config.environments), UPDATER)
    net = net_of() if members == 1 else Members([net_of(seed) for seed in range(members)])
    return LocalRunner(net, workers, FIELDS, (config, LEARN), 0, FRAMES, folder)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.result().values(), other.result().values(), strict=True))


def test_a_round_depends_on_seed_and_number_alone():
    exploration = Exploration(scripted=0.25, guided=0.25)
    first, again = (collector().collect(net_of(), exploration, 3) for _ in range(2))
    other = collector().collect(net_of(), exploration, 4)
    assert [len(part) for part in first] == [4, 4]
    for one, two, three in zip(first[1], again[1], other[1], strict=True):
        assert np.array_equal(one.action, two.action)
        assert not np.array_equal(one.observation["objects"][0], three.observation["objects"][0])


def test_the_network_is_not_asked_about_what_has_ended():
    net, worlds = net_of(), collector()
    asked: list[int] = []
    encode = net.encode
    net.encode = lambda inputs: (asked.append(inputs.states), encode(inputs))[1]
    lived = [len(episode.action) for part in worlds.collect(net, Exploration(0.0, 0.5), 0) for episode in part]
    assert asked[0] == 8 and min(lived) < Pick.max_steps
    # Of each step, and of the last observation.
    assert sum(asked) <= sum(lived) + 8 < 8 * Pick.max_steps


def test_a_policy_without_a_share_is_not_asked():
    def broken(observation):
        raise AssertionError

    act = Shared([broken, lambda o: np.ones((4, 8))], [slice(0, 0), slice(0, 4)])
    assert act({"state": np.zeros((4, 3))}).shape == (4, 8)


def test_episodes_of_diverged_simulations_are_left_out():
    worlds = collector()
    info = worlds.env.info
    worlds.env.info = lambda success: info(success) | {"diverged": np.arange(8) % 2 == 0}
    given, own = worlds.collect(net_of(), Exploration(0.5, 0.0), 0)
    assert (len(given), len(own)) == (2, 2)


def test_noise_has_its_stated_shares():
    noise = Random(ActionBounds(0.06, 0.5, True), NoiseConfig(), np.random.default_rng(0))
    action = noise({"state": np.repeat([[1.0, 0, 0], [0.0, 0, 0]], 5000, 0)})
    moves, toggles, stops = action[:, :3].any(1).mean(), action[:, 5:7].any(1).mean(), action[:, 7].mean()
    assert_allclose([moves, toggles, stops], [0.75, 0.17, 0.08], atol=0.015)
    # Open fingers close and closed ones open.
    assert action[:5000, 5].any() and not action[:5000, 6].any() and not action[5000:, 5].any()


def test_the_supervised_rival_is_taught_outcomes():
    given, own = collector().collect(net_of(), Exploration(0.0, 1.0), 0)
    replay = FrameReplay(200, FIELDS, 8)
    replay.add(given + own)
    updater = BellmanUpdater(BOUNDS, LabelConfig(objective="outcome"))
    rng = np.random.default_rng(0)
    sample = updater.sample(replay, 64, rng, 1)
    labelled, clipped = updater.label(net_of(), net_of(), (sample, rng))
    assert np.array_equal(labelled["target"], sample["outcome"]) and labelled["target"].any() and clipped == 0


def batch_of(count=32):
    rng = np.random.default_rng(0)
    objects = rng.uniform(-0.1, 0.1, (count, 1, 3)).astype(np.float32)
    target = (objects[:, 0, 0] > 0).astype(np.float32)
    observation = {"state": np.zeros((count, 3), np.float32), "objects": objects}
    return {"observation": observation, "action": np.zeros((count, 8), np.float32), "target": target}


def test_the_learner_fits_labels_averages_and_lags():
    learner = QLearner(
        net_of(), copy.deepcopy(net_of()), copy.deepcopy(net_of()), BOUNDS, LearnConfig(learning_rate=3e-3), 25
    )
    batch = batch_of()
    losses = [learner.update(batch, 1.0)["l_q"] for _ in range(20)]
    start = net_of().state_dict()
    assert all(torch.equal(a, b) for a, b in zip(learner.lagged.state_dict().values(), start.values(), strict=True))
    losses += [learner.update(batch, 1.0)["l_q"] for _ in range(180)]
    assert losses[-1] < 0.15 < losses[0]
    average = learner.average.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(learner.lagged.state_dict().values(), average, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(average, learner.net.state_dict().values(), strict=True) if a.ndim)


def test_members_learn_together_what_each_would_alone():
    nets, config = [net_of(), net_of(1)], LearnConfig(learning_rate=1e-2)
    alone = [QLearner(net, copy.deepcopy(net), copy.deepcopy(net), BOUNDS, config, 2) for net in copy.deepcopy(nets)]
    both = Members(nets)
    learner = QLearner(both, copy.deepcopy(both), copy.deepcopy(both), BOUNDS, config, 2)
    for _ in range(3):
        measured = [one.update(batch_of(), 0.5) for one in alone]
        together = learner.update(batch_of(), 0.5)
        assert together == pytest.approx({name: np.mean([one[name] for one in measured]) for name in together})
    for name in ("net", "lagged"):
        members = zip(getattr(learner, name).nets, (getattr(one, name) for one in alone), strict=True)
        for member, one in members:
            assert all(map(torch.equal, member.state_dict().values(), one.state_dict().values()))


def test_sight_alone_moves_nothing_but_what_reads_theta():
    with seeded(0):
        net = PictureQ((16, 16), 3, CompactConfig(channels=(4,), features=8, width=8, nearest=1, sight="bottleneck"))
    learner = QLearner(net, copy.deepcopy(net), copy.deepcopy(net), BOUNDS, LearnConfig(learning_rate=1e-2), 99)
    rng, batch = np.random.default_rng(0), batch_of()
    batch["observation"]["image"] = rng.integers(256, size=(32, 16, 16, 3), dtype=np.uint8)
    before = copy.deepcopy(net.state_dict())
    losses = [learner.update(batch, 1.0, sight_alone=True)["l_p"] for _ in range(30)]

    def moved():
        return {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}

    assert losses[-1] < 0.8 * losses[0] and moved() == {"tower", "theta"}
    learner.update(batch, 1.0)
    assert moved() == {"tower", "theta", "body"}


@pytest.mark.parametrize("members", [1, 2])
def test_side_by_side_or_one_after_the_other_gives_the_same_weights(members):
    runners = [runner(members=members, overlap=overlap) for overlap in (False, True)]
    begun = copy.deepcopy(runners[0].result())
    for one in runners:
        while one.done < one.steps:
            one.step()
    assert same(*runners) and not any(map(torch.equal, begun.values(), runners[0].result().values()))


def test_members_learn_side_by_side_once_the_episodes_are_there(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    one, other, meeting = runner(members=2), runner(members=2, overlap=False), threading.Barrier(2, timeout=10)
    for member in one.net.nets:
        encode = member.encode
        member.encode = lambda inputs, encode=encode: (meeting.wait(), encode(inputs))[1]
    for each in (one, other):
        while each.done < each.steps:
            each.step()
    assert not meeting.broken and same(one, other)


def test_the_learner_labels_while_others_still_collect():
    one, free = runner(), threading.Event()
    collect, label_all = one.workers.collector.collect, UPDATER.label_all

    def slow(*asked):
        assert one.done < 1 or free.wait(10)
        return collect(*asked)

    def label(average, lagged, samples):
        samples = list(samples)
        if threading.current_thread() is threading.main_thread() and samples:
            free.set()
        return label_all(average, lagged, samples)

    updater = SimpleNamespace(sample=UPDATER.sample, label_all=label, config=UPDATER.config)
    one.workers = Workers(SimpleNamespace(collect=slow), updater)
    while one.done < one.steps:
        one.step()
    other = runner(overlap=False)
    while other.done < other.steps:
        other.step()
    assert free.is_set() and same(one, other)


def test_targets_look_far_ahead_at_first():
    one, other, asked = runner(far_rounds=2), runner(far_rounds=4, far_steps=1), set()

    def sample(replay, count, rng, steps):
        asked.add((one.done, steps))
        return UPDATER.sample(replay, count, rng, steps)

    updater = SimpleNamespace(sample=sample, label_all=UPDATER.label_all, config=UPDATER.config)
    one.workers = one.workers._replace(updater=updater)
    for each in (one, other):
        while each.done < each.steps:
            each.step()
    # A round makes the labels of the next; the first two rounds learn nothing, and the next two look far.
    assert asked == {(1, 3), (2, 3), (3, 1), (4, 1), (5, 1)}
    near = runner()
    while near.done < near.steps:
        near.step()
    assert same(other, near) and not same(one, near)


def test_scripted_and_guided_episodes_alone_are_learnt_from_if_asked():
    one = runner(scripted=0.5, guided_start=0.5, guided_end=0.5)
    while one.done < one.steps:
        values = one.step()
    assert one.on.added == 0 and one.off.added > 0 and values["on_policy"] == 0 and values["l_q"] > 0
    assert "own_success" not in values and not same(one, runner())


@pytest.mark.parametrize(("on_disk", "members"), [(False, 1), (True, 1), (True, 2)])
def test_an_interrupted_run_goes_on_exactly(tmp_path, on_disk, members):
    whole = runner(tmp_path / "whole" if on_disk else None, members)
    stopped = runner(tmp_path / "part" if on_disk else None, members)
    for one, rounds in ((whole, 6), (stopped, 4)):
        for _ in range(rounds):
            one.step()
    saved = copy.deepcopy(stopped.state())
    # What the killed process still did is done again.
    stopped.step()
    again = runner(tmp_path / "part" if on_disk else None, members)
    again.load_state(saved)
    while again.done < again.steps:
        again.step()
    assert same(whole, again)


def test_learning_to_pick_from_chance_and_a_guide():
    learning = LocalRunner(
        net_of(),
        Workers(collector(32), BellmanUpdater(BOUNDS, LabelConfig(maximiser=MAXIMISER, lag=50))),
        FIELDS,
        (
            replace(RUN, rounds=60, first_rounds=5, environments=32, updates=20, off_frames=5000, on_frames=5000),
            LearnConfig(batch=128, labelled=512, learning_rate=2e-3, average_rate=0.02),
        ),
        0,
        FRAMES,
    )  # fmt: skip
    while learning.done < learning.steps:
        values = learning.step()
    assert 0 < values["target"] < 1 and 0 <= values["clipped"] <= 1 and values["label_age"] < 60
    env, greedy = Pick(200), Greedy(learning.average, BOUNDS, MaximiserConfig(), 0)
    observation, _ = env.reset(seed=99)
    won = np.zeros(200, bool)
    for _ in range(Pick.max_steps):
        observation, _, success, *_ = env.step(greedy(observation))
        won |= success
    assert won.mean() > 0.8


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"scripted": 1.5},
        {"first_rounds": 9},
        {"sight_rounds": 5},
        {"far_rounds": 5},
        {"far_steps": 0},
        {"far_steps": 2},
        {"guided_over": 0},
    ],
)
def test_runs_that_make_no_sense_are_refused(wrong):
    with pytest.raises(Misuse, match=next(iter(wrong))):
        replace(RUN, **wrong)
