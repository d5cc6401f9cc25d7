"""Configurations of the named experiments of grasping, each with a line about it."""

from dataclasses import replace

from handeye.envs.grasping import GraspConfig
from handeye.envs.rendering import CameraConfig
from handeye.grasp_config import GraspLearning, PriorConfig
from handeye.qtopt.cem import MaximiserConfig
from handeye.qtopt.networks import CompactConfig
from handeye.qtopt.run_local import RunConfig
from handeye.qtopt.workers import LabelConfig, LearnConfig

STATE = GraspLearning(
    env=GraspConfig(show_pose=True),
    network="state",
    run=RunConfig(rounds=260, updates=60),
    labels=LabelConfig(lag=300, maximiser=MaximiserConfig(samples=32, elites=4)),
    learn=LearnConfig(batch=256, learning_rate=1e-3, average_rate=0.01),
)
"""Objects' positions in place of pictures."""

PIXELS = GraspLearning(
    net=CompactConfig(merge="spatial", channels=(16, 32, 32, 32), norm="none", features=128),
    run=RunConfig(rounds=640, first_rounds=30, updates=50, off_frames=150_000, on_frames=250_000, evaluate_every=32),
    labels=LabelConfig(lag=300, maximiser=MaximiserConfig(samples=32, elites=4)),
    learn=LearnConfig(optimiser="muon", muon_rate=0.01, learning_rate=1e-3, labelled=4_096),
    acting=MaximiserConfig(samples=256, elites=8, iterations=3),
    both_ways=True,
)
"""Pictures by the camera that follows the gripper, and what the gripper knows of itself."""

BEST = replace(
    PIXELS,
    members=2,
    together=True,
    run=replace(PIXELS.run, rounds=256),
    learn=replace(PIXELS.learn, average_rate=0.02),
)
"""Two networks that learn from the same rounds and judge each other's best actions.

Their averages follow four times as fast: what they believe of actions that nobody has tried is forgotten sooner.
"""

QUICK = replace(PIXELS, run=replace(PIXELS.run, rounds=130, updates=45, far_rounds=50, evaluate_every=65))
"""One network, in a fifth of the rounds, whose targets look farther ahead until it grasps."""

AUX = replace(PIXELS, net=replace(PIXELS.net, sight="aux", theta_pose=True, beta=0.5))
"""The picture's features also tell where the nearest objects are, and how the gripper stands."""

MODULAR = replace(
    PIXELS,
    net=CompactConfig(sight="bottleneck", theta_pose=True, channels=(16, 32, 64), norm="none", beta=0.8),
    prior=PriorConfig(rounds=180),
    run=replace(PIXELS.run, rounds=460, sight_rounds=60),
)
"""Nothing passes from the picture to the head but where the nearest objects are, and how the gripper stands. The
head is trained on the truth about that first; both trainings together have as many rounds as the others."""

SHOULDER = replace(
    PIXELS,
    env=replace(PIXELS.env, show_pose=True, view=CameraConfig(camera="shoulder")),
    run=replace(PIXELS.run, rounds=800),
    both_ways=False,
    members=2,
)
"""The paper's camera, over the shoulder, which has no mirror image to ask about: a second network is asked instead."""

PAPER = GraspLearning(
    env=GraspConfig(view=CameraConfig(camera="shoulder", width_px=472, height_px=472)),
    network="paper",
    guide="scripted",
    run=RunConfig(rounds=100_000, environments=16, updates=100, scripted_first=1.0, guided_start=0.0, guided_end=0.0,
                  off_frames=30_000, on_frames=30_000),
    labels=LabelConfig(lag=6_000, colour=1.0),
    learn=LearnConfig(batch=32, optimiser="sgd", learning_rate=1e-4, weight_decay=7e-5, average_rate=1e-4),
)  # fmt: skip
"""The paper's network, optimiser, averages and exploration, at the size of its pictures."""
