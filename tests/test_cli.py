import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from handeye import checkpoint, pictures, reach, run
from handeye.cli import main
from handeye.envs import camera_domain
from handeye.experiments import EXPERIMENTS
from handeye.metrics import read_rows

TINY = shlex.split("""
    --camera-pictures 20 --env.max-steps 20
    --sim.steps 6 --sim.batch 4 --adapted.steps 4 --adapted.batch 4
    --control.steps 30 --control.environments 4 --control.batch 8 --control.warm-up 20 --control.replay 200
    --finetuned.steps 5 --finetuned.environments 2 --finetuned.task-batch 4 --finetuned.camera-batch 4
    --finetuned.warm-up 8 --finetuned.replay 50
    --naive.steps 5 --naive.environments 2 --naive.task-batch 4 --naive.camera-batch 4
    --naive.warm-up 8 --naive.replay 50
""")

DRIVER = """
import os, signal, sys
from handeye import checkpoint, run
from handeye.cli import main

run.SAVE_EVERY_S = 0.0
stage, step, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
save = checkpoint.save

def interrupted_save(path, tree):
    if tree.get("stage") == stage and tree["step"] == step:
        if how == "SIGKILL":
            os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        elif how == "SIGINT":
            os.kill(os.getpid(), signal.SIGINT)
    save(path, tree)

checkpoint.save = interrupted_save
sys.exit(main(sys.argv[4:]))
"""
"""Saves after every step. In a save of `stage` at `step` it is killed before the new file is in its place."""


def train(out, *options, stage="none", step=0, how="none"):
    command = [sys.executable, "-c", DRIVER, stage, str(step), how, "train", "reach-quick", "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def one_line(capsys):
    """The single line on standard error, with nothing on standard output."""
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    assert err.count("\n") == 1, err
    return err


# A whole training


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("cli") / "whole"
    ended = train(folder, *TINY)
    assert ended.returncode == 0, ended.stderr
    return folder


def final(folder):
    return (folder / "checkpoints" / "final.safetensors").read_bytes()


def test_a_run_killed_while_it_saves_ends_in_the_same_weights(whole, tmp_path):
    out = tmp_path / "killed"
    kills = [("sim", 4), ("control", 20), ("finetuned", 3), ("naive", 2)]
    for number, (stage, step) in enumerate(kills):
        ended = train(out, *TINY, *["--resume"] * (number > 0), stage=stage, step=step, how="SIGKILL")
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert train(out, "--resume").returncode == 0
    assert final(out) == final(whole)
    assert not list(out.rglob("*.partial"))


def test_ctrl_c_saves_and_says_how_to_go_on(whole, tmp_path):
    out = tmp_path / "a folder"
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    ended = train(out, *TINY, "--reuse", str(other), stage="control", step=10, how="SIGINT")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith("handeye: stopped in control at step")]
    command = shlex.split(told[-1].split("to go on: ")[1])
    begun = shlex.split("handeye train reach-quick --seed 0 --out")
    assert command == [*begun, str(out), "--resume", "--reuse", str(other)]
    assert main(command[1:]) == 0
    assert final(out) == final(whole)


