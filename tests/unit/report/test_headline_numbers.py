"""The headline means under names that metric stores accept."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditcore.report.headline_numbers import MOST_CHARACTERS, headline_numbers
from made_up_audits import report as made_up
from made_up_audits import row, shard

IMAGES = {index: [1] for index in range(10)}
VALUES = [0.5 + index / 100 for index in range(10)]
LEGAL = re.compile(r"[A-Za-z0-9_.\- /]+")


def test_every_headline_mean_has_a_name_and_nothing_else_has() -> None:
    none = row("gradient", [None] * 10, metric="inter_model_deletion", reasons=dict.fromkeys(range(10), "no map"))
    found = headline_numbers(
        made_up(
            shard(
                None,
                IMAGES,
                row("grad_cam", VALUES, metric="inter_model_deletion"),
                row("grad_cam", VALUES, metric="lerf_auc"),
                none,
                row("grad_cam", VALUES, check="sweep", metric="s_pearson", variant="rotate", unit="ratio"),
            )
        )
    )
    assert found == {"deletion/inter_model_deletion/grad_cam": 0.545, "sweep/s_pearson.rotate/grad_cam": 0.545}


def test_models_of_a_comparison_come_first() -> None:
    rows = row("grad_cam", VALUES, metric="inter_model_deletion")
    found = headline_numbers(made_up(shard("one", IMAGES, rows), shard("two", IMAGES, rows)))
    assert list(found) == ["one/deletion/inter_model_deletion/grad_cam", "two/deletion/inter_model_deletion/grad_cam"]


@settings(deadline=None)  # the machine of CI does other work beside it
@given(st.text(min_size=1, max_size=300))
@example("..")
@example("a/../../b")
@example(":" * 300)
def test_any_name_of_an_explainer_becomes_legal(name: str) -> None:
    report = made_up(shard(None, IMAGES, row("grad_cam", VALUES, metric="inter_model_deletion")))
    plan = report.plan.model_copy(
        update={
            "explainers": tuple(
                one.model_copy(update={"name": name}) if one.label == "grad_cam" else one
                for one in report.plan.explainers
            )
        }
    )
    results = tuple(
        one.model_copy(update={"explainer": name}) if one.explainer == "grad_cam" else one for one in report.results
    )
    (found,) = headline_numbers(report.model_copy(update={"plan": plan, "results": results}))
    assert LEGAL.fullmatch(found)
    assert len(found) <= MOST_CHARACTERS
    assert not {"..", ".", ""} & set(found.split("/"))
