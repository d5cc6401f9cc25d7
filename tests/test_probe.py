import json

import pytest

from handeye import cli, probe
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig


@pytest.fixture(scope="module")
def rows():
    return probe.moves(GraspConfig())


def test_every_move_is_tried_free_and_near_the_floor_open_and_closed(rows):
    assert len({(row["where"], row["fingers"], row["axis"], row["sent"] > 0) for row in rows}) == len(rows) == 32
    assert {abs(row["sent"]) for row in rows if row["axis"] == "yaw"} == {GraspConfig.turn_rad}


def test_a_move_goes_in_the_end_as_far_as_it_was_allowed_and_lags_within_its_step(rows):
    for row in rows:
        assert row["end"] == pytest.approx(row["allowed"], abs=2e-3)
        assert 0.8 * abs(row["allowed"]) < abs(row["step"]) < abs(row["allowed"]) + 1e-3
        assert row["astray"] < 5e-3


def test_only_a_descent_near_the_floor_is_shortened(rows):
    short = [row for row in rows if row["allowed"] != pytest.approx(row["sent"])]
    assert {(row["where"], row["axis"], row["sent"] < 0) for row in short} == {("floor", "z", True)}
    assert short[0]["allowed"] == pytest.approx(BinConfig.lowest_m - probe.PLACES_M["floor"])


def test_heights_rise_from_the_lowest_to_the_highest_and_follow_the_configuration():
    heights = probe.heights_m(GraspConfig(world=BinConfig(highest_m=0.3), stop_height_m=0.14))
    assert heights["highest (fingertips)"] == max(heights.values()) == 0.3
    assert heights["lowest (fingertips)"] == min(heights.values())
    assert heights["stop"] == 0.14


def test_the_command_prints_tables_or_one_json_object(capsys):
    assert cli.main(["probe", "--json", "-"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {"heights_m", "moves"} and len(figures["moves"]) == 32
    assert cli.main(["probe"]) == 0
    assert "tray walls" in capsys.readouterr().out
