"""How fast things are on this machine, beside how fast they could be, and beside another way to do them."""

import importlib.util
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console

from handeye import planar_arm
from handeye.envs import reach_pictures
from handeye.envs.reaching import PlanarReachVectorEnv
from handeye.modular.losses import perception_loss
from handeye.modular.networks import control_net, perceive, perception_net
from handeye.nn import keep_freed_memory, low_precision, multiplied_in, to_float

FLOP_PER_VISIT = 22
"""Arithmetic of one pixel and capsule in envs/drawing.py, a square root as one."""
PERCEPTION_FLOP = 2 * (49 * 64 * 40**2 + 16 * 64 * 64 * 19**2 + 9 * 64 * 64 * 17**2 + 17 * 17 * 64 * 5)
"""One picture forward through the paper's perception."""
CONTROL_FLOP = 2 * (5 * 400 + 400 * 300 + 300 * 9)

Row = dict[str, Any]


def run_benchmarks(names: list[str], console: Console) -> list[Row]:
    """The rows of `bench --json` for the benchmarks named; all of them if none is."""
    keep_freed_memory()
    rows = []
    for name in names or _possible(console):
        with console.status(f"measuring {name}"):
            rows.append({"name": name} | BENCHMARKS[name]())
    return rows


def _possible(console: Console) -> list[str]:
    """All, or without what grasping needs those of reaching."""
    if importlib.util.find_spec("mujoco"):
        return list(BENCHMARKS)
    console.print('only those of reaching: grasping needs pip install "handeye[grasp]"', markup=False)
    return [name for name in BENCHMARKS if name.startswith(("reach", "perception"))]


def seconds(function: Callable[[], object], at_least_s: float = 2.0) -> float:
    """Median seconds of a call, after one that warms up, over at least five calls and `at_least_s`."""
    function()
    taken: list[float] = []
    while len(taken) < 5 or sum(taken) < at_least_s:
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


class Peak(NamedTuple):
    """Operations a second of a 1024³ matrix product: what this machine can do at most, in one precision."""

    flops: float
    kind: str

    @classmethod
    def of(cls, kind: torch.dtype) -> Self:
        a, b = torch.rand(2, 1024, 1024).to(kind)
        return cls(2 * 1024**3 / seconds(lambda: a @ b, 1.0), {torch.bfloat16: "bf16", torch.float32: "float32"}[kind])

    @classmethod
    def of_networks(cls) -> Self:
        """In the precision in which networks multiply here."""
        return cls.of(multiplied_in())


def reach_env() -> Row:
    """Rendered environment steps a second, restarts included, against Pillow drawing the same scenes."""
    env = PlanarReachVectorEnv(256)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    ours = 256 / seconds(lambda: env.step(rng.integers(9, size=256)))
    theirs = 1 / seconds(lambda: _pillow(env.target_m[0], env.joints_rad[0]))
    visits = _pixel_visits(reach_pictures.capsules(env.target_m, env.joints_rad))
    floor = Peak.of(torch.float32).flops / (FLOP_PER_VISIT * visits)
    note = f"{visits:.0f} pixel visits of {FLOP_PER_VISIT} operations a picture, at the peak of float32"
    return _row(ours, "steps/s", floor, "Pillow, 4×4 samples a pixel, one process", theirs, note)


def _pixel_visits(capsules: np.ndarray) -> float:
    """Mean over pictures of the pixels that are looked at for all capsules (N, P, 6)."""
    reach = capsules[..., 4:].max(-1) + 1
    spans = np.abs(capsules[..., 2:4] - capsules[..., :2]) + 2 * reach[..., None]
    return float(np.minimum(spans, reach_pictures.SIZE_PX).prod(-1).sum(-1).mean())


def _pillow(target_m: np.ndarray, joints_rad: np.ndarray, samples: int = 4) -> np.ndarray:
    side = reach_pictures.SIZE_PX * samples
    image = Image.new("L", (side, side), int(reach_pictures.BACKGROUND))
    draw = ImageDraw.Draw(image)
    for (x0, y0, x1, y1, r, _), grey in zip(
        reach_pictures.capsules(target_m[None], joints_rad[None])[0] * samples, reach_pictures.GREY, strict=True
    ):
        draw.line((x0, y0, x1, y1), fill=int(grey), width=int(2 * r))
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=int(grey))
    return np.asarray(image.reduce(samples))


