from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import handeye
from handeye import checkpoint, pictures, planar_arm, reach, reach_results, run
from handeye.checkpoint import CheckpointError
from handeye.envs.reaching import PlanarReachConfig, PlanarReachEnv, PlanarReachVectorEnv
from handeye.errors import Failure, Misuse
from handeye.modular.finetune import Combined
from handeye.nn import seeded
from handeye.pictures import PictureError
from handeye.reach import ReachConfig

CONFIG = ReachConfig(env=PlanarReachConfig(max_steps=10))
STATE = {"state": np.full((2, 5), 0.4, np.float32)}


def untrained(config=CONFIG):
    """Results of all stages as if they had trained nothing."""
    with seeded(0):
        sight = [reach.new_perception(config.networks).state_dict() for _ in range(2)]
        both = [Combined(reach.new_perception(config.networks), reach.new_control(config.networks)) for _ in range(2)]
        control = reach.new_control(config.networks).state_dict()
    tuned = {"finetuned": both[0].state_dict(), "naive": both[1].state_dict()}
    return {"sim": sight[0], "adapted": sight[1], "control": control} | tuned


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("reach") / "final.safetensors"
    checkpoint.save(path, reach.final_checkpoint(CONFIG, "reach-quick", 0, untrained()))
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


@pytest.mark.parametrize("domain", ["sim", "camera"])
def test_held_out_pictures_are_not_those_of_training(domain):
    shown, theta = reach.held_out(domain)
    assert shown.shape == (400, 84, 84)
    train = reach.camera_source(CONFIG)(2000, np.random.default_rng(0))[1]
    assert not (theta[:, None, :2] == train[None, :, :2]).all(-1).any()


# Checkpoints


@pytest.mark.parametrize("kind", ["paper", "keypoints"])
def test_a_checkpoint_is_small_enough_to_ship_and_acts_as_what_was_trained(tmp_path, kind):
    config = replace(CONFIG, networks=kind)
    results = untrained(config)
    checkpoint.save(tmp_path / "c", reach.final_checkpoint(config, "x", 0, results))
    assert (tmp_path / "c").stat().st_size <= 3_000_000
    loaded = reach_results.load_nets("c", checkpoint.load(tmp_path / "c"))
    assert loaded.config == config
    control = reach.new_control(kind)
    control.load_state_dict(results["control"])
    theta = torch.rand(50, 5)
    assert_allclose(loaded.nets["control"][1](theta), control(theta).detach(), atol=0.01)
    for name in ("finetuned", "naive"):
        perception, acting = loaded.nets[name]
        stored = results[name]
        for part, net in (("perception", perception), ("control", acting)):
            for key, value in net.state_dict().items():
                assert torch.equal(value, stored[f"{part}.{key}"].half().float())


def test_initial_is_adapted_perception_with_the_selected_control(file):
    loaded = reach_results.load_nets(file, checkpoint.load(file))
    results = untrained()
    perception, control = loaded.nets["initial"]
    assert torch.equal(perception.state_dict()["8.bias"], results["adapted"]["8.bias"].half().float())
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


@pytest.mark.parametrize("spoil", ["config", "modules", "control", "width", "field"])
def test_checkpoints_that_do_not_fit_are_refused(file, spoil):
    tree = checkpoint.load(file)
    if spoil in ("config", "modules"):
        del tree[spoil]
    elif spoil == "control":
        del tree["modules"]["control"]
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
        assert figures["nets"][net]["steps_mean"] <= 10
    assert figures["perception"].keys() == {"sim_only", "initial", "naive", "finetuned"}


def test_the_guide_is_good_and_chance_is_not():
    guided = reach_results.evaluate("reach:guide", 40, None, "sim")["nets"]["guide"]
    chance = reach_results.evaluate("reach:random", 40, None, "sim")["nets"]["random"]
    assert guided["success"] > 0.9 > 0.2 > chance["success"]
    assert guided["d_med_cm"] <= 5.0 < chance["d_med_cm"]


# Sources and stages


def test_own_photographs_are_used_like_the_synthetic_ones(tmp_path):
    synthetic = reach.camera_source(CONFIG)
    shown, theta = synthetic(5, np.random.default_rng(0))
    pictures.write(tmp_path / "own", shown, theta)
    own = reach.camera_source(replace(CONFIG, real=str(tmp_path / "own")))
    drawn, labels = own(50, np.random.default_rng(0))
    assert {picture.tobytes() for picture in drawn} == {picture.tobytes() for picture in shown}
    assert_allclose(np.unique(labels, axis=0), np.unique(theta, axis=0), atol=1e-5)


def test_bad_files_are_reported_before_any_training(tmp_path):
    with pytest.raises(PictureError):
        reach.plan(replace(CONFIG, real=str(tmp_path)), 0)
    with pytest.raises(Failure, match="no conv1 weights"):
        reach.plan(replace(CONFIG, conv1=str(tmp_path / "none")), 0)
    (tmp_path / "torn").write_bytes(b"not safetensors")
    with pytest.raises(Failure, match="corrupt"):
        reach.plan(replace(CONFIG, conv1=str(tmp_path / "torn")), 0)


def test_a_stage_is_trained_anew_exactly_where_something_it_depends_on_changed():
    def keys(config):
        return {name: run.stage_key(key, 0) for name, key, _ in reach.plan(config, 0)}

    small = replace(CONFIG, camera_pictures=3)
    before = keys(small)
    changes = {
        replace(small, naive=replace(small.naive, steps=7)): {"naive"},
        replace(small, finetuned=replace(small.finetuned, beta=0.5)): {"finetuned"},
        replace(small, control=replace(small.control, steps=7)): {"control", "finetuned", "naive"},
        replace(small, env=replace(small.env, step_rad=0.1)): {"control", "finetuned", "naive"},
        replace(small, guide_polish=True): {"control", "finetuned", "naive"},
        replace(small, adapted=replace(small.adapted, steps=7)): {"adapted", "finetuned", "naive"},
        replace(small, camera_pictures=4): {"adapted", "finetuned", "naive"},
        replace(small, sim=replace(small.sim, steps=7)): {"sim", "adapted", "finetuned", "naive"},
        replace(small, networks="keypoints"): set(reach.STAGES),
    }
    for config, changed in changes.items():
        after = keys(config)
        assert {name for name in reach.STAGES if after[name] != before[name]} == changed


@pytest.mark.parametrize(
    ("field", "value"),
    [("networks", "huge"), ("camera_pictures", 0), ("camera_seed", -1), ("guide_tolerance_steps", 0)],
)
def test_configurations_that_make_no_training_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        ReachConfig(**{field: value})


def test_first_layer_weights_need_the_paper_s_network():
    with pytest.raises(Misuse, match="conv1"):
        ReachConfig(networks="keypoints", conv1="x")
