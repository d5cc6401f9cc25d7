import io
import json
import re
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from handeye import (
    cli,
    compare,
    grasp_curves,
    grasp_findings,
    grasp_report,
    grasp_results,
    grasp_seeds,
    grasp_video,
    plots,
    run,
)
from handeye.envs.bin_config import BinConfig
from handeye.envs.rendering import CameraConfig
from handeye.errors import Failure
from handeye.grasp_config import GraspLearning, PriorConfig
from handeye.grasp_findings import GRASPED, Grasp
from handeye.qtopt.cem import best_actions
from handeye.qtopt.networks import CompactConfig, scorer, to_inputs
from handeye.qtopt.run_local import RunConfig
from handeye.qtopt.workers import LabelConfig
from test_grasp import TINY

GRASPS = 3
EPISODES = grasp_curves.EFFORTS[1]


@pytest.fixture(autouse=True, scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grasp_results, "world_of", lambda objects, like: BinConfig(split=objects, models=2, placements=1))
        patch.setattr("handeye.grasp.world_of", lambda objects, like: BinConfig(split=objects, models=2, placements=1))
        patch.setattr("handeye.grasp.MIDWAY_WORLDS", 2)
        patch.setattr("handeye.run.LOG_EVERY_S", 0.0)
        patch.setattr(grasp_video, "VIEW", CameraConfig(camera="shoulder", width_px=64, height_px=48))
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grasp") / "run"
    assert cli.main(["train", "grasp-state", "--out", str(folder), *TINY, "--run.evaluate-every", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def written(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return out, spoken([tiny], out)[0]


def spoken(runs, out):
    """The page, and what was said on the way."""
    heard = io.StringIO()
    path = grasp_report.write_report([str(run) for run in runs], out, Console(file=heard, width=200), GRASPS)
    return path.read_text(), heard.getvalue()


def grasp(ending=GRASPED, family="block", held=0, seed=0, reward=(1.0,), q=(0.5,)):
    return Grasp(seed, ending, family, held, list(reward), [0.0] * len(reward), list(q))


def rows_of(out, name):
    return json.loads((out / "tables" / f"{name}.json").read_text())["rows"]


def test_page_needs_nothing_from_outside(written):
    out, html = written
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', html)
    assert sources and all(source.startswith(("data:image/", "#s")) for source in sources)
    assert html.count("data:image/webp") == len(list((out / "videos").glob("*.webp"))) > 0
    figures = {path.stem for path in (out / "figures").glob("*.png")}
    assert figures == {"grasp-state-run-learning", "grasp-state-run-values", "commands"}
    assert not list(out.rglob("*.partial"))


def test_table_says_what_evaluate_says_beside_what_was_published(written, tiny):
    rows = {(row["policy"], row["objects"]): row for row in rows_of(written[0], "grasps")}
    figures = grasp_results.evaluate(str(tiny), GRASPS, None, "train", Console(quiet=True))
    ours = rows[str(tiny), "training"]
    assert ours["success %"] == 100 * figures["success"] and ours["return"] == figures["return_mean"]
    assert rows["oracle", "held-out"]["grasps"] == GRASPS and rows["oracle", "held-out"]["minutes"] is None
    published = {row["policy"]: row["after 1 M, or at last %"] for row in rows_of(written[0], "published")}
    assert published["QT-Opt, 60 robots"] == 95 and published["Levine et al., 60 robots"] == 55


def test_second_report_plays_nothing_anew(written, tiny, tmp_path):
    again, said = spoken([tiny], tmp_path)
    assert again == written[1] and "grasps of" not in said
    assert (tiny / "report" / "evaluation.json").is_file()


def test_what_was_predicted_is_the_greedy_value(tiny):
    config = grasp_results.evaluated(str(tiny), "train")
    episode = next(grasp_results.play(str(tiny), config, [5]))
    learnt = grasp_results.load(str(tiny))
    q = grasp_findings.predicted(learnt, episode)
    assert len(q) == len(episode.reward) and all(0 < value < 1 for value in q)
    inputs = to_inputs({name: value[:-1] for name, value in episode.observation.items()})
    score, bounds = scorer(learnt.net, inputs, learnt.config.bounds), learnt.config.bounds
    generator = torch.Generator().manual_seed(0)
    _, best = best_actions(score, inputs.states, bounds, learnt.config.acting, generator, alike=True)
    np.testing.assert_allclose(q, best.numpy(), rtol=0.02)


def test_report_of_unfinished_runs_shows_their_curves(tmp_path, tiny):
    for name in "ab":
        run.write_config(tmp_path / name, "grasp", 0, GraspLearning(run=RunConfig(evaluate_every=2)))
        (tmp_path / name / "metrics.jsonl").write_text((tiny / "metrics.jsonl").read_text())
    html, said = spoken([tmp_path / name for name in "ab"], tmp_path / "out")
    assert "Not trained to the end" in html and not said
    assert (tmp_path / "out" / "figures" / "learning.png").is_file()
    assert not (tmp_path / "out" / "tables").exists()


def test_the_command_reports_one_task(tmp_path, tiny, capsys, monkeypatch):
    monkeypatch.setattr(grasp_report, "write_report", lambda *arguments: arguments)
    assert cli.main(["report", str(tiny), "--out", "o", "--grasps", "7"]) == 0
    assert "'o'" in (said := capsys.readouterr().out) and said.endswith(" 7)\n")
    assert cli.main(["report", str(tiny), "reach-best"]) == 2
    assert "of grasp or of reach" in capsys.readouterr().err
    assert cli.main(["report", str(tiny), "--grasps", "0"]) == 2


def test_a_checkpoint_alone_is_known_by_its_network(tmp_path, tiny):
    of = grasp_findings.open_run(str(tiny / "checkpoints" / "final.safetensors"))
    assert (of.folder, of.rows, of.experiment) == (None, [], "grasp-state")
    findings = grasp_findings.GraspFindings([of], tmp_path, 2, Console(quiet=True))
    assert len(findings.of_run(of, "train").grasps) == 2
    assert (tmp_path / "final" / "evaluation.json").is_file()


def test_a_run_of_reaching_is_refused(tmp_path):
    run.write_config(tmp_path, "grasp", 0, LabelConfig())
    with pytest.raises(Failure, match="no run of grasping"):
        grasp_findings.open_run(str(tmp_path))


def test_realised_returns_by_hand():
    assert grasp_findings.realised([-0.05, -0.05, 1.0], LabelConfig(discount=0.9)) == pytest.approx([0.715, 0.85, 1])
    assert grasp_findings.realised([-0.05, 0.0], LabelConfig(discount=0.5)) == pytest.approx([-0.05, 0])
    outcome = LabelConfig(objective="outcome")
    assert grasp_findings.realised([-0.05, 1.0], outcome) == [1, 1]
    assert grasp_findings.realised([-0.05, 0.0], outcome) == [0, 0]


def test_values_of_a_step_are_those_of_the_episodes_that_came_so_far():
    steps = grasp_findings.by_step([[1, 2, 3], [4], [5, 0]])
    assert [step.tolist() for step in steps] == [[1, 4, 5], [2, 0], [3]]


def test_histograms_by_hand():
    shares, means = grasp_findings.histograms([[-1, 0.5], [1], [0.9]], -1, 1, 2)
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3], [0, 1]])
    np.testing.assert_allclose(means, [0.3, 0.5])


