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


def reseed(rngs: list[np.random.Generator], seed: int | list[int | None] | None) -> None:
    """New generators in place: environment i's is seeded `seed + i`, or by its own of a list; None keeps it."""
    if seed is None:
        return
    for i, one in enumerate([seed + i for i in range(len(rngs))] if isinstance(seed, int) else seed):
        if one is not None:
            rngs[i] = np.random.default_rng(one)


def ends(observation: Observation, info: dict[str, Any], over: NDArray[np.bool_]) -> dict[str, Any]:
    """What `info` says of environments `over` (N,) that restart in the same step: last observation and facts."""
    mask, final = over.copy(), np.full(len(over), None, dtype=object)
    for i in np.flatnonzero(mask):
        final[i] = {key: value[i] for key, value in observation.items()}
    return {"final_obs": final, "_final_obs": mask, "final_info": info, "_final_info": mask}
