from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_equal

from handeye.envs import scene
from handeye.envs.bin import Bin, clearance_m, stored_placements
from handeye.envs.bin_config import BinConfig, world_of
from handeye.errors import Misuse
from handeye.grasp_results import protocol_seeds

SMALL = BinConfig(models=3, placements=1)


def started(worlds, seed=0, threads=1, config=SMALL):
    ours = Bin(worlds, config, threads)
    ours.reset(np.arange(worlds), [np.random.default_rng(seed + i) for i in range(worlds)])
    return ours


def wander(ours, ids, steps=6):
    rng = np.random.default_rng(5)
    for _ in range(steps):
        move = rng.uniform([-0.06, -0.06, -0.09, -0.5], [0.06, 0.06, 0.03, 0.5])
        ours.step(ids, np.repeat(move[None], len(ids), 0), np.repeat(rng.random() < 0.5, len(ids)))


def test_settled_objects_lie_still_in_the_tray_below_the_gripper():
    ours = started(4)
    assert (np.abs(ours.objects_m[..., :2]) < scene.TRAY_HALF_M).all()
    assert ((ours.objects_m[..., 2] > 0) & (ours.objects_m[..., 2] < 0.16)).all()
    assert (ours.tip_m[:, 2] > 0.15).all() and (ours.pressed == 0).all()
    before = ours.objects_m.copy()
    ours.step(np.arange(4), np.zeros((4, 4)), np.zeros(4, bool))
    assert_allclose(ours.objects_m, before, atol=2e-3)


def test_the_same_seeds_give_the_same_bytes_in_any_batch_and_at_any_thread_count():
    many, one, threaded = started(3), started(1, seed=2), started(3, threads=2)
    for ours in (many, one, threaded):
        wander(ours, np.arange(ours.worlds))
    assert_equal(many.qpos[2], one.qpos[0])
    assert_equal(many.qpos, threaded.qpos)


def test_a_placement_can_be_put_into_any_world():
    ours = started(2)
    place = ours.placement(2, 0)
    ours.put(np.array([1]), [place])
    assert_equal(ours.qpos[1], place.qpos)
    assert ours.models[1] is place.model and ours.shapes[1] == place.shapes
    assert_equal(ours.gripper[1], place.gripper)


def test_objects_and_arm_begin_each_as_in_a_placement_of_their_own():
    ours = started(40, config=BinConfig(models=2, placements=2))
    kept = {(n, k): ours.placement(n, k) for n in range(2) for k in range(2)}
    pairs = set()
    for i in range(40):
        below = [key for key, place in kept.items() if np.array_equal(place.qpos[9:], ours.qpos[i, 9:])]
        above = [key for key, place in kept.items() if np.array_equal(place.qpos[:9], ours.qpos[i, :9])]
        assert [len(below), len(above)] == [1, 1] and ours.models[i] is kept[below[0]].model
        assert_equal(ours.gripper[i], kept[above[0]].gripper)
        assert_allclose(ours.tip_m[i], ours.gripper[i, :3], atol=5e-3)
        pairs.add((below[0], above[0]))
    assert len(pairs) > 8


def test_the_gripper_goes_where_it_is_sent_in_free_air():
    ours = started(2)
    start = ours.tip_m.copy()
    ours.step(np.arange(2), np.array([[0.03, -0.02, 0.02, 0.3]] * 2), np.zeros(2, bool))
    assert_allclose(ours.tip_m - start, [[0.03, -0.02, 0.02]] * 2, atol=4e-3)


def test_it_is_sent_no_further_than_the_limits():
    ours = started(1)
    for _ in range(5):
        ours.step(np.arange(1), np.array([[0.06, 0.0, 0.06, 0.0]]), np.zeros(1, bool))
    assert_allclose(ours.gripper[0, [0, 2]], [SMALL.reach_m, SMALL.highest_m])


def eased(worlds, share, seed=0, placements=4):
    ours = Bin(worlds, BinConfig(models=2, placements=placements), 1)
    ours.ease = share
    ours.reset(np.arange(worlds), [np.random.default_rng(seed + i) for i in range(worlds)])
    return ours


def test_an_easy_start_is_open_and_just_above_the_object_that_stands_clearest():
    ours = eased(4, 0.0)
    place = ours.objects_m
    clearest = clearance_m(place[..., :2]).argmax(1)
    target = place[np.arange(4), clearest, :2].clip(-SMALL.reach_m, SMALL.reach_m)
    assert_allclose(ours.tip_m[:, :2], target, atol=3e-3)
    assert (ours.tip_m[:, 2] > 0.095).all() and (ours.tip_m[:, 2] < 0.18).all()
    assert (ours.pressed == 0).all() and not ours.closed.any() and not ours.jammed.any()
    assert_allclose(ours.rest_m, ours.objects_m[..., 2])


def test_starts_lie_between_easy_and_configured():
    easy, half, full = (eased(3, share, placements=1).gripper for share in (0.0, 0.5, 1.0))
    assert_allclose(half, (easy + full) / 2, atol=2e-3)
    assert (easy[:, 2] < full[:, 2]).all()


