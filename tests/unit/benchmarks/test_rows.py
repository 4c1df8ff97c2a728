import json
from dataclasses import replace

import pytest

from auditcore.contracts.checks import EddaCheck
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan
from auditcore.costs.estimate import passes_of
from benchmarks.cases import cases
from benchmarks.ideal import Passes, Rates
from benchmarks.naive import scaled_seconds
from benchmarks.rows import ROW_KEYS, Measured, images_for, row_of
from benchmarks.table import line_of, markdown

MEASURED = Measured(
    images=4,
    seconds=2.0,
    made=Passes(forward=100, backward=20),
    needed=Passes(forward=80, backward=20),
    naive_seconds=5.0,
    naive_steps="1 image, 3 of 6 steps, scaled by steps",
    rates=Rates(forward=100.0, gradient=25.0),
    folded=Rates(forward=200.0, gradient=50.0),
    micro_batch=4,
    peak_bytes=3 * 1024**2,
    before_bytes=1024**2,
)


def test_a_row_matches_the_header_of_the_file() -> None:
    row = json.loads(json.dumps(row_of("demo", cases()[0], MEASURED)))
    assert tuple(row)[: len(ROW_KEYS)] == ROW_KEYS
    assert row["check"] == "sweep"
    assert row["explainer"] == "gradient"
    assert row["passes_made"] == 120
    assert row["passes_needed"] == 100
    assert row["engine_efficiency"] == pytest.approx((80 / 100 + 20 / 25) / 2.0)
    assert row["efficiency_of_folded_model"] == pytest.approx((80 / 200 + 20 / 50) / 2.0)
    # naive seconds are those of one image
    assert row["speedup_over_naive"] == pytest.approx(5.0 / 0.5)
    assert row["peak_memory_bytes"] == 3 * 1024**2


def test_the_table_marks_scaled_rows_and_wasted_work() -> None:
    line = line_of(row_of("demo", cases()[0], MEASURED))
    assert "10.0 *" in line
    assert "120 / 100 = 1.20" in line
    exact = replace(MEASURED, needed=MEASURED.made, naive_steps="1 image, 6 of 6 steps")
    line = line_of(row_of("demo", cases()[0], exact))
    assert "10.0" in line
    assert "120 / 120" in line


def test_markdown_has_every_row_and_names_the_machine() -> None:
    rows = [row_of("demo", case, MEASURED) for case in cases()]
    bench = {
        "machine": {"processor": "Abacus", "threads": 2},
        "versions": {"torch": "2.0"},
        "date": "2026-11-25T00:00:00+00:00",
        "seconds": 600.0,
        "rows": rows,
        "foreign": [],
        "relevance": [],
    }
    lines = markdown(bench).splitlines()
    assert lines[0] == "Abacus, 2 threads, torch 2.0, 2026-11-25, 10 minutes"
    assert sum(line.startswith("| demo |") for line in lines) == len(rows)
    assert {line.count("|") for line in lines[2 : 4 + len(rows)]} == {11}


def test_images_follow_from_the_time() -> None:
    plan = AuditPlan(explainers=(Gradient(),), checks=(EddaCheck(),))
    an_image_s = passes_of(plan, wave="compute") / 100
    rates = Rates(forward=100.0, gradient=50.0)
    assert images_for(plan, rates, 4.5 * an_image_s, most=8) == 4
    assert images_for(plan, rates, 100 * an_image_s, most=8) == 8
    assert images_for(plan, rates, 0.1 * an_image_s, most=8) == 1


def test_the_papers_way_is_scaled_only_by_steps() -> None:
    assert scaled_seconds(once_s=2.0, steps_s=3.0, done=6, count=20) == pytest.approx(2 + 10)
    assert scaled_seconds(once_s=2.0, steps_s=3.0, done=20, count=20) == pytest.approx(5)
    with pytest.raises(ValueError, match="between 1 and 20"):
        scaled_seconds(once_s=2.0, steps_s=0.0, done=0, count=20)


def test_every_requested_case_is_there() -> None:
    found = {(case.check, case.explainer) for case in cases()}
    checks = {"sweep", "deletion", "edda", "pixel_flipping", "sensitivity", "insertion_deletion"}
    assert {(check, "gradient") for check in checks} <= found
    methods = {"gradient", "input_x_gradient", "integrated_gradients", "grad_cam", "guided_backpropagation"}
    methods |= {"lrp_epsilon_plus_flat", "lrp_epsilon_gamma_box", "lrp_epsilon_alpha2_beta1_flat"}
    assert {("sweep", method) for method in methods} <= found
    assert any("+" in check and "+" in explainer for check, explainer in found)
