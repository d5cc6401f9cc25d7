from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from handeye import cli, doctor
from handeye.envs import rendering
from handeye.envs.grasping import GraspVectorEnv


def found(findings):
    return {text: (fine, mend) for fine, text, mend in findings}


def one(findings, words):
    """The only finding whose text holds these words."""
    (match,) = [finding for text, finding in found(findings).items() if words in text]
    return match


def test_a_bin_that_works_is_fine():
    checks = list(doctor._bin())
    assert len(checks) == 4 and all(fine for fine, _, _ in checks)
    assert "mujoco-warp" in checks[0][1] and "colours" in checks[2][1]


def test_a_blank_picture_is_found(monkeypatch):
    monkeypatch.setattr(GraspVectorEnv, "picture", lambda env, view: np.full((8, 64, 64, 3), 7, np.uint8))
    fine, mend = one(doctor._bin(), "drawn")
    assert not fine and "handeye[grasp]" in mend


def test_an_error_of_the_physics_is_told_with_the_mend(monkeypatch):
    def fails(threads):
        raise ImportError("libmujoco.so is not there")

    monkeypatch.setattr(doctor, "_small_bin", fails)
    fine, mend = one(doctor._bin(), "libmujoco.so is not there")
    assert not fine and "uninstall" in mend


def test_a_kernel_folder_that_cannot_be_written_is_found(monkeypatch):
    monkeypatch.setattr(rendering, "kernel_folder", lambda: Path("/nowhere/at/all"))
    fine, mend = one(doctor._bin(), "/nowhere/at/all")
    assert not fine and "WARP_CACHE_PATH" in mend


def test_without_the_extra_grasping_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert list(doctor._bin()) == list(doctor._bin_speed()) == []
    assert one(doctor._extras(), "mujoco is not") == (False, 'pip install "handeye[grasp]"')


@pytest.mark.parametrize(("fine", "status"), [(True, 0), (False, 1)])
def test_only_what_keeps_handeye_from_working_fails(monkeypatch, capsys, fine, status):
    for name in ("_essentials", "_speed", "_bin_speed", "_extras"):
        monkeypatch.setattr(doctor, name, lambda name=name: iter([(name == "_essentials", name, f"mend {name}")]))
    monkeypatch.setattr(doctor, "_bin", lambda: iter([(fine, "a bin", "mend it")]))
    assert doctor.examine(Console()) == status
    said = capsys.readouterr().out
    assert "LOOK  _speed\n      → mend _speed" in said and ("→ mend it" in said) == (not fine)


def test_speed_is_told_in_microseconds_and_milliseconds(monkeypatch):
    monkeypatch.setattr(doctor, "seconds", lambda call, at_least_s: 0.008)
    single, every, pictures = list(doctor._bin_speed())
    assert "25 µs a step on one thread" in single[1] and single[0]
    assert "25 µs a step" in every[1]
    assert "1.00 ms for 64×64" in pictures[1] and pictures[0]


def test_doctor_takes_no_arguments(capsys):
    assert cli.main(["doctor", "now"]) == 2
    assert "now" in capsys.readouterr().err
