import csv
import dataclasses
import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import tiny_runs
from handeye import compare, findings, page, plots, reach, reach_video, report, video
from handeye.errors import Failure
from handeye.evaluate import reach_figures
from handeye.modular.control import ControlConfig
from handeye.modular.finetune import FinetuneConfig
from handeye.modular.perception import PerceptionConfig

SMALL = findings.Protocol(trials=4, camera_trials=3, few=2, pictures=60, filmed=1)


@pytest.fixture(autouse=True, scope="module")
def few_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reach, "HELD_OUT", 20)
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_runs.make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def written(tiny, tmp_path_factory):
    """The folder of a report of the tiny run, and its page."""
    out = tmp_path_factory.mktemp("report")
    return out, spoken([tiny], out)[0]


def spoken(runs, out, protocol=SMALL):
    """The page, and what was said on the way."""
    heard = io.StringIO()
    path = report.write_report([str(run) for run in runs], out, Console(file=heard, width=200), protocol)
    return path.read_text(), heard.getvalue()


def known(runs, out):
    opened = [findings.open_run(str(run)) for run in runs]
    return findings.Findings(opened, out, SMALL, Console(file=io.StringIO())), opened


def test_a_run_that_cannot_be_written_to_can_be_reported_on(tmp_path):
    (tmp_path / "file").touch()
    remembered = findings.Memory([tmp_path / "file" / "evaluation.json"])
    assert remembered.get(tmp_path / "file" / "evaluation.json", "key", lambda: 7) == 7


def test_only_runs_that_differ_in_seeds_alone_are_repetitions():
    def made(name, seed, naive_steps):
        config = {"finetuned": {"beta": 0.8, "seed": seed}, "naive": {"steps": naive_steps, "seed": seed}}
        return findings.Run(name, None, {"experiment": "reach-quick", "seed": 0, "config": config}, [], None)

    runs = [made("a", 0, 5), made("b", 1, 5), made("c", 2, 7)]
    assert [[run.name for run in group] for group in compare.variants(runs, ())] == [["a", "b"], ["c"]]
    assert [[run.name for run in group] for group in compare.variants(runs, ("naive",))] == [["a", "b", "c"]]


def test_page_needs_nothing_from_outside(written):
    out, html = written
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', html)
    assert sources and all(source.startswith(("data:image/", "#s")) for source in sources)
    assert "http" not in re.sub(r"base64,[^\"]*", "", html)
    assert html.count("data:image/webp") == len(report.FILMED)
    assert len(list((out / "videos").glob("*.webp"))) == len(report.FILMED)
    assert not list(out.rglob("*.partial"))


def test_table_says_what_was_measured_beside_what_was_published(written, tiny):
    out, _ = written
    rows = json.loads((out / "tables" / "reach-quick-table1.json").read_text())["rows"]
    measured, runs = known([tiny], out)
    ours = reach_figures(measured.trials(runs[0], "finetuned", "sim"))
    found = {(row["net"], row["source"]): row for row in rows}
    assert found["Fine-tuned", "ours"]["d_med cm"] == pytest.approx(ours["d_med_cm"])
    assert found["Fine-tuned", "paper"]["d_med cm"] == 3.568
    assert found["CR", "paper"]["mean return"] == 0.761
    assert 0 < found["floor", "ours"]["d_med cm"] < found["Initial", "ours"]["d_med cm"]
    lines = list(csv.DictReader((out / "tables" / "reach-quick-table1.csv").read_text().splitlines()))
    assert [line["net"] for line in lines] == [row["net"] for row in rows]
    assert "| Fine-tuned | paper | 3.568 |" in (out / "tables" / "reach-quick-table1.md").read_text()


def test_derived_claims_are_those_of_the_paper():
    derived = dict(report._derived(report.PUBLISHED))
    assert [round(value, 1) for value in list(derived.values())[:2]] == [22.4, 96.2]


def test_no_ratio_to_a_return_that_is_not_positive():
    assert report._larger(0.5, -0.1) is None
    assert report._larger(0.5, 0.25) == pytest.approx(100)


def test_second_report_measures_nothing_anew(written, tmp_path, tiny):
    again, said = spoken([tiny], tmp_path)
    assert again == written[1]
    assert "trials in" not in said and "perception in" not in said
    assert (tiny / "report" / "evaluation.json").is_file()


