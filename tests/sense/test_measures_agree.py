"""Do measures of the same thing put explainers into the same order?"""

from __future__ import annotations

from itertools import combinations

import pytest
from scipy.stats import spearmanr

import planted_audits
from planted_audits import QUESTIONS, Question

REMOVAL = [question for question in QUESTIONS if question.check != "localization"]
LOCALIZATION = [question for question in QUESTIONS if question.check == "localization"]
LEAST = 0.5
"""Rank correlation over explainers. Those that find the truth are nearly equal, so that their order among themselves is
partly chance; good and bad ones must be told apart by every measure alike."""


def scores(world: str, question: Question) -> list[float]:
    """Mean of every explainer, better ones higher."""
    found = planted_audits.report(world)
    sign = 1 if question.higher_is_better else -1
    return [sign * (planted_audits.score(found, question, name).mean or 0) for name in planted_audits.EXPLAINERS]


@pytest.mark.parametrize("world", ["color", "texture"])
@pytest.mark.parametrize("pair", [*combinations(REMOVAL, 2), *combinations(LOCALIZATION, 2)], ids=str)
def test_measures_of_the_same_thing_agree(world: str, pair: tuple[Question, Question]) -> None:
    assert spearmanr(*(scores(world, question) for question in pair)).statistic > LEAST


@pytest.mark.parametrize("world", ["color", "texture"])
def test_the_good_and_the_bad_are_told_apart_by_all(world: str) -> None:
    """The three maps that know nothing are the last three of every measure that can tell."""
    for question in QUESTIONS:
        ranked = sorted(zip(scores(world, question), planted_audits.EXPLAINERS, strict=True))
        last = {name for _, name in ranked[:4]}
        assert len(last & {"wrong", "random", "center"}) >= 2, question