def test_overestimation_by_hand():
    good = grasp(reward=(-0.05, 1.0), q=(0.9, 0.9))
    bad = grasp("missed", reward=(-0.05, 0.0), q=(0.1, 0.3))
    found = grasp_findings.overestimation([good, bad], LabelConfig(discount=0.9))
    expected = {"q": 0.55, "realised": 0.45, "difference": 0.1, "clipped": 0.0875, "first": 0.1}
    assert found == pytest.approx(expected | {"grasped": -0.025, "failed": 0.225})
    assert grasp_findings.overestimation([good], LabelConfig())["failed"] is None


def test_grasps_are_counted_by_shape_and_ending():
    heldout = [grasp(held=2), grasp("two objects"), grasp("two objects", "mug")]
    played = {"heldout": heldout, "train": [grasp("slipped", "mug")]}
    table = grasp_report.ending_table("t", played)
    assert table.columns == ("objects", "grasps", "grasped", "two objects", "slipped", "several held")
    assert table.rows == [("held-out", 3, 1, 2, 0, 1), ("training", 1, 0, 0, 1, 0)]
    assert json.loads(table.json())["rows"][0]["two objects"] == 2
    table = grasp_report.shape_table("t", played)
    assert table.columns[:5] == ("shape", "held-out", "held-out %", "training", "training %")
    assert table.rows == [("block", 2, 50.0, 0, None, 1, 1, 0, 1), ("mug", 1, 0.0, 1, 0.0, 0, 1, 1, 0)]