def test_changed_weights_are_measured_anew(tmp_path):
    folder = tiny_runs.make_run(tmp_path / "run")
    measured, runs = known([folder], tmp_path)
    before = measured.trials(runs[0], "initial", "sim").final_m
    tiny_runs.make_run(folder, seed=1)
    measured, runs = known([folder], tmp_path)
    assert not np.array_equal(measured.trials(runs[0], "initial", "sim").final_m, before)


def test_runs_with_the_same_networks_share_their_trials(tmp_path, monkeypatch):
    runs = [tiny_runs.make_run(tmp_path / name) for name in "ab"]
    measured, opened = known(runs, tmp_path)
    expected = measured.trials(opened[0], "initial", "sim").returns
    monkeypatch.setattr(findings, "_run_trials", None)
    np.testing.assert_array_equal(measured.trials(opened[1], "initial", "sim").returns, expected)
    np.testing.assert_array_equal(measured.trials(opened[0], "initial", "sim", few=True).returns, expected[:2])


def test_report_of_an_unfinished_run_shows_its_curves(tmp_path):
    folder = tiny_runs.make_run(tmp_path / "run", finished=False)
    html, _ = spoken([folder], tmp_path / "out")
    assert "Not trained to the end" in html and "data:image/png" in html
    assert (tmp_path / "out" / "figures" / "learning.png").is_file()
    assert not (tmp_path / "out" / "tables").exists()


