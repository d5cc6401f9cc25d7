import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import handeye
from handeye import checkpoint, cli, experiments, grasp, grasp_results, ship
from handeye.envs.bin_config import HELD_OUT_MODELS, HELD_OUT_PLACEMENTS, BinConfig, world_of
from handeye.envs.grasping import GraspVectorEnv
from handeye.episodes import read_episodes
from handeye.errors import Misuse
from handeye.grasp_config import GraspLearning, PriorConfig, control_of, read_config
from handeye.metrics import read_rows
from handeye.nn import weights_of
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.networks import CompactConfig, Inputs
from handeye.qtopt.run_local import RunConfig
from handeye.qtopt.workers import Crew
from handeye.run import stage_key

TINY = [
    "--run.rounds", "4", "--run.first-rounds", "2", "--run.environments", "4", "--run.updates", "2",
    "--run.off-frames", "200", "--run.on-frames", "200", "--env.world.models", "2", "--env.world.placements", "1",
    "--env.max-steps", "6", "--learn.batch", "16", "--learn.labelled", "32",
]  # fmt: skip

MODULAR = [
    *TINY, "--env.view.width-px", "16", "--env.view.height-px", "16", "--net.channels", "4", "--net.features", "16",
    "--net.width", "16", "--run.sight-rounds", "1", "--run.evaluate-every", "0", "--prior.rounds", "3",
    "--prior.updates", "2", "--prior.learn.batch", "16", "--prior.learn.labelled", "32",
]  # fmt: skip


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    monkeypatch.setattr(
        grasp_results, "world_of", lambda objects, like: BinConfig(split=objects, models=2, placements=1)
    )


