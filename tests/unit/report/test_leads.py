"""The lead of the best explainer over the second best."""

from __future__ import annotations

import numpy as np
import pytest

import made_up_audits as made_up
from auditcore.contracts.report import ExplainerLead
from auditcore.contracts.shards import Measurement

IMAGES = 20
NOISE = np.random.default_rng(5).normal(0, 0.2, IMAGES)
"""What is hard in an image is hard for all explainers, so that only paired differences tell them apart."""


def leads(*rows: Measurement) -> tuple[ExplainerLead, ...]:
    return made_up.report(made_up.shard(None, {index: [1] for index in range(IMAGES)}, *rows)).leads


OWN = np.random.default_rng(6).normal(0, 1, IMAGES)


def values(shift: float, wobble: float = 0.01) -> list[float]:
    own = shift + wobble * (OWN - OWN.mean())
    return [round(float(value), 6) for value in 0.4 + NOISE + own]


def test_a_small_lead_on_every_image_is_clear_because_it_is_paired() -> None:
    (lead,) = leads(made_up.row("gradient", values(0.0)), made_up.row("grad_cam", values(0.05, -0.01)))
    assert (lead.best, lead.second, lead.n) == ("grad_cam", "gradient", IMAGES)
    assert lead.difference == pytest.approx(0.05, abs=1e-5)
    assert lead.ci is not None
    assert lead.ci[0] > 0.03
    assert lead.clear


def test_a_lead_within_chance_is_not_clear() -> None:
    (lead,) = leads(made_up.row("gradient", values(0.0, 0.1)), made_up.row("grad_cam", values(0.01, -0.1)))
    assert lead.ci is not None
    assert lead.ci[0] < 0 < lead.ci[1]
    assert not lead.clear


def test_where_lower_is_better_the_lead_is_below_zero() -> None:
    (lead,) = leads(
        made_up.row("gradient", values(0.0), higher_is_better=False),
        made_up.row("grad_cam", values(0.05, -0.01), higher_is_better=False),
    )
    assert (lead.best, lead.difference) == ("gradient", pytest.approx(-0.05, abs=1e-5))
    assert lead.clear


def test_controls_and_single_explainers_have_no_lead_and_images_are_shared() -> None:
    assert leads(made_up.row("gradient", values(0.0)), made_up.row("random", values(0.5))) == ()
    gap = [None, *values(0.1)[1:]]
    (lead,) = leads(
        made_up.row("gradient", values(0.0)), made_up.row("grad_cam", gap), made_up.row("input_x_gradient", values(-1))
    )
    assert {lead.best, lead.second} == {"gradient", "grad_cam"}
    assert lead.n == IMAGES - 1