def test_shipped_checkpoint_is_remembered_beside_the_report(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(findings.checkpoint, "shipped", lambda: {"ours": tiny / "checkpoints" / "final.safetensors"})
    measured, runs = known(["ours"], tmp_path)
    assert (runs[0].folder, runs[0].rows, runs[0].experiment) == (None, [], "reach-quick")
    assert len(measured.trials(runs[0], "control", "camera").final_m) == SMALL.camera_trials
    assert (tmp_path / "ours" / "evaluation.json").is_file()


def test_adapted_perception_errs_in_pixels(tmp_path, tiny):
    measured, runs = known([tiny], tmp_path)
    maps = measured.error_maps(runs[0], "initial", "sim")
    assert maps["target"].shape == maps["hand"].shape == (findings.MAP_CELLS, findings.MAP_CELLS)
    assert np.nanmax(maps["target"]) < 200 and np.isnan(maps["target"][:, -1]).all()


def test_not_a_run_is_refused(tmp_path):
    with pytest.raises(Failure, match="not a run's folder"):
        spoken([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_report_without_matplotlib_says_what_to_install(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Failure, match=r"handeye\[report\]"):
        spoken([tiny], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sweeps_and_repetitions_come_from_the_runs_that_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(reach_video, "film", lambda *args: [video.Image.new("RGB", (8, 8))] * 2)
    half, other, alone = FinetuneConfig(beta=0.5), FinetuneConfig(seed=1), PerceptionConfig(camera_share=1.0)
    runs = [
        tiny_runs.make_run(tmp_path / "first"),
        tiny_runs.make_run(tmp_path / "half", seed=1, finetuned=half),
        tiny_runs.make_run(tmp_path / "again", seed=2, finetuned=other),
        tiny_runs.make_run(tmp_path / "share", seed=3, adapted=PerceptionConfig(camera_share=0.25)),
        tiny_runs.make_run(tmp_path / "alone", seed=4, sim=alone, adapted=alone),
        tiny_runs.make_run(tmp_path / "seen", seed=5, until="finetuned", finetuned=FinetuneConfig(beta=1.0)),
    ]
    html, _ = spoken(runs, tmp_path / "out")
    tables = tmp_path / "out" / "tables"
    beta = json.loads((tables / "beta.json").read_text())["rows"]
    assert [(row["β"], row["networks"]) for row in beta] == [(0.0, 3), (0.5, 1), (0.8, 2), (1.0, 1)]
    share = json.loads((tables / "camera-share.json").read_text())["rows"]
    assert [row["share of camera pictures"] for row in share] == [0.0, 0.25, 0.75, "RW: camera pictures alone"]
    assert share[-1]["networks"] == 1 and share[-1]["sim perception px"] > 0
    assert share[0]["sim d_med cm"] is None and share[0]["camera perception px"] > 0
    seeds = json.loads((tables / "seeds.json").read_text())["rows"]
    assert {row["networks"] for row in seeds} == {2}
    assert all(row["min"] <= row["mean"] <= row["max"] for row in seeds)
    assert len(json.loads((tables / "runs.json").read_text())["rows"]) == 5
    assert "For a plot over" not in html


def test_labels_name_what_differs(tmp_path):
    greedy = ControlConfig(exploration="epsilon-greedy")
    runs = [tiny_runs.make_run(tmp_path / "a"), tiny_runs.make_run(tmp_path / "b", control=greedy)]
    opened = [findings.open_run(str(run)) for run in runs]
    assert compare.labels(opened, "control") == ["exploration=k-gps", "exploration=epsilon-greedy"]
    assert compare.labels(opened) == ["control.exploration=k-gps", "control.exploration=epsilon-greedy"]
    assert compare.labels(opened, "sim") == [str(run) for run in runs]
    assert compare.distinct(opened, "sim") == opened[:1]
    assert compare.labels(opened[:1]) == ["reach-quick"]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(reach.ReachConfig)])
def test_every_setting_decides_some_stage(field):
    assert any(field.startswith(names) for names in compare.STAGE_SETTINGS.values())


def test_changes_are_options_of_train(tmp_path):
    opened = findings.open_run(
        str(tiny_runs.make_run(tmp_path, finetuned=FinetuneConfig(freeze_control=True, learning_rate=0.02)))
    )
    changes = compare.changes(opened.experiment, opened.about["config"])
    assert "--env.max-steps 6" in changes
    assert "--finetuned.freeze-control" in changes
    assert "--finetuned.learning-rate 0.02" in changes


def test_maps_have_their_errors_where_the_target_is():
    at = np.array([[80.0, 3.0]] * 3 + [[10.0, 40.0]])
    grid = findings._binned_median(np.array([1.0, 2.0, 9.0, 5.0]), at)
    assert grid[0][11] == 2.0
    assert sum(cell is not None for row in grid for cell in row) == 1


def test_smoothing_keeps_length_mean_and_constants():
    values = np.arange(20.0)
    np.testing.assert_allclose(plots.smoothed(values, 5)[4:-4], values[4:-4])
    np.testing.assert_allclose(plots.smoothed(np.full(7, 3.0), 4), 3.0)
    np.testing.assert_array_equal(plots.smoothed(values, 1), values)


def test_names_of_any_length_fit_beside_their_curves():
    assert plots.wrapped("β = 0.5") == "β = 0.5"
    assert plots.wrapped("reach-paper, β = 0.5, seed = 0, control") == "reach-paper,\nβ = 0.5,\nseed = 0,\ncontrol"
    path = "/a/folder/" + "far/" * 30 + "run"
    assert max(map(len, plots.wrapped(path).split("\n"))) <= plots.NAME_LENGTH
    line = [(0.0, 1.0), (1.0, 2.0)]
    # Matplotlib warns, which is an error here, where names leave no room for the curves.
    assert plots.learning_curves([plots.Curves("a", "b", {path: line, path[:-1]: line})])


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (-0.5, "m", "−0.500"), (-0.0004, "m", "0.000"), (-12.345, "m", "−12.35"), (-0.04, "rate %", "0.0"),
        (None, "m", "–"), (-3, "count", "-3"),
    ],
)  # fmt: skip
def test_figures_are_shown_rounded_and_nothing_is_less_than_nothing(cell, column, text):
    assert page.show(cell, column) == text


def test_tables_show_and_escape():
    table = page.Table("t", "a < b", ("what", "rate %"), [("<b>|", 12.345), ("none", None)])
    assert "<td>&lt;b&gt;|</td><td class=figure>12.3</td>" in table.html()
    assert table.csv() == "what,rate %\n<b>|,12.345\nnone,\n"
    assert "| <b>\\| | 12.3 |" in table.markdown() and "| none | – |" in table.markdown()
    assert replace(table, rows=[]).html().count("<th") == 3


def test_figures_are_drawn_the_same_each_time():
    boxes = [plots.Boxes("a", {"Initial": np.array([1.0, 2.0, 50.0]), "CR": np.array([3.0, 3.0])}, {"CR": 3.4})]
    assert plots.box_plots(boxes) == plots.box_plots(boxes)