def test_films_show_held_out_objects_where_they_can():
    played = {
        "heldout": [grasp("missed", seed=seed) for seed in range(6)] + [grasp(seed=7)],
        "train": [grasp("missed", seed=1), grasp("slipped", seed=2), grasp(held=2, seed=3)],
    }
    assert grasp_report.chosen(played) == {
        "missed": ("heldout", [0, 1, 2, 3]),
        "slipped": ("train", [2]),
        "several held": ("train", [3]),
        GRASPED: ("heldout", [7]),
    }


def test_curves_count_effort_and_evaluations_once(tiny):
    of = grasp_findings.open_run(str(tiny))
    assert [x for x, _ in grasp_curves.curve(of, "given_success", EPISODES)] == [0.004, 0.008, 0.012, 0.016]
    assert [x for x, _ in grasp_curves.curve(of, "given_success", grasp_curves.UPDATES)] == [0, 0, 0.002, 0.004]
    assert [x for x, _ in grasp_curves.evaluations(of, "heldout", EPISODES)] == [0.008, 0.016]
    lines = {panel.title: panel.lines for panel in grasp_curves.panels(of)}
    assert lines["Time of a round"].keys() == set(grasp_curves.SECONDS.values())
    actual, scheduled = (lines["On-policy samples"][name] for name in ("actual", "scheduled"))
    assert actual[-1][0] == scheduled[-1][0] and abs(actual[-1][1] - scheduled[-1][1]) < 0.05


def test_the_command_of_a_run_names_its_lists():
    config = GraspLearning(run=RunConfig(rounds=3, first_rounds=1))
    options = compare.changes("grasp", json.loads(json.dumps(asdict(config))))
    assert "--run.rounds 3" in options
    assert compare._option("net.channels", [16, 32]) == "--net.channels 16 32"


def test_figures_are_drawn_the_same_each_time():
    steps = [plots.Steps("a", {"Q": [np.array([0.1, 0.4]), np.array([0.2])], "return": [np.array([0.0])]})]
    assert plots.step_plots(steps, "value") == plots.step_plots(steps, "value")
    shares = [plots.Shares("a", np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0.0, -1.0]), -2, 2)]
    assert plots.share_plots(shares, "z") == plots.share_plots(shares, "z")


def test_effort_counts_the_stages_before():
    config = replace(
        GraspLearning(run=RunConfig(rounds=10, first_rounds=2, environments=5, updates=100)),
        net=CompactConfig(sight="bottleneck"), prior=PriorConfig(rounds=6, updates=200),
    )  # fmt: skip
    rows = [
        {"stage": "control", "step": 4, "time_s": 60.0, "heldout": 0.5},
        {"stage": "qtopt", "step": 2, "time_s": 120.0, "heldout": 0.1},
        {"stage": "qtopt", "step": 4, "time_s": 180.0, "heldout": 0.6},
    ]
    of = grasp_findings.GraspRun("a", None, {}, config, rows, None)
    # Control: 6 rounds of 5 episodes, 4 of them with 200 updates.
    assert grasp_curves.curve(of, "heldout", EPISODES) == [(0.02, 0.5), (0.04, 0.1), (0.05, 0.6)]
    assert grasp_curves.curve(of, "heldout", grasp_curves.UPDATES) == [(0.4, 0.5), (0.8, 0.1), (1.0, 0.6)]
    assert len(grasp_curves.evaluations(of, "heldout", "minutes")) == 3


