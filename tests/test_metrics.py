import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handeye.metrics import MetricsWriter, median_interval, read_rows, wilson


def test_wilson_agrees_with_published_numbers():
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_is_symmetric(counts):
    successes, trials = counts
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    mirrored = wilson(trials - successes, trials)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("counts", [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(counts):
    with pytest.raises(ValueError, match="successes"):
        wilson(*counts)


def test_median_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [median_interval(rng.exponential(size=400)) for _ in range(500)]
    assert 0.92 < np.mean([low <= math.log(2) <= high for low, high in intervals]) <= 0.99


@given(st.lists(st.floats(-10, 10), min_size=1))
def test_median_interval_lies_within_the_values(values):
    low, high = median_interval(values)
    assert min(values) <= low <= np.median(values) <= high <= max(values)


@pytest.fixture
def writer(tmp_path):
    writer = MetricsWriter(tmp_path)
    yield writer
    writer.close()


def test_rows_say_stage_step_time_and_values(writer):
    writer.write("sim", 5, {"loss": 0.5, "rate": math.nan})
    (row,) = read_rows(writer.path)
    assert (row["stage"], row["step"], row["loss"], row["rate"]) == ("sim", 5, 0.5, None)
    assert row["time_s"] >= 0


def test_rewind_drops_what_came_after_the_save_in_that_stage_only(writer):
    for stage, step in [("a", 1), ("a", 9), ("b", 1), ("b", 2), ("b", 3)]:
        writer.write(stage, step, {})
    writer.rewind("b", 2)
    assert [(row["stage"], row["step"]) for row in read_rows(writer.path)] == [("a", 1), ("a", 9), ("b", 1), ("b", 2)]


def test_a_line_cut_short_by_a_crash_is_left_out(writer):
    writer.write("a", 1, {})
    with writer.path.open("a") as file:
        file.write('{"stage": "a", "st')
    assert len(read_rows(writer.path)) == 1
    writer.rewind("a", 1)
    writer.write("a", 2, {})
    assert [json.loads(line)["step"] for line in writer.path.read_text().splitlines()] == [1, 2]


def test_time_goes_on_after_a_resume(tmp_path, writer):
    writer.offset_s = 100.0
    writer.write("a", 1, {})
    later = MetricsWriter(tmp_path)
    later.write("a", 2, {})
    later.close()
    assert all(row["time_s"] >= 100 for row in read_rows(writer.path))
