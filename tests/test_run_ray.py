import gc
import socket
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handeye import cli, qtopt
from handeye.errors import Failure, Misuse
from handeye.qtopt.run_local import LocalRunner, Workers
from handeye.qtopt.workers import Crew, Exploration
from test_workers import FIELDS, FRAMES, LEARN, RUN, UPDATER, collector, net_of, runner, same

ray = pytest.importorskip("ray")
run_ray = pytest.importorskip("handeye.qtopt.run_ray")


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, whose processes find the tests."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # Ray leaves files of its own open: they are collected while nobody listens, not in a later test.
        warnings.simplefilter("ignore")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.delenv("RAY_ADDRESS", raising=False)
        run_ray.join(Crew(8, 8), 8)
        gc.collect()
        yield
        # Ray ends its processes without waiting for them, which Python warns of when it forgets them.
        begun = [one.process for group in ray._private.worker._global_node.all_processes.values() for one in group]
        ray.shutdown()
        for process in begun:
            process.wait(30)
        del begun, process
        gc.collect()


def make(share):
    return collector(share.stop - share.start, seed=share.start * 2**32)


def spread(crew):
    workers = Workers(*run_ray.spread(crew, make, RUN.environments, UPDATER))
    return LocalRunner(net_of(), workers, FIELDS, (RUN, LEARN), 0, FRAMES)


def opinionated(seed):
    """An untrained network that does not say nearly the same of everything."""
    net, generator = net_of(seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in net.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=generator))
    return net.eval()


def finish(one):
    while one.done < one.steps:
        values = one.step()
    return values


def test_one_process_each_gives_what_this_process_gives_to_the_bit(cluster):
    here, there = runner(), spread(Crew(1, 1))
    assert finish(here).keys() == finish(there).keys()
    assert same(here, there) and here.on.added == there.on.added > 0


def test_a_worker_that_dies_is_begun_anew_and_nothing_changes(cluster):
    whole, hurt = spread(Crew(3, 2)), spread(Crew(3, 2))
    finish(whole)
    for _ in range(3):
        hurt.step()
    ray.kill(hurt.workers.collector.actors[1], no_restart=False)
    ray.kill(hurt.workers.updater.actors[0], no_restart=False)
    finish(hurt)
    assert same(whole, hurt)


def test_every_environment_brings_its_episode_whoever_has_it(cluster):
    alone, shared = (run_ray.Collectors(count, make, 8) for count in (1, 3))
    exploration = Exploration(0.25, 0.5)
    for one in (alone, shared):
        assert [len(part) for part in one.collect(net_of(), exploration, 0)] == [6, 2]
    # No two shares see the same.
    objects = [e.observation["objects"][0].tobytes() for part in shared.collect(net_of(), exploration, 1) for e in part]
    assert len(set(objects)) == 8


def test_labels_are_the_same_from_any_number_of_updaters(cluster):
    local = runner()
    for _ in range(3):
        local.step()
    average, lagged = opinionated(1), opinionated(2)
    rngs = [np.random.default_rng(seed) for seed in range(5)]
    samples = [(UPDATER.sample(local.off, 16, rng, 1), rng) for rng in rngs]
    for batch, _ in samples:
        # No label shall be cut off at 0.
        batch["reward"] += 0.1
    two = run_ray.Updaters(2, UPDATER).label_all(average, lagged, samples)
    one = UPDATER.label_all(average, lagged, samples)
    for (here, clipped), (there, others) in zip(one, two, strict=True):
        assert np.array_equal(here["target"], there["target"]) and clipped == others
    assert len(np.unique([label["target"] for label, _ in one])) > 9


def test_what_a_worker_stumbles_over_is_told(cluster):
    with pytest.raises(Failure, match="a worker failed"):
        run_ray.Collectors(1, None, 8).collect(net_of(), Exploration(0, 0), 0)


def test_a_crew_that_cannot_be_is_told(cluster):
    with pytest.raises(Misuse, match=r"at most run\.environments, which is 8, got 9"):
        run_ray.join(Crew(9, 1), 8)
    with pytest.raises(Failure, match="70 workers need a CPU each, and Ray has 16"):
        run_ray.join(Crew(50, 20), 100)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 60), st.data())
def test_shares_of_the_environments_explore_together_as_asked(scripted, guided, environments, data):
    guided *= 1 - scripted
    count = data.draw(st.integers(1, environments))
    edges = np.linspace(0, environments, count + 1).round().astype(int)
    given, all_given = 0, 0
    for start, stop in pairwise(edges):
        part = run_ray.part_of(Exploration(scripted, guided), environments, slice(start, stop))
        given += round(part.scripted * (stop - start))
        all_given += round((part.scripted + part.guided) * (stop - start))
    assert given == round(scripted * environments)
    assert all_given == round((scripted + guided) * environments)


@pytest.mark.parametrize("options", ["--collectors 2", "--updaters 3", "--runner ray --updaters 0"])
def test_options_that_make_no_crew_are_told(options, tmp_path, capsys):
    assert cli.main(["train", "grasp-quick", "--out", str(tmp_path / "run"), *options.split()]) == 2
    assert not (tmp_path / "run").exists()
    assert options.split()[-2].strip("-") in capsys.readouterr().err


def test_an_address_where_nothing_answers_is_told(tmp_path, capsys, monkeypatch):
    with socket.socket() as other:
        # Bound, and not listening.
        other.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        # Not the cluster of the tests above.
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        assert cli.main(["train", "grasp-quick", "--out", str(tmp_path / "run"), "--runner", "ray"]) == 1
    assert f"nothing answers at RAY_ADDRESS={address}" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_without_ray_it_is_said_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(qtopt, "run_ray")
    monkeypatch.delitem(sys.modules, "handeye.qtopt.run_ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["train", "grasp-quick", "--out", str(tmp_path / "run"), "--runner", "ray"]) == 1
    assert 'pip install "handeye[ray]"' in capsys.readouterr().err and not (tmp_path / "run").exists()
