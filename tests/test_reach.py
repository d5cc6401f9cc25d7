from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import save_file

from handeye import pictures, planar_arm, reach, run
from handeye.errors import Failure, Misuse
from handeye.pictures import PictureError
from handeye.reach import ReachConfig
from tiny_runs import SHORT


def source(config):
    return reach.Stages(config, 0, reach.second_camera(config)).camera


@pytest.mark.parametrize("domain", ["sim", "camera"])
def test_held_out_pictures_are_not_those_of_training(domain):
    shown, theta = reach.held_out(domain)
    assert shown.shape == (400, 84, 84)
    train = source(SHORT)(2000, np.random.default_rng(0))[1]
    assert not (theta[:, None, :2] == train[None, :, :2]).all(-1).any()


def test_own_photographs_are_used_like_the_synthetic_ones(tmp_path):
    plain = replace(SHORT, turn_rad=0)
    synthetic = source(plain)
    shown, theta = synthetic(5, np.random.default_rng(0))
    pictures.write(tmp_path / "own", shown, theta)
    own = source(replace(plain, real=str(tmp_path / "own")))
    drawn, labels = own(50, np.random.default_rng(0))
    assert {picture.tobytes() for picture in drawn} == {picture.tobytes() for picture in shown}
    assert_allclose(np.unique(labels, axis=0), np.unique(theta, axis=0), atol=1e-5)


def test_bad_files_are_reported_before_any_training(tmp_path):
    with pytest.raises(PictureError):
        reach.plan(replace(SHORT, real=str(tmp_path)), 0)
    with pytest.raises(Failure, match="no conv1 weights"):
        reach.plan(replace(SHORT, conv1=str(tmp_path / "none")), 0)
    (tmp_path / "torn").write_bytes(b"not safetensors")
    with pytest.raises(Failure, match="corrupt"):
        reach.plan(replace(SHORT, conv1=str(tmp_path / "torn")), 0)


def test_a_stage_is_trained_anew_exactly_where_something_it_depends_on_changed():
    def keys(config):
        return {name: run.stage_key(key, 0) for name, key, _ in reach.plan(config, 0)}

    small = replace(SHORT, camera_pictures=3)
    before = keys(small)
    changes = {
        replace(small, naive=replace(small.naive, steps=7)): {"naive"},
        replace(small, finetuned=replace(small.finetuned, beta=0.5)): {"finetuned"},
        replace(small, control=replace(small.control, steps=7)): {"control", "finetuned", "naive"},
        replace(small, env=replace(small.env, step_rad=0.1)): {"control", "finetuned", "naive"},
        replace(small, taught_radius_m=0.02): {"control", "finetuned", "naive"},
        replace(small, guide_polish=True): {"control", "finetuned", "naive"},
        replace(small, adapted=replace(small.adapted, steps=7)): {"adapted", "finetuned", "naive"},
        replace(small, camera_pictures=4): {"adapted", "finetuned", "naive"},
        replace(small, still_camera=False): {"adapted", "finetuned", "naive"},
        replace(small, sim=replace(small.sim, steps=7)): {"sim", "adapted", "finetuned", "naive"},
        replace(small, networks="keypoints"): set(reach.STAGES),
    }
    for config, changed in changes.items():
        after = keys(config)
        assert {name for name in reach.STAGES if after[name] != before[name]} == changed
    # A first stage that sees the second domain depends on its pictures.
    alone = replace(small, sim=replace(small.sim, camera_share=1.0))
    assert keys(alone)["sim"] != keys(replace(alone, camera_pictures=4))["sim"]


def test_files_are_known_by_what_is_in_them(tmp_path):
    def key(config, stage):
        return next(run.stage_key(key, 0) for name, key, _ in reach.plan(config, 0) if name == stage)

    shown, theta = reach.draw_sim(3, np.random.default_rng(0))
    for name, drawn in {"one": shown, "same": shown, "other": 255 - shown}.items():
        pictures.write(tmp_path / name, drawn, theta)
    one, same, other = (key(replace(SHORT, real=str(tmp_path / name)), "adapted") for name in ("one", "same", "other"))
    assert one == same != other

    save_file({"weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "conv1")
    config = replace(SHORT, conv1=str(tmp_path / "conv1"))
    before = key(config, "sim")
    save_file({"weight": torch.ones(64, 1, 7, 7)}, tmp_path / "conv1")
    assert key(config, "sim") != before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("networks", "huge"), ("camera_pictures", 0), ("camera_seed", -1), ("guide_tolerance_steps", 0),
        ("taught_radius_m", -0.01), ("taught_radius_m", 0.06),
    ],
)  # fmt: skip
def test_configurations_that_make_no_training_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        ReachConfig(**{field: value})


@pytest.mark.parametrize(("taught_m", "reached"), [(0.0, True), (0.02, False)])
def test_control_and_fine_tuning_learn_by_the_radius_that_is_taught(taught_m, reached):
    results = {}
    for name, _, begin in reach.plan(replace(SHORT, taught_radius_m=taught_m), 0):
        stage = begin(results, None)
        results[name] = stage.result()
        if name in ("control", "finetuned", "naive"):
            env = stage.experience.env
            joints = np.tile([0.1, 0.2, 0.3], (env.num_envs, 1))
            # 3 cm away: within the task's δ of 5 cm, not within 2 cm.
            env.reset(options={"joints_rad": joints, "target_m": planar_arm.hand(joints) + np.array([0.03, 0.0])})
            over = [env.step(np.ones(env.num_envs, int))[2].any() for _ in range(3)]
            assert over == [False, False, reached]


def test_first_layer_weights_need_the_paper_s_network():
    with pytest.raises(Misuse, match="conv1"):
        ReachConfig(networks="keypoints", conv1="x")


def test_perception_is_told_the_background_when_it_sees_the_second_domain_and_not_before():
    def behind(config):
        stages = {name: begin for name, _, begin in reach.plan(config, 0)}
        sim = stages["sim"]({}, None)
        adapted = stages["adapted"]({"sim": sim.result()}, None)
        return [stage.result()["0.behind"] for stage in (sim, adapted)]

    before, after = behind(SHORT)
    assert (before == 1).all()
    assert after.min() < 0.2 < 0.5 < after.max() <= 1
    assert (behind(replace(SHORT, still_camera=False))[1] == 1).all()
    assert torch.equal(behind(replace(SHORT, sim=replace(SHORT.sim, camera_share=1.0)))[0], after)
