from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from handeye import planar_arm
from handeye.envs.reach_floor import floor_m
from handeye.envs.reaching import PlanarReachConfig, PlanarReachVectorEnv, guide
from handeye.errors import Misuse
from handeye.rollout import episodes

COARSE = PlanarReachConfig(step_rad=0.6, success_radius_m=0.3, max_steps=6)


def trials(count, seed):
    rng = np.random.default_rng(seed)
    return planar_arm.random_joints(rng, count), planar_arm.hand(planar_arm.random_goals(rng, count))


def least_final_distance(start, target, config):
    """Every way that a trial can go, played by the rules as they are written in the facts."""
    best, seen, waiting = np.inf, set(), [((0, 0, 0), 0, 0)]
    while waiting:
        moved, inside, steps = waiting.pop()
        for joint, way in [(0, 0), *((joint, way) for joint in range(3) for way in (-1, 1))]:
            now = tuple(m + way * (j == joint) for j, m in enumerate(moved))
            wanted = start + config.step_rad * np.array(now)
            pose = np.clip(wanted, planar_arm.LOWER_RAD, planar_arm.UPPER_RAD)
            distance = np.linalg.norm(planar_arm.hand(pose) - target)
            count = inside + 1 if distance <= config.success_radius_m else 0
            over = (pose != wanted).any() or count == config.success_steps or steps + 1 == config.max_steps
            best = min(best, distance) if over else best
            if not over and (now, count, steps + 1) not in seen:
                seen.add((now, count, steps + 1))
                waiting.append((now, count, steps + 1))
    return best


@pytest.mark.parametrize("rules", [{}, {"success_steps": 1}, {"max_steps": 3}, {"success_radius_m": 0.05}])
def test_floor_agrees_with_playing_every_policy(rules):
    config = replace(COARSE, **rules)
    joints, target = trials(40, seed=0)
    played = [least_final_distance(q, x, config) for q, x in zip(joints, target, strict=True)]
    assert_allclose(floor_m(joints, target, config), played, atol=1e-9)


def test_a_large_radius_stops_a_slow_walk_short_of_the_target():
    joints, target = trials(40, seed=1)
    free = floor_m(joints, target, PlanarReachConfig(success_radius_m=0.001))
    stopped = floor_m(joints, target, PlanarReachConfig(success_radius_m=0.3, success_steps=1))
    assert (stopped >= free - 1e-9).all()
    assert np.median(stopped) > 5 * np.median(free)


def test_no_guide_beats_the_floor():
    config = PlanarReachConfig()
    joints, target = trials(30, seed=2)
    env = PlanarReachVectorEnv(30, config, "disabled", observe="theta")
    played = episodes(env, guide(env, 0.5), seed=0, options={"joints_rad": joints, "target_m": target})
    final = np.array([episode.facts["distance_m"][-1] for episode in played])
    assert (floor_m(joints, target, config) <= final + 1e-9).all()


def test_counts_that_do_not_fit_the_search_are_refused():
    with pytest.raises(Misuse, match="success_steps"):
        floor_m(*trials(1, 0), PlanarReachConfig(success_steps=63))
