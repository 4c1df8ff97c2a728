"""The preset li2021 against a table of what the paper says, section by section."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from auditcore.contracts.checks import EddaCheck, InsertionDeletionCheck
from auditcore.contracts.presets import PRESETS, Setting, setting_value

PRESET = PRESETS["li2021"]
PLAN = PRESET.build(0)
SETTINGS = {setting.path: setting for setting in PRESET.settings}


class Stated(NamedTuple):
    """What the paper says of one setting.

    Attributes:
        value: In the words of a plan; None where the paper says nothing or something that a plan cannot hold.
        where: Section, appendix or equation, as the preset's note names it.
        quote: The paper's words.
    """

    value: Any
    where: str
    quote: str


PAPER = {
    "target": Stated("predicted", "Section 4.2", "the confidence score with respect to the predicted label"),
    "only_correct": Stated(value=False, where="Equation 5", quote="1/N sum over i = 1..N"),
    "explainers.grad_cam": Stated(
        "grad_cam",
        "Section 4.2",
        "the gradients of any target concept flowing into the final convolutional layer",
    ),
    "explainers.random": Stated(
        None, "Section 4.2", "it attributes a random saliency score to every pixel uniformly in the range of [0,1]"
    ),
    "checks.edda.keep": Stated(
        [0.15, 0.3, 0.5],
        "Section 4.2",
        "we set the top 15% as the threshold ... We also tried other thresholds including 30% and 50%",
    ),
    "checks.edda.rank_by": Stated(None, "Section 4.2", "we set the top 15% as the threshold"),
    "checks.edda.thresholds": Stated(
        [0.2, 0.5],
        "Appendix B",
        "(0.5, 0.5) for ResNet-50 CIFAR-100 models, and (0.2, 0.2) for VGG-16 CIFAR-100 models ... set to 0.5 for both",
    ),
    "checks.edda.color": Stated("black", "Equations 3 and 4", "x ⊙ (s > tau_umask), x ⊙ (s < tau_imask)"),
    "checks.edda.min_probability": Stated(None, "Equation 5", "max(0, phi(x) - phi(x_umask)) / phi(x) x 100"),
    "checks.insertion_deletion.games": Stated(
        ["deletion_black", "deletion_blur", "insertion_black", "insertion_blur"],
        "Appendix C",
        "we have tried masking with blur and masking with zero (a black masking)",
    ),
    "checks.insertion_deletion.rank_by": Stated(None, "Appendix C", "Deletion game and Insertion game"),
    "checks.insertion_deletion.pixels_per_step": Stated(
        None, "appendix C", "following previous works on Deletion game and Insertion game"
    ),
}


def disclosed(setting: Setting, stated: Stated) -> bool:
    """Whether a note tells where the paper says something, and a setting that the paper has not does not claim it."""
    return stated.where in setting.note and (stated.value is not None or setting.source == "ours")


@pytest.mark.parametrize("path", PAPER)
def test_the_preset_follows_the_paper_or_documents_the_difference(path: str) -> None:
    stated, setting = PAPER[path], SETTINGS[path]
    assert disclosed(setting, stated), setting
    if setting.source == "paper":
        assert setting_value(PLAN, path) == stated.value


def test_no_setting_claims_the_paper_without_a_line_of_it() -> None:
    assert set(SETTINGS) == set(PAPER)


def test_nothing_runs_that_the_paper_does_not_have() -> None:
    assert setting_value(PLAN, "explainers") == ["grad_cam", "random"]
    assert setting_value(PLAN, "checks") == ["edda", "insertion_deletion"]


def test_what_the_preset_does_not_list_is_as_the_contracts_have_it() -> None:
    listed = {path.removeprefix("checks.").split(".")[1] for path in SETTINGS if path.startswith("checks.")}
    for check in PLAN.checks:
        assert isinstance(check, (EddaCheck, InsertionDeletionCheck))
        plain = type(check)()
        for field in type(check).model_fields:
            assert field in listed or getattr(check, field) == getattr(plain, field), (check.kind, field)


def test_a_deviation_without_a_note_is_found() -> None:
    setting, stated = SETTINGS["checks.edda.min_probability"], PAPER["checks.edda.min_probability"]
    assert not disclosed(setting.model_copy(update={"source": "paper"}), stated)
    assert not disclosed(setting.model_copy(update={"note": "0.01"}), stated)
