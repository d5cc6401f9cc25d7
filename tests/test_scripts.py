"""Every command of the scripts in results/ is one that the program takes, and tables say what was measured."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from handeye import cli, reach

ROOT = Path(__file__).parents[1]
STUB = """#!/usr/bin/env python3
import json, os, pathlib, sys
words = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with open(os.environ["HEARD"], "a") as file:
    file.write(json.dumps(words) + "\\n")
if words[1] == "train":
    folder = pathlib.Path(words[words.index("--out") + 1])
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").touch()
"""


def heard(script, folder):
    """The commands that a script gives, without carrying them out."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("handeye", "python"):
        (tools / name).write_text(STUB)
        (tools / name).chmod(0o755)
    (folder / "results").mkdir()
    surroundings = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "HEARD": str(folder / "heard")}
    command = ["bash", str(script), str(folder / "runs"), str(folder / "results")]
    ended = subprocess.run(command, env=surroundings, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in (folder / "heard").read_text().splitlines()]


@pytest.mark.parametrize("study", ["reach", "grasp"])
def test_every_command_of_a_study_is_understood(study, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr("handeye.train.train", lambda *given: trained.append(given) or given[2].out)
    monkeypatch.setattr("handeye.collect.command", lambda *given: None)
    monkeypatch.setattr("handeye.run.task_of", lambda name: study)
    monkeypatch.setattr("handeye.report.write_report", lambda *given: "")
    monkeypatch.setattr("handeye.grasp_report.write_report", lambda *given: "")
    monkeypatch.setattr("handeye.checkpoint.task_of", lambda name: study)
    monkeypatch.setattr(cli, "_evaluate_grasping", lambda options: 0)
    for program, *words in heard(ROOT / "results" / study / "run.sh", tmp_path):
        if program == "python":
            assert words[0] == "-c" or (ROOT / words[0]).is_file(), words
        else:
            assert cli.main(words) == 0, words
    assert len(trained) > 10 and len({str(given[2].out) for given in trained}) == len(trained)
    stages = {"reach": reach.STAGES, "grasp": ("qtopt",)}[study]
    assert all(options.until in ("", *stages) for _, _, options, _ in trained)
    # No training is run twice.
    assert len({(name, options.seed, repr(config)) for name, config, options, _ in trained}) == len(trained)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_imports(path, monkeypatch):
    for name in (
        "stable_baselines3",
        "stable_baselines3.common",
        "stable_baselines3.common.callbacks",
        "stable_baselines3.common.vec_env",
    ):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    runpy.run_path(str(path))


def test_tables_of_reaching_say_what_was_measured():
    pages = runpy.run_path(str(ROOT / "benchmarks" / "reach_tables.py"))["pages"]()
    assert len(pages) == 4
    for path, text in pages.items():
        assert path.read_text() == text, f"{path.name}: run python benchmarks/reach_tables.py"


def test_the_page_about_your_own_robot_holds(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "your-own-robot.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    short = code.replace("rounds=80", "rounds=30")
    assert short != code
    monkeypatch.chdir(tmp_path)
    told: dict = {}
    exec(compile(short, "your-own-robot.md", "exec"), told)
    assert float(capsys.readouterr().out.split(":")[1]) > 0.5
    assert (tmp_path / "runs" / "pucks" / "metrics.jsonl").stat().st_size
    rng = np.random.default_rng(0)
    pictures, states = rng.integers(256, size=(10, 64, 64, 3), dtype=np.uint8), rng.random((10, 3), np.float32)
    actions = np.zeros((9, 8), np.float32)
    told["store_grasps"]("mine", [(pictures, states, actions, success) for success in (True, False)])
    short = ["--run.no-collect", "--run.first-rounds", "1", "--run.rounds", "2", "--run.updates", "2"]
    assert cli.main(["train", "grasp", "--logs", "mine", *short, "--run.evaluate-every", "0", "--out", "run"]) == 0
