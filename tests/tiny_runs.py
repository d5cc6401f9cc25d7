"""Run folders with untrained networks and short trials, made in a moment."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from handeye import checkpoint, reach, run
from handeye.envs.reaching import PlanarReachConfig

SHORT = reach.ReachConfig(env=PlanarReachConfig(max_steps=6))


def untrained(kind: str, seed: int) -> dict[str, Any]:
    """The stages' results of a training that never happened."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sight = {name: reach.new_perception(kind).state_dict() for name in ("sim", "adapted", "finetuned", "naive")}
        control = reach.new_control(kind).state_dict()
    tuned = {
        name: {f"perception.{k}": v for k, v in sight[name].items()} | {f"control.{k}": v for k, v in control.items()}
        for name in ("finetuned", "naive")
    }
    return {"sim": sight["sim"], "adapted": sight["adapted"], "control": control, **tuned}


def make_run(folder: Path, finished: bool = True, seed: int = 0, until: str = "naive", **changes: Any) -> Path:
    """A run of reach-quick in `folder` whose configuration has `changes`; `seed` decides its weights."""
    config = dataclasses.replace(SHORT, **changes)
    run.write_config(folder, "reach-quick", seed, config)
    rows = [
        {"stage": stage, "step": step, "time_s": 1.0, key: 0.5 / step, "success": None if step == 10 else 0.5}
        for stage, key in (("sim", "theta_rmse"), ("control", "return"), ("finetuned", "l_p"), ("naive", "l_p"))
        for step in range(10, 100, 10)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        results, done = untrained(config.networks, seed), reach.STAGES[: reach.STAGES.index(until) + 1]
        tree = reach.final_checkpoint(config, "reach-quick", seed, {name: results[name] for name in done})
        checkpoint.save(folder / "checkpoints" / "final.safetensors", tree)
    return folder
