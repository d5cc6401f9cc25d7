from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import handeye
from handeye import checkpoint, planar_arm, reach, reach_results, ship
from handeye.checkpoint import CheckpointError
from handeye.envs.reaching import PlanarReachEnv, PlanarReachVectorEnv
from handeye.errors import Failure, Misuse
from tiny_runs import SHORT, untrained


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("reach") / "final.safetensors"
    checkpoint.save(path, reach.final_checkpoint(SHORT, "reach-quick", 0, untrained("paper", 0)))
    return str(path)


# The fixed protocol


def test_the_stored_trials_are_400_reachable_pairs_within_the_task():
    trials = reach_results.stored_trials()
    joints, target, goal = trials["joints_rad"], trials["target_m"], trials["goal_joints_rad"]
    assert joints.shape == goal.shape == (400, 3) and target.shape == (400, 2)
    assert_allclose(planar_arm.hand(goal), target, atol=1e-6)
    for poses in (joints, goal):
        assert ((poses >= planar_arm.LOWER_RAD) & (poses <= planar_arm.UPPER_RAD)).all()
    assert ((target >= planar_arm.TARGET_LOW_M) & (target <= planar_arm.TARGET_HIGH_M)).all()
    assert len(np.unique(target, axis=0)) == 400


def test_fewer_episodes_are_the_first_trials_and_a_seed_draws_fresh_ones():
    first = reach_results.choose_trials(20, None)
    assert all((value == reach_results.stored_trials()[name][:20]).all() for name, value in first.items())
    fresh, again = reach_results.choose_trials(500, 3), reach_results.choose_trials(500, 3)
    assert len(fresh["target_m"]) == 500
    assert all((fresh[name] == again[name]).all() for name in fresh)
    assert_allclose(planar_arm.hand(fresh["goal_joints_rad"]), fresh["target_m"])


@pytest.mark.parametrize(("episodes", "seed"), [(0, None), (-1, 5), (401, None), (10**9, 1)])
def test_impossible_numbers_of_trials_are_refused(episodes, seed):
    with pytest.raises(Misuse, match=rf"--episodes.*{episodes}|{episodes}.*--episodes"):
        reach_results.choose_trials(episodes, seed)


# Checkpoints


@pytest.mark.parametrize("kind", ["paper", "keypoints"])
def test_a_final_checkpoint_acts_as_what_was_trained(tmp_path, kind):
    config = replace(SHORT, networks=kind)
    results = untrained(kind, 0)
    checkpoint.save(tmp_path / "c", reach.final_checkpoint(config, "x", 0, results))
    loaded = reach_results.load_nets("c", checkpoint.load(tmp_path / "c"))
    assert loaded.config == config
    control = reach.new_control(kind)
    control.load_state_dict(results["control"])
    theta = torch.rand(50, 5)
    assert_allclose(loaded.nets["control"][1](theta), control(theta).detach(), atol=1e-6)
    for name in ("finetuned", "naive"):
        perception, acting = loaded.nets[name]
        stored = results[name]
        for part, net in (("perception", perception), ("control", acting)):
            for key, value in net.state_dict().items():
                assert torch.equal(value, stored[f"{part}.{key}"])


@pytest.mark.parametrize("kind", ["paper", "keypoints"])
def test_what_is_shipped_is_small_and_multiplies_by_the_same_kernels(tmp_path, monkeypatch, kind):
    results = untrained(kind, 0)
    results["adapted"] = {key: torch.rand(value.shape) for key, value in results["adapted"].items()}
    checkpoint.save(
        tmp_path / "checkpoints" / "final.safetensors",
        reach.final_checkpoint(replace(SHORT, networks=kind), "reach-quick", 0, results),
    )
    monkeypatch.setattr(checkpoint, "shipped_folder", lambda: tmp_path)
    path = ship.ship(str(tmp_path))
    assert path == tmp_path / "reach-quick.safetensors" and path.stat().st_size <= 3_000_000
    loaded = reach_results.load_nets("c", checkpoint.load(path))
    for key, value in loaded.nets["initial"][0].state_dict().items():
        trained = results["adapted"][key]
        assert torch.equal(value, trained.bfloat16().float() if key.endswith("weight") else trained)
    for key, value in loaded.nets["control"][1].state_dict().items():
        assert torch.equal(value, results["control"][key])
    for key, value in loaded.nets["finetuned"][1].state_dict().items():
        assert_allclose(value, results["finetuned"][f"control.{key}"], rtol=1e-3, atol=1e-7)


