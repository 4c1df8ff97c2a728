"""Do methods that should find what decides beat chance in every measure that can tell?"""

from __future__ import annotations

import math

import numpy as np
import pytest

import planted_audits
from planted_audits import METHODS, Question
from planted_worlds import PATCH, SIDE

WORLDS = ("color", "texture")
ERRORS_APART = 3.0
"""Standard errors of the paired difference; by chance one comparison in 700 lies so far out."""

NEARLY_FLAT = (
    "its map is positive everywhere and varies by a few percent, so that a share of its maximum marks everything"
)

EXCEPTIONS = {
    ("rise", "wsol_iou"): NEARLY_FLAT,
    ("rise", "wsol_iou_largest_region"): NEARLY_FLAT,
}
"""(method, metric) -> why the metric cannot tell it from chance."""


def advantage(world: str, question: Question, one: str, other: str) -> np.ndarray:
    """How much better the first explainer is, for each image where both have a value."""
    found = planted_audits.report(world)
    values = [np.array(planted_audits.score(found, question, name).per_image, float) for name in (one, other)]
    difference: np.ndarray = (values[0] - values[1]) * (1 if question.higher_is_better else -1)
    return difference[~np.isnan(difference)]


@pytest.mark.parametrize(
    ("method", "question"),
    [
        (method["kind"], question)
        for method in METHODS
        for question in planted_audits.QUESTIONS
        if (method["kind"], question.metric) not in EXCEPTIONS
    ],
    ids=str,
)
@pytest.mark.parametrize("world", WORLDS)
def test_a_method_that_finds_it_beats_chance(world: str, method: str, question: Question) -> None:
    better = advantage(world, question, method, "random")
    assert len(better) == planted_audits.IMAGES
    assert better.mean() > ERRORS_APART * better.std(ddof=1) / math.sqrt(len(better))


@pytest.mark.parametrize(("method", "metric"), EXCEPTIONS)
@pytest.mark.parametrize("world", WORLDS)
def test_an_exception_marks_the_whole_image(world: str, method: str, metric: str) -> None:
    found = planted_audits.result(planted_audits.report(world), "localization", metric, method)
    assert found.per_image == pytest.approx([(PATCH / SIDE) ** 2] * planted_audits.IMAGES, rel=1e-4)


@pytest.mark.parametrize("world", WORLDS)
def test_every_method_runs(world: str) -> None:
    assert planted_audits.report(world).not_applicable == {}


@pytest.mark.parametrize("question", planted_audits.QUESTIONS, ids=str)
@pytest.mark.parametrize("world", WORLDS)
def test_a_perfect_map_is_among_the_best(world: str, question: Question) -> None:
    """It marks the patch and says nothing of its parts, so that a method that finds the decisive edge may be ahead."""
    found = planted_audits.report(world)
    means = {name: planted_audits.score(found, question, name).mean for name in planted_audits.EXPLAINERS}
    sign = 1 if question.higher_is_better else -1
    best = max(sign * mean for mean in means.values() if mean is not None)
    perfect = means["perfect"]
    assert perfect is not None
    assert sign * perfect > best - question.resolution


@pytest.mark.parametrize("question", planted_audits.QUESTIONS, ids=str)
@pytest.mark.parametrize("world", WORLDS)
def test_a_map_of_the_wrong_place_is_the_worst(world: str, question: Question) -> None:
    found = planted_audits.report(world)
    sign = 1 if question.higher_is_better else -1
    means = {name: sign * (planted_audits.score(found, question, name).mean or 0) for name in planted_audits.EXPLAINERS}
    wrong = means.pop("wrong")
    assert all(wrong < mean + question.noise for mean in means.values())
    assert wrong < means["perfect"] - question.resolution


@pytest.mark.parametrize("world", WORLDS)
def test_a_random_map_sits_at_chance(world: str) -> None:
    found = planted_audits.report(world)
    for metric in ("inter_model_deletion", "srg"):
        deletion = planted_audits.result(found, "deletion", metric, "random")
        assert deletion.ci is not None
        assert deletion.ci[0] <= 0 <= deletion.ci[1]
    share = planted_audits.result(found, "localization", "box_share", None).mean
    pointing = planted_audits.result(found, "localization", "energy_pointing_game", "random").mean
    assert share is not None
    assert pointing == pytest.approx(share, rel=0.1)
    gain = planted_audits.result(found, "road", "road_gain", "random").mean
    assert gain == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("world", WORLDS)
def test_a_cue_that_the_model_does_not_use_is_not_found(world: str) -> None:
    """The second patch stands out as much as the first; only the model tells them apart.

    The gradient says what would change the class, not what made it, and an unused patch of sharp edges can do that: on
    some images it is larger there.
    """
    images, found = planted_audits.images(world), planted_audits.maps(world)
    for method, values in found.items():
        used, unused = ((values.abs() * place).sum((1, 2)) for place in (images.truth, images.second))
        least = 0.6 if method in {"gradient", "smoothgrad"} else 0.9
        assert (used > unused).float().mean() >= least, method
