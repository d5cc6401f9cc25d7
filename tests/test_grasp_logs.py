import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from handeye import checkpoint, cli, collect, grasp, grasp_logs, grasp_results, run
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig
from handeye.envs.rendering import CameraConfig
from handeye.episodes import About, EpisodeWriter, read_column
from handeye.errors import Failure, Misuse
from handeye.grasp_config import GraspLearning, PriorConfig
from handeye.metrics import read_rows
from handeye.qtopt.run_local import RunConfig
from handeye.types import Provenance
from test_grasp import TINY, equal, weights

WORLD = BinConfig(models=2, placements=1)
ENV = GraspConfig(world=WORLD, view=CameraConfig(width_px=16, height_px=16), observe="both", max_steps=6)
SMALL = [*TINY, "--env.view.width-px", "16", "--env.view.height-px", "16", "--run.evaluate-every", "0"]
OFF = ["--run.first-rounds", "1", "--run.no-collect"]
FIELDS = grasp.fields(replace(ENV, observe="image"))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A store of scripted episodes, and one of the oracle's."""
    folder = tmp_path_factory.mktemp("logs")
    for policy in ("scripted", "oracle"):
        collect.collect(f"grasp:{policy}", ENV, 5, 0, folder / policy, Console(quiet=True))
    return [str(folder / policy) for policy in ("scripted", "oracle")]


@pytest.fixture(scope="module")
def off(logs, tmp_path_factory):
    """A training that sees stored episodes alone."""
    folder = tmp_path_factory.mktemp("off") / "run"
    assert cli.main(["train", "grasp-pixels", "--out", str(folder), *SMALL, *OFF, "--logs", *logs]) == 0
    return folder


def frames(folder):
    return int((read_column(folder, "length") + 1).sum())


def test_logs_alone_are_learnt_from(off, logs):
    row = read_rows(off / "metrics.jsonl")[-1]
    assert row["frames"] == sum(map(frames, logs)) and row["on_policy"] == 0
    assert not {"own_success", "given_success"} & row.keys()
    fresh = grasp.new_net(grasp_results.load(str(off)).config).state_dict()
    assert not equal(weights(off), fresh)


def test_what_is_read_is_what_was_stored(logs):
    episodes = list(grasp_logs.read(logs, FIELDS))
    assert len(episodes) == 10 and all(e.observation.keys() == {"image", "state"} for e in episodes)
    stored = read_column(logs[1], "action")
    np.testing.assert_array_equal(np.concatenate([e.action for e in episodes[5:]]), stored)