def test_what_is_too_large_to_ship_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "shipped_folder", lambda: tmp_path)
    tree = {"task": "grasp", "experiment": "grasp-paper", "weights": {"0.weight": torch.zeros(1_600_000)}}
    checkpoint.save(tmp_path / "run", tree)
    with pytest.raises(Failure, match=r"grasp-paper.*3\.2 MB.*3 MB"):
        ship.ship(str(tmp_path / "run"))
    assert not (tmp_path / "grasp-paper.safetensors").exists()


def test_initial_is_adapted_perception_with_the_selected_control(file):
    loaded = reach_results.load_nets(file, checkpoint.load(file))
    results = untrained("paper", 0)
    perception, control = loaded.nets["initial"]
    assert torch.equal(perception.state_dict()["8.bias"], results["adapted"]["8.bias"])
    assert control is loaded.nets["control"][1] and loaded.nets["control"][0] is None


def test_every_net_is_a_policy_of_one_or_many_observations(file):
    env = PlanarReachEnv(observe="both")
    observation, _ = env.reset(seed=0)
    batch = {name: np.stack([value, value]) for name, value in observation.items()}
    for net in reach_results.NETS:
        policy = handeye.load_policy(file, net=net)
        action = policy(observation)
        assert isinstance(action, int) and action in range(9)
        assert policy(batch).tolist() == [action, action]


def test_policies_of_the_world_need_their_environment():
    env = PlanarReachVectorEnv(2, observe="theta")
    observation, _ = env.reset(seed=0)
    for name in reach_results.WORLD_POLICIES:
        assert reach_results.load_policy(name, env=env)(observation).shape == (2,)
        with pytest.raises(Misuse, match="env="):
            reach_results.load_policy(name)


def test_a_net_that_does_not_exist_is_refused(file):
    with pytest.raises(Misuse, match="initial, naive, finetuned, control"):
        reach_results.load_policy(file, net="best")


@pytest.mark.parametrize("tree", [{"task": "grasp"}, {}, [], None, "reach"])
def test_checkpoints_of_another_task_are_refused(tree):
    with pytest.raises(CheckpointError, match="no reaching checkpoint"):
        reach_results.load_nets("c", tree)


@pytest.mark.parametrize("spoil", ["config", "modules", "width", "field"])
def test_checkpoints_that_do_not_fit_are_refused(file, spoil):
    tree = checkpoint.load(file)
    if spoil in ("config", "modules"):
        del tree[spoil]
    elif spoil == "width":
        tree["modules"]["control"]["0.weight"] = torch.ones(2, 2)
    else:
        tree["config"]["colour"] = "red"
    with pytest.raises(CheckpointError, match="does not fit this version"):
        reach_results.load_nets("c", tree)


# Evaluation


@pytest.mark.parametrize("domain", ["sim", "camera"])
def test_evaluation_reports_every_net_and_repeats_itself(file, domain):
    figures = reach_results.evaluate(file, 6, None, domain)
    assert figures == reach_results.evaluate(file, 6, None, domain)
    assert (figures["task"], figures["domain"], figures["episodes"], figures["seed"]) == ("reach", domain, 6, None)
    assert figures["nets"].keys() == {"initial", "naive", "finetuned", "control", "floor"}
    for net in reach_results.NETS:
        assert figures["nets"]["floor"]["d_med_cm"] <= figures["nets"][net]["d_med_cm"]
        assert figures["nets"][net]["closest_med_cm"] <= figures["nets"][net]["d_med_cm"]
        assert figures["nets"][net]["steps_mean"] <= 6
    assert figures["perception"].keys() == {"sim_only", "initial", "naive", "finetuned"}


def test_the_guide_is_good_and_chance_is_not():
    guided = reach_results.evaluate("reach:guide", 40, None, "sim")["nets"]["guide"]
    chance = reach_results.evaluate("reach:random", 40, None, "sim")["nets"]["random"]
    assert guided["success"] > 0.9 > 0.2 > chance["success"]
    assert guided["d_med_cm"] <= 5.0 < chance["d_med_cm"]
