"""The preset won2023 against a table of the settings that Won et al. 2025 print."""

from __future__ import annotations

from typing import Any

import pytest

from auditcore.contracts.presets import PRESETS, setting_value

PRESET = PRESETS["won2023"]
PLAN = PRESET.build(0)

PAPER: dict[str, tuple[str, Any]] = {
    "target": ("3.3: 'correctly classified', so the label is the predicted class", "label"),
    "only_correct": ("3.3: 'correctly classified'", True),
    "explainers": (
        "2.3 and tables 2, 5, 6: GradCAM, IBA, SmoothGrad, IntGrad, GBP",
        ["grad_cam", "iba", "smoothgrad", "integrated_gradients", "guided_backpropagation"],
    ),
    "explainers.iba.beta": ("3.2: 'Per-Sample Bottleneck and set beta = 10'", 10.0),
    "explainers.smoothgrad.samples": ("3.2: 'iterated over 50 times to generate noisy samples'", 50),
    "explainers.smoothgrad.std": ("3.2: 'standard deviation of Gaussian perturbations to 0.15'", 0.15),
    # null: 14 for sides of at least 128 pixels, else 8
    "checks.deletion.grid": ("3.5.3: 14 for ImageNet, 8 for CIFAR-10", None),
    "checks.deletion.repeats": ("3.5.2: 'five different random orders per image'", 5),
    "checks.deletion.fill": ("3.5.2: 'a constant value (e.g., an average pixel value)'", "mean"),
    "checks.localization.min_probability": ("3.3: 'model scores higher than 0.6'", 0.6),
    "checks.localization.box_share": ("3.3: 'less than 50% and more than 10% of the original image'", [0.1, 0.5]),
    # how the ratio divides is no parameter; the kind of the check stands for the check as a whole
    "checks.localization": ("3.3: 'the energy in the ground-truth bounding box'", "localization"),
}
"""Path -> where the paper says so, and what."""

OURS: dict[str, Any] = {
    "explainers.grad_cam.layer": None,
    "explainers.iba.layer": None,
    "explainers.integrated_gradients.steps": 50,
    "explainers.integrated_gradients.baseline": "mean",
    "checks.deletion.rank_by": "auto",
    "checks.deletion.reduce": "sum",
    "checks.localization.threshold": 0.2,
}
"""Path -> our choice, where the paper is silent."""


@pytest.mark.parametrize("path", PAPER)
def test_a_setting_equals_that_of_the_paper(path: str) -> None:
    _where, value = PAPER[path]
    found = setting_value(PLAN, path)
    # by the same list that JSON has
    assert (list(found) if isinstance(found, tuple) else found) == value


@pytest.mark.parametrize("path", OURS)
def test_a_setting_that_the_paper_does_not_name_is_called_ours(path: str) -> None:
    assert setting_value(PLAN, path) == OURS[path]


def test_the_table_of_the_preset_lists_the_sources() -> None:
    sources = {setting.path: setting.source for setting in PRESET.settings}
    assert sources == dict.fromkeys(PAPER, "paper") | dict.fromkeys(OURS, "ours")


def test_the_checks_are_those_of_the_paper() -> None:
    """Sections 3.3 and 3.5: localization, deletion by relevance and by chance."""
    assert [check.label for check in PLAN.checks] == ["deletion", "localization"]


def test_the_baseline_matches_the_fill() -> None:
    assert setting_value(PLAN, "explainers.integrated_gradients.baseline") == setting_value(
        PLAN, "checks.deletion.fill"
    )
