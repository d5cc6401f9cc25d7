import contextlib
import io
import json
import os
import signal

import numpy as np
import pytest
from rich.console import Console

from handeye import checkpoint, run
from handeye.errors import Failure
from handeye.experiments import EXPERIMENTS
from handeye.metrics import read_rows
from handeye.run import Interrupted, RunError, run_stages

QUIET = Console(file=io.StringIO())


class Adding:
    """A stage that adds up random numbers, and may do something at one of its steps."""

    def __init__(self, start=0.0, steps=6, at=None, do=lambda: None):
        self.steps, self.done, self.total, self.at, self.do = steps, 0, start, at, do
        self.rng = np.random.default_rng(0)

    def step(self):
        if self.done == self.at:
            self.do()
        self.total += self.rng.random()
        self.done += 1
        return {"total": self.total}

    def state(self):
        return {"done": self.done, "total": self.total, "rng": self.rng.bit_generator.state}

    def load_state(self, state):
        self.done, self.total, self.rng.bit_generator.state = state["done"], state["total"], state["rng"]

    def result(self):
        return {"total": np.array(self.total)}


def plan(second="config", **event):
    return [
        ("one", "config", lambda results, folder: Adding()),
        ("two", second, lambda results, folder: Adding(float(results["one"]["total"]), **event)),
    ]


@pytest.fixture
def folder(tmp_path):
    return run.create_folder("toy", 0, str(tmp_path / "run"))


@pytest.fixture
def whole(tmp_path):
    return run_stages(run.create_folder("toy", 0, str(tmp_path / "whole")), plan(), 0, QUIET)


def crash():
    raise ZeroDivisionError


def names(folder):
    return sorted(path.stem for path in (folder / "checkpoints").iterdir())


def test_stages_run_in_order_and_hand_on_their_results(folder, whole):
    assert whole["two"]["total"] > whole["one"]["total"] > 0
    run_stages(folder, plan(), 0, QUIET)
    assert names(folder) == ["one", "two"]
    assert {row["stage"]: row["step"] for row in read_rows(folder / "metrics.jsonl")} == {"one": 6, "two": 6}


def test_a_crash_between_saves_resumes_to_the_same_result(folder, whole, monkeypatch):
    monkeypatch.setattr(run, "SAVE_EVERY_S", 0.0)
    with pytest.raises(ZeroDivisionError):
        run_stages(folder, plan(at=4, do=crash), 0, QUIET)
    assert checkpoint.load(folder / "checkpoints" / "resume.safetensors")["step"] == 4
    assert run_stages(folder, plan(), 0, QUIET) == whole
    assert names(folder) == ["one", "two"]


def test_a_crash_before_any_save_starts_the_stage_again(folder, whole):
    with pytest.raises(ZeroDivisionError):
        run_stages(folder, plan(at=4, do=crash), 0, QUIET)
    assert names(folder) == ["one"]
    assert run_stages(folder, plan(), 0, QUIET) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_saves_and_resumes_to_the_same_result(folder, whole, number):
    with pytest.raises(Interrupted, match="stopped in two at step 3 of 6"):
        run_stages(folder, plan(at=2, do=lambda: os.kill(os.getpid(), number)), 0, QUIET)
    assert run_stages(folder, plan(), 0, QUIET) == whole


def test_a_request_to_stop_at_the_last_step_is_not_lost(folder, whole):
    stops = plan()
    stops[0] = ("one", "config", lambda results, folder: Adding(at=5, do=lambda: os.kill(os.getpid(), signal.SIGINT)))
    with pytest.raises(Interrupted, match="stopped in two at step 1"):
        run_stages(folder, stops, 0, QUIET)
    assert run_stages(folder, plan(), 0, QUIET) == whole


def test_a_second_ctrl_c_stops_at_once_and_handlers_are_put_back(folder):
    before = signal.getsignal(signal.SIGINT)

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_stages(folder, plan(at=2, do=twice), 0, QUIET)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_killed_save_left_behind_is_swept_up(folder):
    (folder / "checkpoints" / ".resume.safetensors.99.partial").write_bytes(b"half")
    run_stages(folder, plan(), 0, QUIET)
    assert names(folder) == ["one", "two"]