def perception_step() -> Row:
    """Training steps a second of the paper's perception at batch 64, drawing included, against float32."""
    net = perception_net()
    optimiser = torch.optim.Adam(net.parameters(), fused=True)
    rng = np.random.default_rng(0)

    def step(low: bool) -> None:
        joints, goals = planar_arm.random_joints(rng, 64), planar_arm.random_goals(rng, 64)
        target = planar_arm.hand(goals)
        pictures = to_float(reach_pictures.draw(target, joints)[..., None])
        theta = torch.as_tensor(planar_arm.to_theta(target, joints))
        if low:
            with low_precision():
                seen = net(pictures).float()
        else:
            seen = net(pictures)
        optimiser.zero_grad()
        perception_loss(seen, theta).backward()
        optimiser.step()

    peak = Peak.of_networks()
    values = 1 / seconds(lambda: step(True)), 1 / seconds(lambda: step(False))
    note = f"floor: {peak.kind} peak, 3 forward passes' worth"
    floor = peak.flops / (3 * 64 * PERCEPTION_FLOP)
    return _row(values[0], "steps/s", floor, "the same step in float32", values[1], note)


def perception_act() -> Row:
    """Pictures a second through the paper's perception and control, as in evaluation at batch 64."""
    perception, control = perception_net(), control_net()
    pictures = np.random.default_rng(0).integers(256, size=(64, 84, 84, 1), dtype=np.uint8)

    @torch.no_grad()
    def act() -> torch.Tensor:
        return control(perceive(perception, pictures)).argmax(1)

    peak = Peak.of_networks()
    floor = peak.flops / (PERCEPTION_FLOP + CONTROL_FLOP)
    return _row(64 / seconds(act), "pictures/s", floor, None, None, f"floor: {peak.kind} peak")


GRASP_WORLDS = 32


def grasp_env() -> Row:
    """Grasp environment steps a second with 64×64 pictures and restarts, under random actions."""
    return _grasp_row("image")


def grasp_env_state() -> Row:
    """The same without pictures."""
    return _grasp_row("objects")


def _grasp_row(observe: Literal["image", "objects"]) -> Row:
    from handeye.envs.grasp_policies import Random
    from handeye.envs.grasping import GraspConfig, GraspVectorEnv

    env = GraspVectorEnv(GRASP_WORLDS, GraspConfig(observe=observe))
    act = Random(env, np.random.default_rng(0).spawn(GRASP_WORLDS))
    observation, _ = env.reset(seed=0)
    spent = {"physics": _timed(env.bin, "step"), "restarts": _timed(env, "_start"), "pictures": _timed(env, "picture")}
    for _ in range(25):
        env.step(act(observation))
    for clock in spent.values():
        clock[0] = 0.0
    started, steps = time.perf_counter(), 60
    for _ in range(steps):
        env.step(act(observation))
    total = time.perf_counter() - started
    shares = {name: clock[0] / total for name, clock in spent.items()} | {"rest": 0.0}
    shares["rest"] = 1 - sum(shares.values())
    note = "share of time: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    floor = GRASP_WORLDS * steps / max(spent["physics"][0], spent["pictures"][0])
    note += "; floor: the slower of physics and pictures alone, the other beside it and all else free"
    theirs = _grasp_bench().kuka() if observe == "image" else None
    peer = _grasp_bench().PEER if theirs else None
    return _row(GRASP_WORLDS * steps / total, "steps/s", floor, peer, theirs, note)


def _grasp_bench() -> Any:
    """Loaded when it is asked for: it needs packages that the other benchmarks do without."""
    from handeye import grasp_bench

    return grasp_bench


def _timed(owner: Any, name: str) -> list[float]:
    """Seconds spent in a method from now on, as the one entry of a list."""
    clock, method = [0.0], getattr(owner, name)

    def measured(*arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            clock[0] += time.perf_counter() - started

    setattr(owner, name, measured)
    return clock


def _row(value: float, unit: str, floor: float, peer: str | None, peer_value: float | None, note: str) -> Row:
    return {"value": value, "unit": unit, "floor": floor, "peer": peer, "peer_value": peer_value, "note": note}


BENCHMARKS: dict[str, Callable[[], Row]] = {
    "reach-env": reach_env,
    "perception-step": perception_step,
    "perception-act": perception_act,
    "grasp-env": grasp_env,
    "grasp-env-state": grasp_env_state,
    "cem-paper": lambda: _grasp_bench().cem_paper(Peak.of_networks()),
    "cem-compact": lambda: _grasp_bench().cem_compact(Peak.of_networks()),
    "grasp-learner": lambda: _grasp_bench().learner(Peak.of_networks()),
    "grasp-pipeline": lambda: _grasp_bench().pipeline(),
}
