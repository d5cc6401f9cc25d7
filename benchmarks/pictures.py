"""Write the pictures of docs/pictures.md: `python benchmarks/pictures.py [docs]`.

All objects, each camera at each size, each level of randomisation, and episodes that succeeded and failed.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from handeye.envs import scene
from handeye.envs.bin_config import HELD_OUT_MODELS, BinConfig, world_of
from handeye.envs.grasp_policies import Oracle, Random, Scripted
from handeye.envs.grasping import GraspConfig, GraspVectorEnv
from handeye.envs.objects import PARTS, SLOTS, Shape, draw_shape, rotation
from handeye.envs.rendering import CAMERAS, LEVELS, CameraConfig, RayCaster
from handeye.grasp_results import failure
from handeye.rollout import episodes
from handeye.types import Observation, Policy

Picture = NDArray[np.uint8]
PAPER, INK = (250, 249, 245), (43, 47, 56)
TILE_PX, COLUMNS, SHARPER = 40, 40, 3
"""Of the sheet of objects; each is drawn this many times larger and reduced."""
AIM_M, EYE_FROM_M, FOVY_DEG = np.array([0.55, 0.0, 0.1]), np.array([-0.16, -0.22, 0.3]), 23.0
BELOW_M = 0.06
"""The ground is this far below an object's middle."""
SIZES = ((64, 64), (128, 128), (472, 472), (640, 512))
SHOWN_PX = 240
"""Height at which every size is shown."""
FRAMES = 8


def sheet_of_objects() -> Picture:
    """All training and held-out objects, one tile each, slot by slot."""
    parts = []
    for split, count in (("train", BinConfig.models), ("heldout", HELD_OUT_MODELS)):
        tiles = np.concatenate([_tiles(split, slot, count) for slot in range(SLOTS)])
        parts += [_words(f"{split}: {len(tiles)} objects", COLUMNS * TILE_PX), _grid(tiles, COLUMNS)]
    return np.concatenate(parts)


def _tiles(split: str, slot: int, count: int) -> Picture:
    """Pictures (count, TILE, TILE, 3) of the objects of one slot."""
    shapes = [draw_shape(split, slot, index) for index in range(count)]
    # A model whose objects are those of one of every slot; only the one of this slot is drawn.
    model = scene.build([draw_shape("train", k, 0) for k in range(SLOTS)], 0.004).compile()
    first = model.ngeom - PARTS * (SLOTS - slot)
    place = np.tile([0.0, 0.0, -10.0], (count, model.ngeom, 1))
    axes = np.tile(np.eye(3).ravel(), (count, model.ngeom, 1))
    size, rgba = (np.repeat(values[None], count, 0) for values in (model.geom_size, model.geom_rgba))
    place[:, 0] = AIM_M - [0, 0, BELOW_M + 0.01]
    size[:, 0], rgba[:, 0] = [3.0, 3.0, 0.01], [1, 1, 1, 1]
    for i, shape in enumerate(shapes):
        own = slice(first, first + PARTS)
        place[i, own] = AIM_M + np.array([part.pos_m for part in shape.parts])
        axes[i, own] = [rotation(part.quat).ravel() for part in shape.parts]
        size[i, own], rgba[i, own, :3] = _sizes(shape), _shades(shape)
    side = SHARPER * TILE_PX
    eye = np.repeat(AIM_M[None] + EYE_FROM_M, count, 0)
    eyes = eye, scene.axes_looking(eye, AIM_M[None]), np.full(count, FOVY_DEG)
    # Without randomisation the field of view would be the camera's own.
    view = CameraConfig("shoulder", side, side, "mild")
    drawn = RayCaster(model, count, view).draw((place, axes), (size, rgba), eyes)
    return np.stack([np.asarray(Image.fromarray(one).reduce(SHARPER)) for one in drawn])


def _sizes(shape: Shape) -> NDArray:
    return np.array([(*part.size_m, 0.0, 0.0)[:3] for part in shape.parts])


def _shades(shape: Shape) -> NDArray:
    return np.clip(np.array(scene.TINTS)[:, None] * shape.rgb, 0, 1)