def test_finished_stages_are_reused_where_configuration_and_seed_are_the_same(tmp_path, whole):
    def reused(number, stages, seed):
        folder = run.create_folder("toy", seed, str(tmp_path / number))
        trained = run_stages(folder, stages, seed, QUIET, reuse=run.finished_in(tmp_path / "whole"))
        return trained, [row["stage"] for row in read_rows(folder / "metrics.jsonl")]

    assert reused("a", plan(), 0) == (whole, [])
    assert reused("b", plan(second="other"), 0)[1] == ["two"]
    assert reused("c", plan(), 1)[1] == ["one", "two"]


@pytest.mark.parametrize("stopped_at", [2, None])
def test_a_run_does_not_go_on_from_what_was_made_otherwise(folder, stopped_at):
    stop = {} if stopped_at is None else {"at": stopped_at, "do": lambda: os.kill(os.getpid(), signal.SIGINT)}
    with contextlib.suppress(Interrupted):
        run_stages(folder, plan(**stop), 0, QUIET)
    before = names(folder)
    with pytest.raises(RunError, match=f"{before[-1]}.safetensors was made with other data, settings or"):
        run_stages(folder, plan(second="other"), 0, QUIET)
    assert names(folder) == before


@pytest.mark.parametrize(
    "error", [RuntimeError("Error(s) in loading state_dict:\n\tMissing key(s)"), KeyError("state_dict: Missing key")]
)
def test_weights_of_another_version_are_refused_in_one_line(folder, error):
    def begin(results, folder):
        raise error

    with pytest.raises(RunError, match=r"two cannot begin.*version.*state_dict: Missing key.*without --reuse$"):
        run_stages(folder, [*plan()[:1], ("two", "config", begin)], 0, QUIET)
    assert (folder / "checkpoints" / "one.safetensors").is_file()

    def fail(results, folder):
        raise Failure("its own words")

    with pytest.raises(Failure, match=r"^its own words$"):
        run_stages(folder, [*plan()[:1], ("two", "config", fail)], 0, QUIET)


def test_config_json_says_what_ran_on_what(folder):
    run.write_config(folder, "reach-quick", 3, EXPERIMENTS["reach-quick"].config)
    written = json.loads((folder / "config.json").read_text())
    assert written == run.read_config(folder)
    assert (written["experiment"], written["seed"]) == ("reach-quick", 3)
    assert written["config"]["finetuned"]["beta"] == 0.8
    assert {"handeye", "torch", "numpy", "python"} <= written["versions"].keys()
    assert "git" in written


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(RunError, match="exists and is not empty"):
        run.create_folder("toy", 0, str(tmp_path))
    with pytest.raises(RunError, match="exists and is not empty"):
        run.create_folder("toy", 0, str(tmp_path / "note"))
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_folder_that_cannot_be_made_is_a_failure(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the run folder"):
        run.create_folder("toy", 0, str(tmp_path / "file" / "run"))


def test_runs_go_to_a_folder_of_their_experiment_and_the_newest_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run.create_folder("toy", 7, None)
    assert made.parent.as_posix() == "runs/toy" and made.name.endswith("-seed7")
    (made.parent / "29990101-000000-seed7").mkdir()
    (made.parent / "29990101-000000-seed8").mkdir()
    assert run.find_folder("toy", 7, None).name == "29990101-000000-seed7"
    with pytest.raises(RunError, match=r"nothing to resume at runs/toy/\*-seed9"):
        run.find_folder("toy", 9, None)


@pytest.mark.parametrize("content", [None, "{", "3", "[1]", b"\xff"])
def test_a_folder_without_a_readable_configuration_is_no_run(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Failure, match="not a run's folder"):
        run.read_config(tmp_path)


def test_a_stage_that_diverges_stops_and_keeps_what_was_finished(folder):
    broken = [plan()[0], ("two", "config", lambda results, folder: Adding(float("nan")))]
    with pytest.raises(RunError, match=r"two diverged at step 1: total is no number; lower its learning rate"):
        run_stages(folder, broken, 0, QUIET)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["one.safetensors"]