def grasping():
    return [name for name, experiment in experiments.EXPERIMENTS.items() if experiment.task == "grasp"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grasp") / "run"
    assert cli.main(["train", "grasp-state", "--out", str(folder), *TINY]) == 0
    return folder


@pytest.mark.parametrize("name", grasping())
def test_every_experiment_survives_being_written_and_read(name):
    config = experiments.find(name).config
    stored = json.loads(json.dumps(dataclasses.asdict(config)))
    assert read_config(stored) == config
    with pytest.raises(KeyError):
        read_config({**stored, "colour": 3})


def test_what_is_newer_than_a_run_has_its_default():
    stored = dataclasses.asdict(GraspLearning(network="state"))
    del stored["labels"]["objective"]
    assert read_config(stored) == GraspLearning(network="state")


@pytest.mark.parametrize("name", grasping())
def test_every_experiment_has_a_network_that_sees_its_observations(name):
    config = dataclasses.replace(experiments.find(name).config, acting=MaximiserConfig(samples=4, elites=2))
    net = grasp.new_net(config).eval()
    world = dataclasses.replace(config.observed, world=BinConfig(models=1, placements=1))
    env = GraspVectorEnv(1, world, "disabled")
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(grasp.greedy(config, net)(observation).astype(np.float32))


def test_a_run_leaves_a_checkpoint_and_no_replay_memory(run):
    tree = checkpoint.load(run / "checkpoints" / "final.safetensors")
    assert (tree["task"], tree["experiment"]) == ("grasp", "grasp-state")
    assert not (run / "replay").exists()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4 and {"l_q", "q_mean", "clipped", "label_age", "given_success"} <= rows[-1].keys()


def test_it_is_evaluated_on_the_protocol(run, capsys):
    assert cli.main(["evaluate", str(run), "--episodes", "5", "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["task"], figures["episodes"], figures["objects"]) == ("grasp", 5, "heldout")
    assert 0 <= figures["ci_low"] <= figures["success"] <= figures["ci_high"] <= 1


def test_it_acts_on_one_observation_or_many_and_always_alike(run):
    policy = handeye.load_policy(str(run))
    rng = np.random.default_rng(0)
    many = {"objects": rng.uniform(-0.1, 0.1, (3, 5, 3)).astype(np.float32), "state": rng.random((3, 7), np.float32)}
    actions = policy(many)
    assert actions.shape == (3, 8) and np.array_equal(policy(many), actions)
    assert policy({key: value[1] for key, value in many.items()}).shape == (8,)


@pytest.mark.parametrize(
    ("told", "got"), [({"state": np.zeros(3)}, "(7,)"), ({"objects": np.zeros((2, 4, 3))}, "(5, 3)"), ({}, "None")]
)
def test_what_it_cannot_read_names_the_environment_that_it_acts_in(run, told, got):
    policy = handeye.load_policy(str(run))
    with pytest.raises(Misuse, match=r"Grasp-v0.*observe='objects'.*show_pose=True") as wrong:
        policy({"state": np.zeros(7)} | told)
    assert got in str(wrong.value)


@pytest.fixture(scope="module")
def modular(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modular") / "run"
    assert cli.main(["train", "grasp-modular", "--out", str(folder), *MODULAR]) == 0
    return folder


def weights(folder, stage="qtopt"):
    return checkpoint.load(folder / "checkpoints" / f"{stage}.safetensors")["result"]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("name", "steps"), [("grasp-state", 4), ("grasp-modular", 2), ("grasp-modular", 5), ("grasp-modular", 7)]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(name, steps, request, tmp_path, monkeypatch):
    options, whole = (TINY, "run") if name == "grasp-state" else (MODULAR, "modular")
    folder, step, count = tmp_path / "stopped", grasp.LocalRunner.step, []

    def stopping(self):
        count.append(1)
        if len(count) == steps:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(handeye.run, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(grasp.LocalRunner, "step", stopping)
    assert cli.main(["train", name, "--out", str(folder), *options]) != 0
    assert (folder / "replay").is_dir()
    assert cli.main(["train", name, "--out", str(folder), "--resume", *options]) == 0
    assert equal(weights(request.getfixturevalue(whole)), weights(folder))


def test_control_begins_on_the_truth_and_goes_on_from_there(modular, tmp_path, monkeypatch):
    rows = read_rows(modular / "metrics.jsonl")
    assert [row["step"] for row in rows if row["stage"] == "control"][-1] == 3
    begun = []
    monkeypatch.setattr(grasp, "_runner", lambda config, net, *rest: begun.append(net))
    stages = grasp.plan(grasp_results.load(str(modular)).config, 0)
    stages[1][2]({"control": weights(modular, "control")}, tmp_path)
    assert equal(begun[0].body.state_dict(), weights_of("body", weights(modular, "control")))
    # While Θ̂ alone was learnt, and after: Q on pictures has moved away from there.
    assert not equal(weights_of("body", weights(modular)), begun[0].body.state_dict())


def test_a_bottleneck_is_evaluated_by_its_pictures_and_its_prior_by_the_truth(modular, tmp_path, capsys):
    net = grasp_results.load(str(modular)).net
    assert (type(net).__name__, net.sight) == ("PictureQ", "bottleneck")
    assert cli.main(["evaluate", str(modular), "--episodes", "3", "--json", "-"]) == 0
    early = tmp_path / "early"
    # Another way of seeing begins with the same control.
    more = ["--net.beta", "0.1", "--reuse", str(modular), "--until", "control"]
    assert cli.main(["train", "grasp-modular", "--out", str(early), *MODULAR, *more]) == 0
    assert equal(weights(early, "control"), weights(modular, "control"))
    assert read_rows(early / "metrics.jsonl") == []
    assert type(grasp_results.load(str(early)).net).__name__ == "StateQ"
    assert cli.main(["evaluate", str(early), "--episodes", "3"]) == 0


def test_members_are_trained_apart_and_decide_together(run, tmp_path, capsys):
    folder = tmp_path / "two"
    command = ["train", "grasp-state", "--out", str(folder), *TINY, "--members", "2"]
    assert cli.main([*command, "--reuse", str(run)]) == 0
    first, second = weights(folder), weights(folder, "qtopt-2")
    assert equal(first, weights(run)) and not equal(first, second)
    assert {row["stage"] for row in read_rows(folder / "metrics.jsonl")} == {"qtopt-2"}
    both = grasp_results.load(str(folder))
    alone = [grasp.load_net(both.config.alone, own) for own in (first, second)]
    inputs, action = Inputs(torch.rand(3, 20), torch.rand(3, 7)), torch.rand(3, 5, 8)
    logits = [net.score(net.encode(inputs)[0], action) for net in (both.net, *alone)]
    torch.testing.assert_close(logits[0], (logits[1] + logits[2]) / 2)
    assert cli.main(["evaluate", str(folder), "--episodes", "3"]) == 0
    # What is joined cannot begin what is alone, but what is joined alike.
    again = ["train", "grasp-state", *TINY, "--start", str(folder)]
    assert cli.main([*again, "--out", str(tmp_path / "alone")]) == 2
    assert "members was 2, is 1" in capsys.readouterr().err
    assert cli.main([*again, "--out", str(tmp_path / "again"), "--members", "2"]) == 0


def test_members_that_learn_together_have_one_training(tmp_path):
    folder = tmp_path / "two"
    command = ["train", "grasp-state", *TINY, "--members", "2", "--together", "--out"]
    assert cli.main([*command, str(folder)]) == 0
    assert {row["stage"] for row in read_rows(folder / "metrics.jsonl")} == {"qtopt"}
    trained = grasp_results.load(str(folder))
    assert (trained.config.members, trained.config.together) == (2, True)
    first, second = (dict(net.named_parameters()) for net in trained.net.nets)
    assert not any(torch.equal(first[name], second[name]) for name in first if first[name].ndim > 1)
    assert cli.main(["evaluate", str(folder), "--episodes", "3"]) == 0
    again = tmp_path / "again"
    assert cli.main([*command, str(again), "--start", str(folder), "--run.updates", "0"]) == 0
    assert equal(weights(again), weights(folder))


def test_what_is_shipped_is_half_as_large_and_acts(run, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "shipped_folder", lambda: tmp_path)
    path = ship.ship(str(run))
    assert path == tmp_path / "grasp-state.safetensors"
    for name, value in grasp_results.load(str(path)).net.state_dict().items():
        assert torch.equal(value, weights(run)[name].half().float())
    assert cli.main(["evaluate", str(path), "--episodes", "3"]) == 0


def test_what_is_no_grasping_checkpoint_is_told(run, capsys):
    assert cli.main(["evaluate", "grasp:orakel"]) == 2
    assert "grasp:oracle" in capsys.readouterr().err
    with pytest.raises(checkpoint.CheckpointError, match="reach"):
        grasp_results.load("reach-best")
    assert cli.main(["train", "grasp-state", "--until", "sim"]) == 2
    assert "qtopt" in capsys.readouterr().err


@pytest.mark.parametrize(("rounds", "far"), [(2, 0), (3, 1), (9, 4)])
def test_control_looks_far_ahead_as_long_as_it_has_rounds(rounds, far):
    run = RunConfig(rounds=9, first_rounds=2, far_rounds=4, far_steps=5)
    config = GraspLearning(net=CompactConfig(sight="bottleneck"), prior=PriorConfig(rounds=rounds), run=run)
    control = control_of(config)
    assert (control.run.rounds, control.run.far_rounds) == (rounds, far)
    assert control.run.updates_in(rounds) == (rounds - 2) * config.prior.updates


def test_configurations_that_fit_nothing_are_refused():
    for wrong in ({"prior": PriorConfig(rounds=3)}, {"run": RunConfig(sight_rounds=3)}):
        with pytest.raises(Misuse, match="bottleneck"):
            GraspLearning(**wrong)
    with pytest.raises(Misuse, match="472"):
        GraspLearning(network="paper")
    with pytest.raises(Misuse, match="follow"):
        view = dataclasses.replace(GraspLearning().env.view, camera="shoulder")
        env = dataclasses.replace(GraspLearning().env, view=view)
        GraspLearning(env=env, net=CompactConfig(merge="spatial"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("grasp --env.observe both", "env.observe is chosen by each stage and each evaluation, got 'both'"),
        ("grasp-state --env.world.objects 2", "net.nearest must be in 1 … 2, the objects in a bin, got 3"),
        ("grasp --env.world.step-s 0.08", "grip_s must be less than step_s, 0.08, got 0.08"),
        ("grasp --learn.weight-decay 0.01", "weight_decay says nothing to optimiser=muon, got 0.01"),
        ("grasp-state --learn.muon-rate 0.01", "muon_rate says nothing to optimiser=adamw, got 0.01"),
        ("grasp --net.channels 32", "channels must be 2 or more numbers above 0 with merge=spatial, got (32,)"),
        ("grasp-state --together", "together needs members of 2 or more, got 1: give --no-together"),
        ("grasp --run.off-frames 1", "off_frames must be in [2, 1e+09], got 1"),
    ],
)
def test_options_that_would_do_nothing_or_harm_are_refused(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *options.split()]) == 2
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_so_many_collectors_are_a_training_of_their_own():
    def key(crew):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grasp, "_ray", lambda: SimpleNamespace(join=lambda *_: None))
            return [stage_key(of, 0) for _, of, _ in grasp.plan(GraspLearning(), 0, crew)]

    assert key(None) == key(Crew(1, 4)) != key(Crew(2, 1)) == key(Crew(2, 4))


def test_evaluations_are_in_a_world_like_that_of_training():
    like = BinConfig(objects=3, models=7, step_s=0.2)
    assert world_of("train", like) == like
    many = {"models": HELD_OUT_MODELS, "placements": HELD_OUT_PLACEMENTS}
    assert world_of("heldout", like) == BinConfig(objects=3, step_s=0.2, split="heldout", **many)
    assert world_of("train", world_of("heldout")) == BinConfig()


def test_a_checkpoint_collects_and_is_filmed(run, tmp_path, capsys):
    told = ["--policy", str(run), "--episodes", "3", "--out", str(tmp_path / "store"), "--observe", "both"]
    assert cli.main(["collect", "grasp", *told, "--video", str(tmp_path / "grasps.webp")]) == 0
    first = next(read_episodes(tmp_path / "store"))
    assert {"image", "objects", "pose", "state"} == first.observation.keys() and first.provenance.policy == str(run)
    config = grasp_results.load(str(run)).config.run
    assert first.provenance.weights_step == config.updates * (config.rounds - config.first_rounds) > 0
    assert (tmp_path / "grasps.webp").stat().st_size > 1000
    # Another network of the same name does not go on with it.
    other = shutil.copytree(run, tmp_path / "other")
    more = ["collect", "grasp", "--policy", str(other), "--out", str(tmp_path / "more"), "--episodes"]
    assert cli.main([*more, "1"]) == 0
    final = other / "checkpoints" / "final.safetensors"
    tree = checkpoint.load(final)
    checkpoint.save(final, tree | {"weights": {name: value + 1 for name, value in tree["weights"].items()}})
    assert cli.main([*more, "2"]) == 2
    assert "holds other episodes: config.weights was" in capsys.readouterr().err
    assert cli.main(["collect", "grasp", "--policy", "nobody", "--episodes", "1", "--out", str(tmp_path / "x")]) == 2
    assert "or a checkpoint" in capsys.readouterr().err