def cameras_at_sizes() -> Picture:
    """Rows: cameras; columns: sizes; the same moment of a held-out episode, fingers about an object."""
    env = _bins(1)
    policy = Oracle(env)
    observation, _ = env.reset(seed=4)
    while not env.course.pressed[0]:
        observation, *_ = env.step(policy(observation))
    rows = []
    for camera in CAMERAS:
        views = [CameraConfig(camera, *size) for size in SIZES]
        drawn = [_shown(env.picture(view)[0]) for view in views]
        labels = [f"{camera} {width} x {height}" for width, height in SIZES]
        rows.append(np.concatenate([_labelled(*pair) for pair in zip(drawn, labels, strict=True)], 1))
    return np.concatenate(rows)


def _shown(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    small = height < SHOWN_PX
    size = (round(SHOWN_PX * width / height), SHOWN_PX)
    how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize(size, how))


def levels_of_randomisation() -> Picture:
    """Rows: levels, over the shoulder and following; columns: episodes."""
    rows = []
    for level in LEVELS:
        for camera in ("shoulder", "follow"):
            view = CameraConfig(camera, 152, 152, level)
            env = GraspVectorEnv(8, GraspConfig(world=world_of("heldout"), observe="image", view=view), "disabled")
            drawn = env.reset(seed=20)[0]["image"]
            rows.append(_labelled(np.concatenate(list(drawn), 1), f"{level}, {camera}"))
    return np.concatenate(rows)


def episodes_of_each_end() -> Picture:
    """A row of frames of each way in which an episode ends, the first that is met, by the camera that follows."""
    found: dict[str, Picture] = {}
    for name, make in _actors():
        env = _bins(16)
        recorder = _Recorder(env, make(env))
        for i, episode in enumerate(episodes(env, recorder, keep=(), seed=300)):
            length, good = len(episode.reward), bool(episode.facts["is_success"][-1])
            moments = np.linspace(0, length - 1, FRAMES).round().astype(int)
            row = np.concatenate([recorder.frames[t][i] for t in moments], 1)
            key = f"{name}: {'success' if good else failure(episode)}, {length} steps"
            found.setdefault(key.split(",")[0], _labelled(row, key))
    return np.concatenate(list(found.values()))


def _actors() -> Iterator[tuple[str, Callable[[GraspVectorEnv], Policy]]]:
    yield "oracle", Oracle
    yield "scripted", lambda env: Scripted(env, _generators(env))
    yield "random", lambda env: Random(env, _generators(env))


def _generators(env: GraspVectorEnv) -> list[np.random.Generator]:
    return [np.random.default_rng([1, i]) for i in range(env.num_envs)]


class _Recorder:
    """A policy that keeps a picture of every environment whenever it is asked."""

    def __init__(self, env: GraspVectorEnv, policy: Policy) -> None:
        self.env, self.policy, self.frames = env, policy, []

    def __call__(self, observation: Observation, /) -> NDArray:
        self.frames.append(self.env.picture(CameraConfig("follow", 128, 128)))
        return self.policy(observation)


def _bins(count: int) -> GraspVectorEnv:
    return GraspVectorEnv(count, GraspConfig(world=world_of("heldout"), observe="objects"), "disabled")


def _grid(tiles: Picture, columns: int) -> Picture:
    """Tiles (N, H, W, 3) in rows, the last filled up with paper."""
    missing = -len(tiles) % columns
    filled = np.concatenate([tiles, np.broadcast_to(np.uint8(PAPER), (missing, *tiles.shape[1:]))])
    return np.concatenate([np.concatenate(list(row), 1) for row in filled.reshape(-1, columns, *tiles.shape[1:])])


def _labelled(picture: Picture, words: str) -> Picture:
    return np.concatenate([_words(words, picture.shape[1]), picture])


def _words(words: str, width_px: int) -> Picture:
    strip = Image.new("RGB", (width_px, 20), PAPER)
    ImageDraw.Draw(strip).text((5, 4), words, fill=INK, font=ImageFont.load_default())
    return np.asarray(strip)


PICTURES = {
    "objects": sheet_of_objects,
    "cameras": cameras_at_sizes,
    "randomisation": levels_of_randomisation,
    "episodes": episodes_of_each_end,
}


def main(folder: Path) -> None:
    for name, draw in PICTURES.items():
        path = folder / f"{name}.png"
        Image.fromarray(draw()).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
