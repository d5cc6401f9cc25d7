import json

import numpy as np
import pytest
from rich.console import Console

from handeye import cli, grasp_results
from handeye.envs.bin_config import BinConfig
from handeye.envs.objects import FAMILY_NAMES
from handeye.errors import Misuse
from handeye.types import Episode

QUIET = Console(quiet=True)


@pytest.fixture
def small_world(monkeypatch):
    monkeypatch.setattr(
        grasp_results, "world_of", lambda objects, like: BinConfig(split=objects, models=2, placements=1)
    )


def episode(length=3, truncated=False, reward=0.0, **facts):
    flags = ("is_success", "rewarded", "diverged", "closed", "pressed", "paired", "rose", "wedged", "jammed")
    known = dict.fromkeys(flags, False) | {"objects_held": 0, "family": 0} | facts
    rewards = np.array([-0.05] * (length - 1) + [reward], np.float32)
    return Episode(
        {}, np.zeros((length, 8)), rewards, not truncated, truncated, {k: np.array([0, v]) for k, v in known.items()}
    )


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"diverged": True, "closed": True}, "diverged"),
        ({"closed": True, "pressed": True, "rose": True, "wedged": True, "jammed": True}, "wedged"),
        ({"jammed": True}, "jammed"),
        ({}, "stopped too early"),
        ({"truncated": True}, "never closed"),
        ({"closed": True}, "missed"),
        ({"closed": True, "paired": True}, "two objects"),
        ({"closed": True, "pressed": True, "rose": True}, "slipped"),
        ({"closed": True, "pressed": True}, "not lifted"),
        ({"closed": True, "pressed": True, "truncated": True}, "timed out"),
    ],
)
def test_what_an_episode_failed_of(facts, name):
    assert grasp_results.failure(episode(**facts)) == name


def test_figures_by_hand():
    good = episode(4, reward=1.0, is_success=True, rewarded=True, objects_held=2)
    figures = grasp_results.grasp_figures([good, good, episode(2, closed=True), episode(2)])
    assert figures["success"] == figures["label_success"] == 0.5
    assert figures["ci_low"] == pytest.approx(0.150, abs=1e-3) and figures["ci_high"] == pytest.approx(0.850, abs=1e-3)
    assert figures["steps_mean"] == 3
    assert figures["return_mean"] == pytest.approx((2 * 0.85 - 2 * 0.05) / 4)
    assert figures["failures"] == {"missed": 1, "stopped too early": 1} and figures["multi_object"] == 2


def test_shapes_are_counted_by_family():
    mug, block = (FAMILY_NAMES.index(name) for name in ("mug", "block"))
    ended = [episode(family=mug, is_success=True), episode(family=mug, jammed=True), episode(family=block, wedged=True)]
    assert grasp_results.grasp_figures(ended)["shapes"] == {
        "block": {"episodes": 1, "success": 0, "wedged": 1, "jammed": 0},
        "mug": {"episodes": 2, "success": 1, "wedged": 0, "jammed": 1},
    }


def test_errors_of_the_reward_in_use_are_counted():
    said = [(True, True), (True, False), (True, False), (False, True), (False, False)]
    figures = grasp_results.grasp_figures([episode(is_success=good, rewarded=paid) for good, paid in said])
    assert (figures["success"], figures["label_success"]) == (0.6, 0.4)
    assert figures["label_errors"] == {"false_positive": 1, "false_negative": 2}


@pytest.mark.parametrize("name", grasp_results.WORLD_POLICIES)
def test_every_policy_of_the_world_is_evaluated_the_same_twice(small_world, name):
    first, again = (grasp_results.evaluate(name, 4, 3, "heldout", QUIET) for _ in range(2))
    assert first == again
    assert sum(row["episodes"] for row in first["shapes"].values()) == 4
    assert first["episodes"] == 4 and first["objects"] == "heldout" and first["seed"] == 3


def test_a_reward_by_pictures_changes_the_label_and_not_the_truth(small_world):
    truth, pictures = (
        grasp_results.evaluate("grasp:oracle", 4, 3, "heldout", QUIET, reward) for reward in ("truth", "pictures")
    )
    assert truth["success"] == truth["label_success"] == pictures["success"]
    wrong = pictures["label_errors"]
    assert pictures["label_success"] * 4 == truth["success"] * 4 + wrong["false_positive"] - wrong["false_negative"]


def test_the_command_prints_one_json_object(small_world, capsys):
    assert cli.main(["evaluate", "grasp:oracle", "--episodes", "2", "--objects", "train", "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    keys = {"task", "checkpoint", "objects", "episodes", "seed", "success", "ci_low", "ci_high", "steps_mean"}
    assert keys | {"return_mean", "failures", "multi_object", "label_success"} <= figures.keys()


@pytest.mark.parametrize(("name", "episodes"), [("grasp:magic", 5), ("grasp:oracle", 0)])
def test_unknown_policies_and_counts_are_refused(name, episodes):
    with pytest.raises(Misuse):
        grasp_results.evaluate(name, episodes, None, "heldout", QUIET)
