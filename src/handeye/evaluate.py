"""Fixed protocols: the same trials for all, and figures with their intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handeye import planar_arm
from handeye.metrics import median_interval, wilson
from handeye.rollout import BatchedEnv, episodes
from handeye.types import Policy


@dataclass(frozen=True)
class ReachTrials:
    """What M reaching trials ended like; every array is (M,)."""

    final_m: NDArray
    closest_m: NDArray
    returns: NDArray
    success: NDArray[np.bool_]
    steps: NDArray


def run_reach_trials(env: BatchedEnv, policy: Policy, **reset: Any) -> ReachTrials:
    """One trial in each environment, started by `env.reset(**reset)`."""
    ended = episodes(env, policy, keep=(), **reset)
    return ReachTrials(
        final_m=np.array([episode.facts["distance_m"][-1] for episode in ended]),
        closest_m=np.array([episode.facts["distance_m"].min() for episode in ended]),
        returns=np.array([episode.reward.sum(dtype=np.float64) for episode in ended]),
        success=np.array([episode.facts["is_success"][-1] for episode in ended]),
        steps=np.array([len(episode.reward) for episode in ended]),
    )


def distance_figures(final_m: NDArray) -> dict[str, Any]:
    """Median and third quartile of final distances (M,) in cm and px, with the median's 95 % interval."""
    median, third = np.quantile(final_m, [0.5, 0.75])
    low, high = median_interval(final_m)
    return {
        "d_med_cm": 100 * float(median),
        "d_q3_cm": 100 * float(third),
        "d_med_px": float(median) / planar_arm.M_PER_PX,
        "d_q3_px": float(third) / planar_arm.M_PER_PX,
        "d_med_low_cm": 100 * low,
        "d_med_high_cm": 100 * high,
    }


def reach_figures(trials: ReachTrials) -> dict[str, Any]:
    """The figures of one net in `evaluate --json`."""
    low, high = wilson(int(trials.success.sum()), len(trials.success))
    return distance_figures(trials.final_m) | {
        "closest_med_cm": 100 * float(np.median(trials.closest_m)),
        "mean_return": float(trials.returns.mean()),
        "success": float(trials.success.mean()),
        "success_low": low,
        "success_high": high,
        "steps_mean": float(trials.steps.mean()),
    }


def sight_figures(seen: NDArray, theta: NDArray) -> dict[str, float]:
    """Errors of perception in pixels: Θ̂ (M, 5) against Θ (M, 5), by target, hand, and hand relative to target."""
    target, hand = sight_errors_px(seen, theta)
    figures: dict[str, float] = {}
    for name, error in (("target", target), ("hand", hand), ("relative", target - hand)):
        median, third = np.quantile(np.linalg.norm(error, axis=1), [0.5, 0.75])
        figures |= {f"{name}_med_px": float(median), f"{name}_q3_px": float(third)}
    return figures


def sight_errors_px(seen: NDArray, theta: NDArray) -> tuple[NDArray, NDArray]:
    """Error vectors (M, 2) in pixels of the target, and of the hand that Θ̂'s joints imply."""
    target_seen, joints_seen = planar_arm.from_theta(seen)
    target, joints = planar_arm.from_theta(theta)
    hand = planar_arm.hand(joints_seen) - planar_arm.hand(joints)
    return (target_seen - target) / planar_arm.M_PER_PX, hand / planar_arm.M_PER_PX
