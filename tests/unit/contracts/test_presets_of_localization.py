"""The presets arun2021 and saporta2022 against what the papers prescribe, and what is missing is said."""

from __future__ import annotations

from auditcore.contracts.plan import PresetName
from auditcore.contracts.presets import PRESETS
from paper_table import Prescribed, deviations, unlisted

ARUN = (
    Prescribed("checks.randomization.similarity", "ssim", "materials and methods, cascading randomization"),
    Prescribed(
        "explainers",
        [
            "gradient",
            "smoothgrad",
            "integrated_gradients",
            "smooth_integrated_gradients",
            "xrai",
            "grad_cam",
            "guided_backpropagation",
            "guided_grad_cam",
        ],
        "abstract and materials and methods: eight methods",
        disclosed="XRAI is missing",
    ),
    Prescribed(
        "checks",
        ["localization", "randomization", "repeatability", "reproducibility"],
        "abstract: four criteria",
        disclosed="no check compares maps of two models",
    ),
)

SAPORTA = (
    Prescribed("target", "label", "methods: pathologies that are present"),
    Prescribed(
        "explainers",
        [
            "grad_cam",
            "grad_cam_plus_plus",
            "integrated_gradients",
            "eigen_cam",
            "deep_lift",
            "lrp_epsilon_plus_flat",
            "occlusion",
        ],
        "methods: seven methods",
        disclosed="Grad-CAM++ and Eigen-CAM are missing",
    ),
    Prescribed("checks.localization.mask_threshold", "otsu", "methods: Otsu's method"),
    Prescribed("checks.localization.tolerance_px", 0, "methods: hit rate"),
)

TABLES: dict[PresetName, tuple[Prescribed, ...]] = {"arun2021": ARUN, "saporta2022": SAPORTA}


def test_every_difference_from_the_papers_is_said() -> None:
    for name, table in TABLES.items():
        assert deviations(name, table) == []


def test_every_changed_setting_has_a_source() -> None:
    for name, table in TABLES.items():
        assert unlisted(name, table) == []


def test_the_summary_says_what_arun2021_does_not_measure() -> None:
    assert "Without the paper's repeatability and reproducibility" in PRESETS["arun2021"].summary
