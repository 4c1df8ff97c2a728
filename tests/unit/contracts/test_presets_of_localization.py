"""The presets arun2021 and saporta2022 against what the papers prescribe, and what is missing is said."""

from __future__ import annotations

from auditcore.contracts.plan import PresetName, PresetPlan
from auditcore.contracts.presets import PRESETS, checks_of_several_models, resolve_plan
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
    # agreement is repeatability and reproducibility, of two other models
    Prescribed("checks", ["localization", "randomization", "agreement"], "abstract: four criteria"),
    Prescribed("checks.agreement.window", 7, "published code, repeatability_scores_rsna.py"),
    Prescribed("checks.agreement.normalize", "min_max", "published code, create_maps_rsna.py, saliency_ttest"),
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


def test_an_audit_of_one_model_leaves_out_the_comparison_of_models_and_the_summary_says_so() -> None:
    preset = PresetPlan(preset="arun2021", seed=3)
    assert [check.label for check in resolve_plan(preset, several_models=False).checks] == [
        "localization",
        "randomization",
    ]
    several = resolve_plan(preset)
    assert [check.label for check in several.checks] == ["localization", "randomization", "agreement"]
    assert checks_of_several_models(preset) == ("agreement",)
    assert checks_of_several_models(several) == ()
    assert "An audit of one model leaves out the comparison of models" in PRESETS["arun2021"].summary