def test_a_training_can_end_early_and_go_on_later(whole, tmp_path, capsys):
    out = tmp_path / "early"
    assert main(["train", "reach-quick", "--out", str(out), *TINY, "--until", "sim"]) == 0
    assert main(["evaluate", str(out), "--episodes", "2"]) == 1
    assert "no control network yet" in capsys.readouterr().err.splitlines()[-1]
    assert main(["train", "reach-quick", "--out", str(out), "--resume", "--until", "control"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), "--episodes", "2", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["nets"].keys() == {"initial", "control", "floor"}
    assert main(["train", "reach-quick", "--out", str(out), "--resume"]) == 0
    assert final(out) == final(whole)


def test_reuse_takes_over_what_is_done(whole, tmp_path):
    assert main(["train", "reach-quick", "--out", str(tmp_path / "again"), *TINY, "--reuse", str(whole)]) == 0
    assert final(tmp_path / "again") == final(whole)
    assert read_rows(tmp_path / "again" / "metrics.jsonl") == []


def test_reuse_takes_over_the_stages_of_a_checkpoint(whole, tmp_path, capsys):
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes((whole / "checkpoints" / "final.safetensors").read_bytes())
    assert main(["train", "reach-quick", "--out", str(tmp_path / "again"), *TINY, "--reuse", str(kept)]) == 0
    assert final(tmp_path / "again") == final(whole)
    assert read_rows(tmp_path / "again" / "metrics.jsonl") == []
    capsys.readouterr()
    other = ["--out", str(tmp_path / "other"), *TINY, "--adapted.camera-share", "0.5", "--reuse", str(kept)]
    assert main(["train", "reach-quick", *other, "--until", "control"]) == 0
    said = capsys.readouterr()
    assert [line for line in (said.out + said.err).splitlines() if "taken over" in line] == [
        "sim: taken over", "control: taken over"]  # fmt: skip
    assert {row["stage"] for row in read_rows(tmp_path / "other" / "metrics.jsonl")} == {"adapted"}


def test_fine_tuning_goes_on_from_a_shipped_checkpoint(tmp_path):
    out = tmp_path / "tuned"
    short = shlex.split("--finetuned.steps 1 --finetuned.warm-up 64 --finetuned.camera-batch 4 --until finetuned")
    assert main(["train", "reach-paper", "--out", str(out), *short, "--reuse", "reach-paper"]) == 0
    assert {row["stage"] for row in read_rows(out / "metrics.jsonl")} == {"finetuned"}
    ours = checkpoint.load(out / "checkpoints" / "final.safetensors")["modules"]
    shipped = checkpoint.load(checkpoint.find("reach-paper"))["modules"]
    for module in ("sim", "adapted", "control"):
        assert ours[module].keys() == shipped[module].keys()
        assert all(torch.equal(ours[module][name], value.float()) for name, value in shipped[module].items())


def test_what_holds_no_stages_to_reuse_is_one_line(tmp_path, capsys):
    for reuse, code, told in (
        ("nowhere", 1, "no checkpoint 'nowhere'"),
        ("grasp", 1, "grasp is no final checkpoint of reaching"),
    ):
        assert main(["train", "reach-quick", "--out", str(tmp_path / "new"), "--reuse", reuse]) == code
        assert told in one_line(capsys)
    assert main(["train", "grasp", "--out", str(tmp_path / "new"), "--reuse", "grasp"]) == 2
    assert "to begin from its weights: --start grasp" in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_run_s_folder_can_be_evaluated(whole, tmp_path, capsys):
    assert main(["evaluate", str(whole), "--episodes", "3", "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["nets"].keys() == {"initial", "naive", "finetuned", "control", "floor"}
    assert main(["evaluate", str(whole), "--episodes", "3", "--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text()) == figures
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("finetuned", "d_med_cm", f"{figures['nets']['floor']['d_med_cm']:.3f}"))


def test_a_run_is_resumed_only_as_what_it_was_started(whole, capsys):
    assert main(["train", "reach-quick", "--out", str(whole), "--resume", "--sim.batch", "9"]) == 2
    assert "sim.batch was 4, is 9" in one_line(capsys)
    assert main(["train", "reach-quick", "--out", str(whole), "--resume", "--seed", "5"]) == 2
    assert "seed 0, not reach-quick with seed 5" in one_line(capsys)
    assert main(["train", "reach-best", "--out", str(whole), "--resume"]) == 2
    assert "is a run of reach-quick" in one_line(capsys)


def test_a_full_disk_while_saving_is_one_line_and_the_run_goes_on_later(whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / "full"
    monkeypatch.setattr(run, "SAVE_EVERY_S", 0.0)
    save, saved = checkpoint.write_whole, []

    def filling_up(path, write):
        saved.append(path.name)
        if saved.count("resume.safetensors") == 8:
            monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        save(path, write)

    monkeypatch.setattr(checkpoint, "write_whole", filling_up)
    assert main(["train", "reach-quick", "--out", str(out), *TINY]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("resume.safetensors: No space left on device")
    monkeypatch.undo()
    assert not list(out.rglob("*.partial"))
    assert main(["train", "reach-quick", "--out", str(out), "--resume"]) == 0
    assert final(out) == final(whole)


# Wrong usage: exit status 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian", "no command 'trian'; try train"),
        ("train", "usage: handeye train EXPERIMENT"),
        ("train reach-quik", "no experiment 'reach-quik'; nearest: reach-quick"),
        ("train reach-quick --runner ray", "use --runner local"),
        ("evaluate reach:guide --episodes 0", "--episodes must be in 1 … 100000, got 0"),
        ("evaluate reach:guide --episodes 401", "400 trials, got --episodes 401"),
        ("evaluate reach:guide --objects train", "--objects train says nothing of reach:guide, which is of reach"),
        ("evaluate grasp --domain camera", "--domain camera says nothing of grasp, which is of grasp"),
        ("experiments now", "takes no arguments, got now"),
        ("pictures --out new --pictures 0", "pictures must be in [1, 1e+06], got 0"),
        ("pictures --out new --near-targets 1.5", "near_targets must be in [0, 1], got 1.5"),
        ("report reach-best --out new --grasps 20", "--grasps 20 says nothing of reach-best, which is of reach"),
        ("report grasp --out new --trials 50", "--trials 50 says nothing of grasp, which is of grasp"),
        ("train reach-quick --env.domain camera", "env.domain is chosen by each stage and each evaluation"),
        ("train reach-best --no-still-camera", "still_camera says something to networks=paper only"),
        ("bench nothing", "no benchmark 'nothing'"),
        ("evaluate", "Missing from handeye evaluate"),
        ("evaluate reach:guide --domain moon", "Expected one of ('sim', 'camera')"),
        ("evaluate reach:guide --seed -1", "seed must be in 0 … 4294967295, got -1"),
        ("train reach-quick --seed -1", "seed must be in 0 … 4294967295, got -1"),
        ("train reach-quick --camera-pictures -3", "camera_pictures must be in [1, 1e+06], got -3"),
        ("train reach-quick --finetuned.beta 2", "finetuned: beta must be in [0, 1], got 2.0"),
        ("train reach-quick --sim.steps 0", "sim: steps must be in [1, 1e+08], got 0"),
        ("train reach-quick --env.step-rad nan", "env: step_rad must be in (0, 1], got nan"),
        ("train reach-quick --sim.steps many", "--sim.steps: invalid literal for int() with base 10: 'many'"),
        ("train reach-quick --sim.stepz 3", "--sim.stepz, 3; Perhaps you meant: --sim.steps INT"),
        ("train reach-quick --colour red", "Unrecognized options: --colour, red; For full helptext"),
    ],
)
def test_wrong_usage_is_answered_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    assert message in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_no_command_prints_the_commands():
    assert main([]) == 2
    assert main(["--help"]) == 0


# Failures: exit status 1


def test_an_existing_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "note").write_text("mine")
    assert main(["train", "reach-quick", "--out", str(tmp_path)]) == 1
    assert "exists and is not empty: choose another --out" in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments in (["train", "reach-quick"], ["pictures", "--pictures", "2", "--heldout", "2"]):
        assert main([*arguments, "--out", str(tmp_path / "file" / "run")]) == 1
        assert "cannot" in one_line(capsys)


def test_nothing_to_resume_or_reuse_is_one_line(tmp_path, capsys):
    assert main(["train", "reach-quick", "--out", str(tmp_path), "--resume"]) == 1
    assert "nothing to resume" in one_line(capsys)
    assert main(["train", "reach-quick", "--out", str(tmp_path / "new"), "--reuse", str(tmp_path)]) == 1
    assert "nothing to reuse" in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_that_cannot_be_used_are_one_line(tmp_path, capsys):
    (tmp_path / "corrupt").write_bytes(b"x" * 100)
    save_file({"w": torch.ones(1)}, tmp_path / "foreign")
    checkpoint.save(tmp_path / "other", {"task": "other"})
    checkpoint.save(tmp_path / "old", {"task": "reach", "config": {}})
    for name, message in [
        ("none", "no checkpoint"),
        ("corrupt", "corrupt or not a safetensors file"),
        ("foreign", "not a handeye checkpoint"),
        ("other", "no reaching checkpoint (its task: other)"),
        ("old", "does not fit this version"),
    ]:
        assert main(["evaluate", str(tmp_path / name), "--episodes", "2"]) == 1
        assert message in one_line(capsys)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert main(["evaluate", str(tmp_path / "run")]) == 1
    assert "resume the run with --resume" in one_line(capsys)


def test_a_bad_picture_folder_is_told_row_by_row_before_any_training(tmp_path, capsys):
    pictures.write(tmp_path / "own", *camera_domain.labelled(3, 0, label_noise=False))
    (tmp_path / "own" / "images" / "000000.png").unlink()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "own" / "images" / "000002.png")
    assert main(["train", "reach-quick", "--real", str(tmp_path / "own"), "--out", str(tmp_path / "run")]) == 1
    err = capsys.readouterr().err
    assert "has 2 problems" in err and "row 2: images/000000.png" in err and "row 4: 000002.png is 9×9" in err
    assert not (tmp_path / "run").exists()


def test_figures_go_to_a_pipe_as_to_a_file(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    with os.fdopen(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)) as other_end:
        assert main(["evaluate", "reach:guide", "--episodes", "2", "--json", str(tmp_path / "pipe")]) == 0
        assert json.load(other_end)["episodes"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"] and (tmp_path / "pipe").is_fifo()


def test_a_run_that_is_called_like_a_shipped_one_is_not_taken_for_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "reach-quick", "--out", "reach-quick", *TINY, "--until", "control"]) == 0
    assert "next: handeye evaluate reach-quick " in capsys.readouterr().err
    Path("reach-quick").rename("reach-best")
    assert main(["evaluate", "reach-best"]) == 1
    assert "reach-best is here, and shipped as well: say ./reach-best for what is here" in one_line(capsys)
    assert main(["evaluate", "./reach-best", "--episodes", "3", "--json", "j", "--video", "v.webp"]) == 0
    assert set(json.loads(Path("j").read_text())["nets"]) == {"initial", "control", "floor"}
    assert Path("v.webp").stat().st_size > 0


def test_without_what_grasping_needs_reaching_works_and_the_rest_says_what_is_missing():
    program = "import sys; sys.modules['mujoco'] = None; import handeye; from handeye.cli import main; "
    program += "handeye.load_policy('reach-best'); sys.exit(main(['evaluate', 'grasp']) + main(['probe']))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    line = 'handeye: mujoco is not installed: pip install "handeye[grasp]"\n'
    assert (ended.returncode, ended.stderr) == (2, 2 * line)


def test_figures_that_cannot_be_written_are_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = ["evaluate", "reach:random", "--episodes", "2", "--json", str(tmp_path / "file" / "f.json")]
    assert main(arguments) == 1
    assert "cannot write" in one_line(capsys)


def test_too_little_memory_is_one_line_and_a_defect_of_ours_is_not_hidden(monkeypatch, capsys):
    def fail(error):
        def evaluate(*_):
            raise error

        monkeypatch.setattr("handeye.reach_results.evaluate", evaluate)
        return main(["evaluate", "reach:guide"])

    assert fail(MemoryError()) == 1
    assert "not enough memory" in one_line(capsys)
    assert fail(KeyboardInterrupt()) == 1
    assert one_line(capsys) == "interrupted\n"
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())


