"""What batched environments share: their checks, their seeds, and the ends of episodes."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from handeye.errors import Misuse
from handeye.types import Observation

MODES = {mode.name.lower(): mode for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)}


def need_batch(num_envs: int, autoreset_mode: str, render_mode: str | None) -> None:
    """Raises: Misuse for arguments that make no vector environment."""
    if num_envs < 1:
        raise Misuse(f"num_envs must be at least 1, got {num_envs}")
    if autoreset_mode not in MODES:
        raise Misuse(f"autoreset_mode must be one of {', '.join(MODES)}, got {autoreset_mode!r}")
    if render_mode not in (None, "rgb_array"):
        raise Misuse(f"render_mode must be None or rgb_array, got {render_mode!r}")


def need_mask(options: dict[str, Any], num_envs: int) -> NDArray[np.bool_]:
    """Which environments (N,) a reset is of: `reset_mask`, or all. Raises: Misuse for another shape."""
    mask = np.asarray(options.get("reset_mask", np.ones(num_envs, bool)), bool)
    if mask.shape != (num_envs,):
        raise Misuse(f"reset_mask must have shape ({num_envs},), got {mask.shape}")
    return mask


def reseed(rngs: list[np.random.Generator], seed: int | list[int | None] | None, mask: NDArray[np.bool_]) -> None:
    """New generators in place of those in `mask`: environment i's is seeded `seed + i`, or by its own of a list; None
    keeps it.

    Raises: Misuse for a list that is not as long as there are environments.
    """
    if seed is None:
        return
    seeds = [seed + i for i in range(len(rngs))] if isinstance(seed, int | np.integer) else list(seed)
    if len(seeds) != len(rngs):
        raise Misuse(f"seed must be a number or {len(rngs)} of them, got {len(seeds)}")
    for i in np.flatnonzero(mask):
        if seeds[i] is not None:
            rngs[i] = np.random.default_rng(seeds[i])


def ends(observation: Observation, info: dict[str, Any], over: NDArray[np.bool_]) -> dict[str, Any]:
    """What `info` says of environments `over` (N,) that restart in the same step: last observation and facts."""
    mask, final = over.copy(), np.full(len(over), None, dtype=object)
    for i in np.flatnonzero(mask):
        final[i] = {key: value[i] for key, value in observation.items()}
    return {"final_obs": final, "_final_obs": mask, "final_info": info, "_final_info": mask}