def test_logs_are_read_once_and_a_stopped_run_goes_on_exactly(off, logs, tmp_path, monkeypatch):
    step, count, folder = grasp.LocalRunner.step, [], tmp_path / "stopped"

    def stopping(self):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(run, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(grasp.LocalRunner, "step", stopping)
    assert cli.main(["train", "grasp-pixels", "--out", str(folder), *SMALL, *OFF, "--logs", *logs]) != 0
    assert cli.main(["train", "grasp-pixels", "--out", str(folder), "--resume"]) == 0
    assert equal(weights(folder), weights(off))


def test_joint_finetuning_starts_from_a_checkpoint(off, logs, tmp_path, monkeypatch):
    folder, begun, make = tmp_path / "joint", [], grasp._runner

    def noted(config, net, *rest):
        begun.append({name: value.clone() for name, value in net.state_dict().items()})
        return make(config, net, *rest)

    monkeypatch.setattr(grasp, "_runner", noted)
    options = [*SMALL, "--run.first-rounds", "1", "--logs", *logs, "--start", str(off), "--run.off-frames", "400"]
    assert cli.main(["train", "grasp-pixels", "--out", str(folder), *options]) == 0
    shipped = checkpoint.load(off / "checkpoints" / "final.safetensors")["weights"]
    assert all(torch.equal(begun[0][name], value.float()) for name, value in shipped.items())
    row = read_rows(folder / "metrics.jsonl")[-1]
    assert row["frames"] > sum(map(frames, logs)) and row["on_policy"] > 0


def refused(capsys, tmp_path, *options, status=2):
    """The one line that a training with these options ends in, before it leaves anything behind."""
    out = tmp_path / "refused"
    assert cli.main(["train", "grasp-pixels", "--out", str(out), *SMALL, *options]) == status
    assert not out.exists()
    return capsys.readouterr().err.splitlines()[-1]


def test_a_checkpoint_that_does_not_fit_is_told(off, capsys, tmp_path):
    assert "net.width was 256, is 8" in refused(capsys, tmp_path, "--start", str(off), "--net.width", "8")
    assert "no final checkpoint of grasping" in refused(capsys, tmp_path, "--start", "reach-best")
    assert "no checkpoint 'nowhere'" in refused(capsys, tmp_path, "--start", "nowhere", status=1)


def test_logs_of_something_else_are_told(logs, capsys, tmp_path):
    told = refused(capsys, tmp_path, "--logs", logs[0], "--env.view.width-px", "24")
    assert f"{logs[0]} holds episodes of another setting: view.width_px was 16, is 24" in told
    wrist = ("--env.view.camera", "wrist", "--net.merge", "late", "--no-both-ways")
    told = refused(capsys, tmp_path, "--logs", logs[0], *wrist)
    assert "view.camera was follow, is wrist" in told
    assert "step_reward was -0.05, is 0.0" in refused(capsys, tmp_path, "--logs", logs[0], "--env.step-reward", "0")
    assert "--run.off-frames" in refused(capsys, tmp_path, "--logs", *logs, "--run.off-frames", "20")
    assert "no manifest.json" in refused(capsys, tmp_path, "--logs", str(tmp_path), status=1)
    assert "give --logs" in refused(capsys, tmp_path, "--run.no-collect")


def test_stores_of_another_world_are_told(logs, tmp_path):
    for name, value in {"step_s": 0.2, "reach_m": 0.1}.items():
        with pytest.raises(Misuse, match=rf"world\.{name} was .*, is {value}"):
            grasp_logs.check(logs, replace(ENV, world=replace(WORLD, **{name: value})), FIELDS, 1000)
    # They may begin otherwise.
    grasp_logs.check(logs, replace(ENV, world=replace(WORLD, objects=3, start_offset_m=0.01)), FIELDS, 1000)
    old = shutil.copytree(logs[0], tmp_path / "old")
    text = (old / "manifest.json").read_text()
    (old / "manifest.json").write_text(text.replace('"world": 1,', '"world": 0,'))
    with pytest.raises(Misuse, match="version 0 of the world, which is 1 by now"):
        grasp_logs.check([str(old)], ENV, FIELDS, 1000)


def test_a_store_must_hold_what_is_learnt_from(logs, tmp_path):
    held_out = replace(ENV, world=replace(WORLD, split="heldout"))
    with pytest.raises(Misuse, match=r"world\.split was train, is heldout"):
        grasp_logs.check(logs, held_out, FIELDS, 1000)
    with pytest.raises(Misuse, match="objects of shape"):
        grasp_logs.check(logs, ENV, {"objects": ((3, 3), np.float32)}, 1000)
    with pytest.raises(Misuse, match="does not hold colour"):
        grasp_logs.check(logs, ENV, {"colour": ((3,), np.float32)}, 1000)
    episode = next(grasp_logs.read(logs, FIELDS))._replace(provenance=Provenance())
    with EpisodeWriter(tmp_path / "mine", About("my-env", "me", {})) as store:
        store.add([episode])
    with pytest.raises(Misuse, match="my-env"):
        grasp_logs.check([str(tmp_path / "mine")], ENV, FIELDS, 1000)


def test_a_store_of_an_older_version_has_what_is_newer_by_default(logs, tmp_path):
    manifest = json.loads((Path(logs[0]) / "manifest.json").read_text())
    del manifest["about"]["config"]["env"]["auto_ascend"], manifest["about"]["config"]["env"]["view"]["renderer"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Failure, match="no episodes yet"):
        grasp_logs.check([str(tmp_path)], ENV, FIELDS, 1000)


def test_a_corrupt_store_is_one_line_that_names_the_file(logs, tmp_path, capsys):
    for name in ("manifest.json", "000000.npz"):
        (tmp_path / name).write_bytes((Path(logs[0]) / name).read_bytes())
    shard = tmp_path / "000000.npz"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 255
    shard.write_bytes(content)
    status = cli.main(["train", "grasp-pixels", "--out", str(tmp_path / "run"), *SMALL, *OFF, "--logs", str(tmp_path)])
    assert status == 1 and f"{shard} is corrupt" in capsys.readouterr().err.splitlines()[-1]


def test_start_and_prior_exclude_each_other():
    config = PriorConfig(rounds=3)
    net = replace(GraspLearning().net, sight="bottleneck")
    with pytest.raises(Misuse, match=r"prior\.rounds=0"):
        GraspLearning(net=net, prior=config, start="somewhere")
    with pytest.raises(Misuse, match="logs"):
        GraspLearning(run=RunConfig(collect=False))
