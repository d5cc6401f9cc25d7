import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

import handeye
from handeye import checkpoint, compare, experiments, reach
from handeye.envs.bin_config import BinConfig
from handeye.envs.grasping import GraspConfig
from handeye.envs.reaching import PlanarReachConfig
from handeye.envs.rendering import CameraConfig
from handeye.experiments import EXPERIMENTS
from handeye.grasp_config import GraspLearning, PriorConfig
from handeye.modular.control import ControlConfig
from handeye.modular.finetune import FinetuneConfig
from handeye.modular.perception import PerceptionConfig
from handeye.qtopt.acting import NoiseConfig
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.networks import CompactConfig
from handeye.qtopt.run_local import RunConfig
from handeye.qtopt.workers import LabelConfig, LearnConfig
from handeye.reach import ReachConfig
from handeye.train import system_of

CONFIGS = (
    *(ReachConfig, PlanarReachConfig, PerceptionConfig, ControlConfig, FinetuneConfig),
    *(GraspLearning, GraspConfig, BinConfig, CameraConfig, CompactConfig, RunConfig, LabelConfig, LearnConfig),
    *(MaximiserConfig, NoiseConfig, PriorConfig),
)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_is_and_costs(name):
    experiment = experiments.find(name)
    assert experiment.task in ("reach", "grasp") and experiment.line and experiment.cost


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_configuration_comes_back_from_json(name):
    config = EXPERIMENTS[name].config
    assert system_of(EXPERIMENTS[name].task).read_config(json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_reach_paper_keeps_the_numbers_that_the_paper_states():
    config = EXPERIMENTS["reach-paper"].config
    assert config.networks == "paper"
    assert (config.env.step_rad, config.env.success_radius_m, config.env.success_steps) == (0.04, 0.05, 3)
    assert (config.env.distance_weight, config.env.max_steps) == (1e-3, 300)
    assert config.camera_pictures == 1418 and config.adapted.camera_share == 0.75
    assert config.control.exploration == "k-gps"
    for tuning, beta in ((config.finetuned, 0.8), (config.naive, 0.0)):
        assert (tuning.beta, tuning.task_batch, tuning.camera_batch, tuning.epsilon) == (beta, 64, 192, 0.1)
        assert (tuning.learning_rate, tuning.learning_rate * tuning.rate_end) == (0.01, 0.001)
        assert not tuning.sum_gradients and not tuning.freeze_control


def test_what_differs_from_reach_paper_in_its_adaptation_takes_over_the_rest():
    paper, weak = (
        reach.plan(dataclasses.replace(EXPERIMENTS[name].config, camera_pictures=9), 0)
        for name in ("reach-paper", "reach-weak")
    )
    same = {stage for (stage, key, _), (_, key_of_other, _) in zip(paper, weak, strict=True) if key == key_of_other}
    assert same == {"sim", "control"}


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_what_is_shipped_can_be_trained_again(name):
    stored = compare.flat(checkpoint.load(checkpoint.find(name))["config"])
    said = json.loads(json.dumps(dataclasses.asdict(EXPERIMENTS[name].config)))
    assert stored.items() <= compare.flat(said).items()


@pytest.mark.parametrize(
    ("wrong", "near"), [("reach-quik", "reach-quick"), ("paper", "reach-paper"), ("", "reach-best")]
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong, near):
    with pytest.raises(experiments.UnknownExperiment, match=near):
        experiments.find(wrong)


def attributes_read(inside):
    """Names read as attributes anywhere in the package, except within the class `inside`."""
    names = set()
    for path in Path(handeye.__file__).parent.rglob("*.py"):
        waiting = [ast.parse(path.read_text())]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.ClassDef) and node.name == inside:
                continue
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
            waiting.extend(ast.iter_child_nodes(node))
    return names


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_of_every_configuration_is_read(config):
    fields = {field.name for field in dataclasses.fields(config)}
    assert fields <= attributes_read(inside=config.__name__)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_number_is_checked(config):
    for field in dataclasses.fields(config):
        if isinstance(field.default, float | int) and not isinstance(field.default, bool):
            for value in (float("nan"), -1e30, 1e30):
                with pytest.raises(ValueError, match=field.name):
                    config(**{field.name: value})


def test_reaching_needs_nothing_of_what_grasping_needs():
    program = (
        "import sys, handeye.cli, handeye.train, handeye.bench, handeye.experiments as e; e.find('reach-quick').config;"
    )
    program += "sys.exit(bool({'mujoco', 'warp', 'mujoco_warp'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], timeout=100).returncode == 0
