import json
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from handeye import cli, collect, episodes, grasp_results
from handeye.cli.options import MOST_SEEDS
from handeye.collect import find_policy, seed_of
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig
from handeye.envs.rendering import CameraConfig
from handeye.episodes import read_column, read_episodes, read_manifest
from handeye.errors import Failure, Misuse
from test_episodes import same

QUIET = Console(quiet=True)
WORLD = BinConfig(models=2, placements=1)
CONFIG = GraspConfig(world=WORLD, observe="objects")

DRIVER = """
import os, signal, sys
from handeye import cli, episodes, grasp_results
from handeye.envs.bin_config import BinConfig

grasp_results.world_of = lambda objects, like: BinConfig(models=2, placements=1)
grasp_results.WORLDS = 2
episodes.SHARD_EPISODES = 2
replace = os.replace

def killed_at_the_third_shard(source, target):
    if target.name == "000002.npz":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = killed_at_the_third_shard
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(
        grasp_results, "world_of", lambda objects, like: BinConfig(split=objects, models=2, placements=1)
    )
    monkeypatch.setattr(grasp_results, "WORLDS", 3)


@pytest.fixture(scope="module")
def whole():
    """Seven scripted episodes that nothing interrupted."""
    seeds = range(seed_of(3, 0), seed_of(3, 7))
    return list(grasp_results.play("grasp:scripted", CONFIG, seeds))


def command(out, *more, count=7):
    arguments = ["collect", "grasp", "--policy", "scripted", "--observe", "objects", "--seed", "3"]
    return [*arguments, "--episodes", str(count), "--out", str(out), *more]


def holds(folder, expected):
    back = list(read_episodes(folder))
    return len(back) == len(expected) and all(map(same, back, expected))


# The same episodes, whatever happens on the way


def test_a_collection_is_told_and_can_be_extended(whole, tmp_path, monkeypatch, capsys):
    assert cli.main(command(tmp_path, count=4)) == 0
    assert holds(tmp_path, whole[:4])
    monkeypatch.setattr(grasp_results, "WORLDS", 2)
    assert cli.main(command(tmp_path)) == 0
    assert holds(tmp_path, whole)
    told = capsys.readouterr().err
    assert f"7 episodes, {sum(len(e.reward) for e in whole)} transitions" in told and "next: python -c" in told
    before = sorted(path.name for path in tmp_path.iterdir())
    assert cli.main(command(tmp_path)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_killed_while_writing_it_is_readable_and_goes_on(whole, tmp_path):
    arguments = [sys.executable, "-c", DRIVER, *command(tmp_path)]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=200)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(tmp_path.glob(".*.partial")) and holds(tmp_path, whole[:4])
    assert cli.main(command(tmp_path)) == 0
    assert holds(tmp_path, whole) and not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_saves_and_says_how_to_go_on(whole, tmp_path, monkeypatch, capsys, number):
    def interrupted(*arguments, **more):
        for count, episode in enumerate(play(*arguments, **more)):
            if count == 2:
                signal.raise_signal(number)
            yield episode

    play, out = grasp_results.play, tmp_path / "a folder"
    with monkeypatch.context() as patch:
        patch.setattr(grasp_results, "play", interrupted)
        assert cli.main(command(out)) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("handeye: stopped at episode 3 of 7; to go on: ")
    assert holds(out, whole[:3])
    assert cli.main(shlex.split(told.split("to go on: ")[1])[1:]) == 0
    assert holds(out, whole)


def test_an_episode_begins_as_its_seed_says(whole):
    env = grasp_results.GraspVectorEnv(1, CONFIG, "disabled")
    observation, _ = env.reset(seed=whole[5].provenance.seed)
    for step, action in enumerate(whole[5].action):
        assert all((observation[name][0] == seen[step]).all() for name, seen in whole[5].observation.items())
        observation = env.step(action[None])[0]


@pytest.mark.parametrize("name", grasp_results.WORLD_POLICIES)
def test_episodes_are_the_same_in_any_number_of_bins(name, monkeypatch):
    view = CameraConfig(width_px=16, height_px=16, randomise="strong")
    seeing, played = GraspConfig(world=WORLD, view=view, observe="both"), []
    for worlds in (1, 4):
        monkeypatch.setattr(grasp_results, "WORLDS", worlds)
        played.append(list(grasp_results.play(name, seeing, range(6))))
    assert all(map(same, *played))


def test_noise_is_the_same_in_any_number_of_bins_and_as_much_as_asked(monkeypatch):
    played = []
    for worlds in (1, 4):
        monkeypatch.setattr(grasp_results, "WORLDS", worlds)
        played.append(list(grasp_results.play("grasp:oracle", CONFIG, range(6), noise=0.5)))
    assert all(map(same, *played))
    quiet = list(grasp_results.play("grasp:oracle", CONFIG, range(6)))
    begin = np.array([(one.action[0] != other.action[0]).any() for one, other in zip(played[0], quiet, strict=True)])
    assert 1 <= begin.sum() <= 5


# What a store says


def test_the_manifest_says_what_decided_the_episodes(tmp_path):
    collect.collect("grasp:oracle", CONFIG, 2, 5, tmp_path, QUIET)
    about = read_manifest(tmp_path).about
    assert (about.environment, about.policy, about.config["seed"]) == ("handeye/Grasp-v0", "grasp:oracle", 5)
    assert about.config["env"]["world"]["models"] == 2 and about.config["env"]["max_steps"] == 20
    assert next(read_episodes(tmp_path)).provenance == (seed_of(5, 0), 0, "handeye/Grasp-v0", "grasp:oracle")
    assert read_column(tmp_path, "action").dtype == np.float32


def test_seeds_of_collections_and_evaluations_never_meet():
    evaluated = grasp_results.protocol_seeds(MOST_SEEDS - 1, grasp_results.MOST_EPISODES)
    assert evaluated[-1] < seed_of(0, 0) and seed_of(0, grasp_results.MOST_EPISODES) == seed_of(1, 0)
    assert seed_of(MOST_SEEDS - 1, grasp_results.MOST_EPISODES) < 2**63


def test_a_simulation_that_diverged_is_left_out_and_replaced(whole, tmp_path, monkeypatch):
    def broken(*arguments, **more):
        for episode in play(*arguments, **more):
            lost = episode.provenance.seed in (seed_of(3, 1), seed_of(3, 5))
            yield episode._replace(facts=episode.facts | {"diverged": np.full(len(episode.reward) + 1, lost)})

    play = grasp_results.play
    monkeypatch.setattr(grasp_results, "play", broken)
    for count in (3, 5):
        collect.collect("grasp:scripted", CONFIG, count, 3, tmp_path, QUIET)
    assert holds(tmp_path, [whole[k] for k in (0, 2, 3, 4, 6)])
    monkeypatch.setattr(
        grasp_results, "play", lambda *a, **more: (e._replace(facts={"diverged": np.ones(2)}) for e in whole)
    )
    with pytest.raises(Failure, match="all 2 simulations diverged"):
        collect.collect("grasp:scripted", CONFIG, 7, 3, tmp_path, QUIET)


def test_pictures_and_video(tmp_path, monkeypatch):
    video = tmp_path / "v.webp"
    arguments = [
        "collect",
        "grasp",
        "--policy",
        "oracle",
        "--episodes",
        "2",
        "--camera",
        "wrist",
        "--objects",
        "heldout",
    ]
    assert cli.main([*arguments, "--out", str(tmp_path / "s"), "--video", str(video)]) == 0
    assert read_column(tmp_path / "s", "observation/image").shape[1:] == (64, 64, 3)
    assert read_manifest(tmp_path / "s").about.config["env"]["view"]["camera"] == "wrist"
    lengths = read_column(tmp_path / "s", "length")
    with Image.open(video) as image:
        assert image.n_frames == lengths.max() + 1


# Wrong usage and failures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("grap --policy oracle --episodes 2", "nothing to collect from 'grap'; valid: grasp"),
        (
            "grasp --policy magic --episodes 2",
            "no policy 'magic' to collect with; valid: random, scripted, oracle, or a checkpoint",
        ),
        ("grasp --policy oracle --episodes 0", "--episodes must be in 1 … 1000000, got 0"),
        ("grasp --policy oracle --episodes 2 --video v.avi", "a video must end in .gif, .webp, .mp4, got 'v.avi'"),
    ],
)
def test_wrong_usage_is_one_line_before_anything_is_made(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["collect", *arguments.split(), "--out", "store"]) == 2
    assert capsys.readouterr().err == f"handeye: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_continued_only_as_what_it_was_begun(tmp_path, capsys):
    assert cli.main(command(tmp_path, count=1)) == 0
    for options, message in (
        (["--seed", "4"], "config.seed was 3, is 4"),
        (["--camera", "wrist"], "config.env.view.camera was follow, is wrist"),
        (["--noise", "0.2"], "config.noise was"),
        (["--policy", "oracle"], "policy was grasp:scripted, is grasp:oracle"),
    ):
        capsys.readouterr()
        assert cli.main(command(tmp_path, *options)) == 2
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1
    assert len(list(read_episodes(tmp_path))) == 1


def test_a_corrupt_store_is_told_in_one_line(tmp_path, capsys):
    assert cli.main(command(tmp_path, count=1)) == 0
    (tmp_path / "000000.npz").write_bytes(b"nothing of ours")
    capsys.readouterr()
    assert cli.main(command(tmp_path)) == 1
    told = capsys.readouterr().err
    assert "000000.npz is corrupt" in told and "Traceback" not in told


def test_both_names_of_a_policy_are_known():
    assert find_policy("grasp", "oracle") == find_policy("grasp", "grasp:oracle") == "grasp:oracle"
    with pytest.raises(Misuse, match="valid: random, scripted, oracle, or a checkpoint"):
        find_policy("grasp", "reach:guide")


def test_figures_by_hand(tmp_path, whole):
    about = episodes.About("e", "p", {})
    success = [0, 1, 0, 0]
    with episodes.EpisodeWriter(tmp_path, about) as store:
        for good, episode in zip(success, whole, strict=False):
            facts = {"is_success": np.array([0] * len(episode.reward) + [good])}
            store.add(
                [episode._replace(facts=facts, provenance=episode.provenance._replace(environment="", policy=""))]
            )
    found = collect.figures(tmp_path)
    assert (found["episodes"], found["success"]) == (4, 0.25)
    assert found["transitions"] == sum(len(e.reward) for e in whole[:4])
    assert found["ci_low"] == pytest.approx(0.0456, abs=1e-3) and found["ci_high"] == pytest.approx(0.6994, abs=1e-3)
    assert found["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "manifest.json").read_text())["version"] == 1