def test_members_have_a_curve_each_unless_they_learn_together():
    def named(together, stages):
        rows = [{"stage": stage, "step": 1, "time_s": 1.0, "heldout": 0.5} for stage in stages]
        config = GraspLearning(members=2, together=together)
        panels = grasp_curves.panels(grasp_findings.GraspRun("a", None, {}, config, rows, None))
        return next(list(panel.lines) for panel in panels if panel.title == f"Success by {EPISODES}")

    (alone,) = named(True, ["qtopt"])
    assert named(False, ["qtopt", "qtopt-2"]) == [f"{alone}, member 1", f"{alone}, member 2"]


def seeded(seed, name="run", beta=0.8, start="", rows=()):
    config = GraspLearning(net=CompactConfig(sight="aux", beta=beta), start=start, run=RunConfig(evaluate_every=2))
    return grasp_findings.GraspRun(
        f"{name}{seed}", None, {"experiment": "grasp", "seed": seed}, config, list(rows), None
    )


def test_runs_that_differ_in_seeds_alone_stand_together():
    runs = [seeded(0), seeded(1, start="off1"), seeded(0, "again"), seeded(1, "other", beta=0.2)]
    found = grasp_seeds.gathered(runs)
    assert list(found.values()) == [runs[:2], runs[3:]] and list(found)[1] == "other1"
    assert list(grasp_seeds.repeated(runs)) == [grasp_seeds.label(runs[0])]
    assert "--net.sight aux" in grasp_seeds.label(runs[0]) and "start" not in grasp_seeds.label(runs[1])
    assert grasp_seeds.table(runs[2:], lambda *_: 0.5, lambda _: None, {"train": "training"}) is None


def test_spread_over_seeds_by_hand():
    rates = {("run0", "heldout"): 0.9, ("run1", "heldout"): 0.92, ("run2", "heldout"): 0.97}
    minutes = {"run0": 30.0, "run1": 31.0, "run2": 32.0}
    table = grasp_seeds.table(
        [seeded(k) for k in range(3)],
        lambda run, objects: rates[run.name, objects],
        lambda run: minutes[run.name],
        {"heldout": "held-out"},
    )
    (name, *row), *others = table.rows
    assert not others and row[:2] == ["held-out", 3] and "grasp" in name
    # Deviations from 93 are -3, -1 and 4: (9 + 1 + 16) / 2 = 13.
    np.testing.assert_allclose(row[2:], [93, 13**0.5, 90, 97, 31])


def test_the_mean_curve_goes_as_far_as_all_seeds():
    def rows(*rates):
        return [
            {"stage": "qtopt", "step": 2 * k, "time_s": 60.0 * k, "heldout": r} for k, r in enumerate(rates, start=1)
        ]

    runs = [seeded(0, rows=rows(0.2, 0.4, 0.9)), seeded(1, rows=rows(0.4, 0.8))]
    panel = grasp_curves.of_seeds(runs)[0]
    assert panel.strong == "mean of 2" and panel.lines.keys() == {"seed 0", "seed 1", "mean of 2"}
    np.testing.assert_allclose(panel.lines["mean of 2"], [(1, 0.3), (2, 0.6)])
    assert panel.lines["seed 0"][2] == (3, 0.9)


def test_seeds_have_a_figure_of_their_own(tmp_path, tiny):
    for seed in (0, 1):
        run.write_config(tmp_path / f"s{seed}", "grasp", seed, GraspLearning(run=RunConfig(evaluate_every=2)))
        (tmp_path / f"s{seed}" / "metrics.jsonl").write_text((tiny / "metrics.jsonl").read_text())
    spoken([tmp_path / "s0", tmp_path / "s1"], tmp_path / "out")
    names = {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")}
    assert names == {"grasp-s0-learning", "grasp-s1-learning", "grasp-s0-seeds"}


def test_figures_are_those_of_a_policy_not_of_its_weights_alone(tiny, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        grasp_findings.GraspFindings, "_played", lambda self, name, path, objects, who, _: asked.append(who)
    )
    of = grasp_findings.open_run(str(tiny))
    found = grasp_findings.GraspFindings([of], tmp_path, GRASPS, Console(quiet=True))
    for both_ways in (False, True):
        config = SimpleNamespace(acting=of.config.acting, both_ways=both_ways)
        found.of_run(SimpleNamespace(name=of.name, learnt=of.learnt, config=config), "heldout")
    assert asked[0] != asked[1]