# What works


def test_json_on_standard_output_is_one_object_and_nothing_else(capsys):
    assert main(["evaluate", "reach:guide", "--episodes", "3", "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["task"] == "reach" and figures["episodes"] == 3 and figures["seed"] is None
    assert {"d_med_cm", "d_q3_cm", "d_med_px", "d_q3_px", "closest_med_cm", "mean_return", "success", "steps_mean"} <= (
        figures["nets"]["guide"].keys()
    )


def test_a_seed_draws_other_trials(capsys):
    def figures(*seed):
        assert main(["evaluate", "reach:random", "--episodes", "3", "--json", "-", *seed]) == 0
        return json.loads(capsys.readouterr().out)["nets"]

    assert figures("--seed", "1") == figures("--seed", "1") != figures("--seed", "2") != figures()


def test_experiments_lists_every_name_with_its_cost(capsys):
    assert main(["experiments"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in EXPERIMENTS)


def test_pictures_writes_training_and_held_out_folders(tmp_path, capsys):
    out = tmp_path / "camera"
    assert main(["pictures", "--out", str(out), "--pictures", "5", "--heldout", "3"]) == 0
    assert "5 training and 3 held-out pictures" in one_line(capsys)
    assert (pictures.read(out / "train")[0] == camera_domain.labelled(5, 1, label_noise=True)[0]).all()
    assert (pictures.read(out / "heldout")[0] == camera_domain.labelled(3, 2, label_noise=False)[0]).all()
    (out / "train").rename(tmp_path / "elsewhere")
    assert main(["pictures", "--out", str(out), "--pictures", "5"]) == 1
    assert "heldout exists already" in one_line(capsys)
    assert not (out / "train").exists()


def test_the_pictures_of_an_experiment_can_be_written(tmp_path):
    config = EXPERIMENTS["reach-paper"].config
    share = ["--near-targets", str(config.near_targets)]
    assert main(["pictures", "--out", str(tmp_path / "camera"), "--pictures", "40", "--heldout", "3", *share]) == 0
    own = reach.second_camera(replace(config, camera_pictures=40)).pictures
    assert (pictures.read(tmp_path / "camera" / "train")[0] == own).all()


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "handeye.cli", "nonsense"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and "no command 'nonsense'" in done.stderr


def test_what_a_benchmark_notes_is_told_in_full(monkeypatch, capsys):
    row = {"name": "one", "value": 1.5, "unit": "steps/s", "floor": 3.0, "peer": None, "peer_value": None}
    monkeypatch.setattr(
        "handeye.bench.run_benchmarks", lambda names, console: [row | {"note": "of [2] states at once"}]
    )
    assert main(["bench", "cem-paper"]) == 0
    out = capsys.readouterr().out
    assert "one: of [2] states at once\n" in out and "steps/s" in out
