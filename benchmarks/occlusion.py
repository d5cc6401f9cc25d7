"""How much of a picture the arm's links hide: `python benchmarks/occlusion.py`.

The camera that follows is tried where it is, opposite the robot, and on the robot's side.
"""

import numpy as np
from numpy.typing import NDArray

from handeye.envs import scene
from handeye.envs.bin_config import world_of
from handeye.envs.grasp_policies import Oracle, Scripted
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.envs.objects import PARTS
from handeye.envs.rendering import CameraConfig

WORLDS, ROUNDS, SIDE_PX, MUCH = 25, 2, 48, 0.15
LINKS = slice(scene.TRAY.stop, scene.TRAY.stop + 1 + len(scene.LINKS))
"""Geoms of base and links, without the hand."""
PLACES = {
    "follow, opposite the robot": ("follow", scene.FOLLOW_OFFSET_M),
    "follow, on its side": ("follow", scene.FOLLOW_OFFSET_M * [-1, 1, 1]),
    "shoulder": ("shoulder", scene.FOLLOW_OFFSET_M),
}


def hidden(env: GraspVectorEnv, view: CameraConfig) -> NDArray:
    """Share of each picture (N,) that looks different without the links."""
    seen, whole = env.picture(view).astype(int), env.look.size
    env.look.size = whole.copy()
    env.look.size[:, LINKS] = 1e-4
    without = env.picture(view)
    env.look.size = whole
    return (np.abs(seen - without).max(-1) > 3).mean((1, 2))


def main() -> None:
    env = GraspVectorEnv(WORLDS, GraspConfig(world=world_of("heldout"), observe="objects"), "disabled")
    assert env.bin.models[0].ngeom == LINKS.stop + 3 + PARTS * env.config.world.objects
    shares: dict[str, list[float]] = {name: [] for name in PLACES}
    for seed in range(ROUNDS):
        for policy in (Scripted(env, [np.random.default_rng([seed, i]) for i in range(WORLDS)]), Oracle(env)):
            observation, _ = env.reset(seed=1000 * seed)
            while not env.done.all():
                observation, *_ = env.step(policy(observation))
                for name, (camera, scene.FOLLOW_OFFSET_M) in PLACES.items():
                    shares[name] += list(hidden(env, CameraConfig(camera, SIDE_PX, SIDE_PX))[~env.done])
    for name, values in shares.items():
        much = 100 * np.mean(np.array(values) > MUCH)
        print(f"{name}: of {len(values)} pictures {much:.1f} % hidden by more than {MUCH}, at most {max(values):.2f}")


if __name__ == "__main__":
    main()