def test_an_easy_placement_is_the_clearest_of_its_scene():
    ours = eased(6, 0.0)
    for i in range(6):
        number = next(n for n, (model, _) in ours.scenes.items() if model is ours.models[i])
        kept = np.stack([ours.placement(number, k).qpos[9:].reshape(-1, 7)[:, :2] for k in range(4)])
        clear = clearance_m(kept - scene.ORIGIN_M[:2]).mean(1)
        assert clearance_m(ours.objects_m[i : i + 1, :, :2]).mean() == pytest.approx(clear.max(), abs=2e-3)


def test_easy_episodes_are_the_same_bytes_in_any_batch():
    many, one = eased(3, 0.3), eased(1, 0.3, seed=2)
    assert_equal(many.qpos[2], one.qpos[0])


def test_clearance_by_hand():
    place = np.array([[[0.0, 0.0], [0.03, 0.04], [-0.14, 0.0]]])
    assert_allclose(clearance_m(place), [[0.05, 0.05, 0.01]])


def test_fingers_close_before_the_arm_moves():
    ours = started(1, config=BinConfig(models=1, placements=1, step_s=0.1, grip_s=0.1 - 0.004))
    start = ours.tip_m.copy()
    ours.step(np.arange(1), np.array([[0.05, 0, 0, 0]]), np.ones(1, bool))
    assert np.linalg.norm(ours.tip_m - start) < 0.02
    assert ours.aperture[0] < 0.1


def test_worlds_that_are_not_stepped_stand_still():
    ours = started(2)
    before = ours.qpos[1].copy()
    wander(ours, np.array([0]))
    assert_equal(ours.qpos[1], before)


def test_a_diverged_simulation_is_told():
    ours = started(2)
    ours.qvel[1, 9:] = 1e6
    ours.step(np.arange(2), np.zeros((2, 4)), np.zeros(2, bool))
    assert ours.diverged.tolist() == [False, True]
    ours.reset(np.array([1]), [np.random.default_rng(0)])
    assert not ours.diverged.any()


def sent_to(y, heights, closed=False):
    """An almost empty bin whose gripper went to (0, y) across the wall and then to each height."""
    ours = started(1, config=BinConfig(objects=1, models=1, placements=1))
    for z in (0.15, 0.15, 0.15, *heights):
        ours.step(np.arange(1), np.array([[0, y, z, 0]]) - ours.gripper, np.zeros(1, bool))
    ours.step(np.arange(1), np.zeros((1, 4)), np.array([closed]))
    return ours


def test_a_finger_that_stands_on_the_wall_is_a_jam():
    assert sent_to(0.105, [0.1, 0.01]).jammed[0]
    assert not sent_to(0.105, [0.1, 0.08]).jammed[0]


def test_a_gripper_far_from_where_it_was_sent_is_a_jam():
    ours = started(2)
    ours.qpos[1, 0] += 0.1
    ours.batch.forward(np.arange(2))
    assert ours.jammed.tolist() == [False, True]


def test_fingers_that_close_on_the_wall_are_a_jam():
    assert sent_to(0.125, [0.1, 0.03], closed=True).jammed[0]
    assert not sent_to(0.125, [0.1], closed=True).jammed[0]
    assert not sent_to(0.125, [0.1, 0.03]).jammed[0]


def test_objects_lean_where_they_lie_and_not_in_the_air():
    ours = started(1, config=BinConfig(objects=1, models=1, placements=1))
    assert ours.leaning[0, 0]
    ours.qpos[0, 11] += 0.1
    ours.batch.forward(np.arange(1))
    assert not ours.leaning[0, 0]


def test_scenes_hold_the_objects_of_their_split():
    train, held = (Bin(1, BinConfig(split=split, models=2), 1).scene(1)[1] for split in ("train", "heldout"))
    assert len(train) == len(held) == 5
    assert not set(train) & set(held)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_any_number_of_objects(count):
    ours = started(1, config=BinConfig(objects=count, models=1, placements=1))
    assert ours.objects_m.shape == (1, count, 3) and ours.pressed.shape == (1, count, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("objects", 0),
        ("models", 0),
        ("split", "test"),
        ("timestep_s", 0.1),
        ("step_s", 0.0),
        ("easy_start_m", 1.0),
        ("start_offset_m", 0.2),
    ],
)
def test_worlds_that_cannot_be_name_the_field_and_the_value(field, value):
    with pytest.raises(Misuse, match=f"{field}.*{value}"):
        BinConfig(**{field: value})


@pytest.mark.parametrize("objects", ["train", "heldout"])
def test_the_stored_placements_are_those_of_the_default_bins(objects):
    world = world_of(objects)
    stored = stored_placements(world)
    assert stored is not None and stored.shape[:2] == (world.models, world.placements)
    for which in (1, world.placements - 1):
        assert_allclose(stored[3, which], Bin(1, world).settle(3, which), atol=1e-4)
    assert stored_placements(replace(world, spread_m=0.05)) is None


@pytest.mark.parametrize(("objects", "placements"), [("heldout", 600), ("train", 550)])
def test_hardly_an_episode_of_the_protocol_begins_like_another(objects, placements):
    ours, worlds = Bin(50, world_of(objects), 1), np.arange(50)
    begun: list[tuple[bytes, bytes]] = []
    for seeds in np.split(np.array(protocol_seeds(None, 700)), 14):
        ours.reset(worlds, [np.random.default_rng(seed) for seed in seeds])
        begun += [(ours.objects_m[i].tobytes(), ours.gripper[i].tobytes()) for i in worlds]
    assert len(set(begun)) == 700 and len({place for place, _ in begun}) > placements
