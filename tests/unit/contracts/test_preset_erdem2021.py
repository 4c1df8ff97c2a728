"""The preset erdem2021 against the thesis: every setting it gives, with its section, and notes where we differ.

`measure_helpers.py`, `measure_filter_helpers.py` and `measure_rotation_helpers.py` are files of the published code.
"""

from __future__ import annotations

from auditcore.contracts.checks import SsimSweepCheck, change_variants
from auditcore.contracts.explainers import IntegratedGradients, NoiseTunnel
from auditcore.contracts.presets import PRESETS
from paper_table import Prescribed, deviations, deviations_of, unlisted

METHODS = ("saliency", "guided_grad_cam", "deconvolution", "gradient_shap", "guided_backpropagation")
FILTERS = ("freaky_details", "normalize_local", "boost_chroma", "mighty_details", "sharpen")

PAPER = (
    Prescribed("target", "predicted", "measure_rotation_helpers.py: predicted_main_class"),
    Prescribed("only_correct", False, "section 5.4: an image from the test dataset"),  # noqa: FBT003
    Prescribed("explainers", ["integrated_gradients", *METHODS], "figure 6.1; tables B.1 to B.3"),
    Prescribed("checks", ["ssim_sweep", "sensitivity", "infidelity"], "sections 4.1, 4.2, 4.4"),
    Prescribed("explainers.integrated_gradients.baseline", "black", "section 3.4, last sentence"),
    Prescribed("explainers.integrated_gradients.steps", 50, "figure 3.9", disclosed="(figure 3.9) has 50"),
    *(
        row
        for name in METHODS
        for row in (
            Prescribed(f"explainers.{name}.aggregate", "smoothgrad", "section 3.7, last sentence"),
            Prescribed(f"explainers.{name}.std", 1.0, "figure 3.15: N(0, 1)"),
            Prescribed(f"explainers.{name}.std_unit", "normalized", "figure 3.15; captum adds it to the model's input"),
        )
    ),
    *(Prescribed(f"explainers.{name}.method", name, "sections 3.1 to 3.6, under section 3.7") for name in METHODS),
    Prescribed("explainers.saliency.samples", 10, "figure 3.15", disclosed="(figure 3.15) have 10"),
    *(
        Prescribed(f"explainers.{name}.samples", 8, "measure_helpers.py: nt_samples")
        for name in METHODS
        if name != "gradient_shap"
    ),
    Prescribed("explainers.gradient_shap.samples", 5, "measure_helpers.py: captum's default nt_samples"),
    Prescribed("explainers.gradient_shap.method.samples", 5, "figure 3.14: five random samples"),
    Prescribed("explainers.gradient_shap.method.baseline", "normal", "measure_helpers.py: torch.randn"),
    Prescribed("explainers.gradient_shap.method.std", 0.0, "captum's default stdevs of GradientShap"),
    Prescribed("explainers.guided_grad_cam.method.layer", "first", "measure_helpers.py: model.conv1"),
    Prescribed("explainers.saliency.method.channels", "each", "measure_helpers.py: captum's Saliency"),
    Prescribed(
        "checks.ssim_sweep.changes",
        ["rotate -30, -15, 15, 30", *(f"gmic_{name} 1" for name in FILTERS)],
        "section 5.3",
    ),
    Prescribed("checks.ssim_sweep.tolerance", 0.05, "section 5.4, equation 5.2"),
    Prescribed("checks.ssim_sweep.window", 11, "section 4.4"),
    Prescribed("checks.ssim_sweep.reduce", "none", "measure_rotation_helpers.py: multichannel=True"),
    Prescribed("checks.ssim_sweep.border", "include", "measure_rotation_helpers.py: ssim of the whole maps"),
    Prescribed("checks.ssim_sweep.explainers", None, "figure 6.1: six methods"),
    *(
        Prescribed(
            f"checks.{check}.noise", "fresh", "measure_helpers.py: NoiseTunnel in each call", disclosed="`fresh`"
        )
        for check in ("ssim_sweep", "sensitivity")
    ),
    Prescribed("checks.sensitivity.draws", 10, "section 5.5, procedure: 10 perturbed images"),
    Prescribed("checks.sensitivity.radius", 0.02, "section 5.5, procedure; section 4.1"),
    Prescribed("checks.sensitivity.explainers", list(METHODS), "section 5.5, remark and 5 XAI methods"),
    Prescribed("checks.infidelity.draws", 10, "captum's default n_perturb_samples; the text gives none"),
    Prescribed("checks.infidelity.std", 0.003, "section 5.5, procedure"),
    Prescribed("checks.infidelity.normalize", False, "captum's default; equation 4.2"),  # noqa: FBT003
    Prescribed("checks.infidelity.explainers", list(METHODS), "section 5.5, remark and 5 XAI methods"),
)


def test_the_preset_equals_the_thesis_or_documents_the_difference() -> None:
    # 8 samples are the code's and 10 those of a picture: one row each; noise that is not common is no robustness
    assert [row.path for row in PAPER if row.disclosed] == [
        "explainers.integrated_gradients.steps",
        "explainers.saliency.samples",
        "checks.ssim_sweep.noise",
        "checks.sensitivity.noise",
    ]
    assert deviations("erdem2021", PAPER) == []


def test_no_setting_is_left_out_of_the_table() -> None:
    assert unlisted("erdem2021", PAPER) == []


def test_a_deviation_without_a_note_is_found() -> None:
    plan = PRESETS["erdem2021"].build(0)
    (first, *others) = plan.explainers
    assert isinstance(first, IntegratedGradients)
    changed = plan.model_copy(update={"explainers": (first.model_copy(update={"baseline": "mean"}), *others)})
    notes = {one.path: one.note for one in PRESETS["erdem2021"].settings}
    (found,) = deviations_of(changed, notes, PAPER)
    assert found.startswith("explainers.integrated_gradients.baseline is 'mean', but 'black' in section 3.4")
    quiet = {path: note for path, note in notes.items() if path != "explainers.saliency.samples"}
    (found,) = deviations_of(plan, quiet, PAPER)
    assert "figure 3.15, and no note says so" in found


def test_every_table_and_figure_of_the_first_part_is_a_sub_case() -> None:
    """Figure 6.1 all pairs, 6.3 rotations, 6.4 filters, B.1 each angle, B.2 each filter, section 5.4 valid images."""
    sweep = PRESETS["erdem2021"].build(0).checks[0]
    assert isinstance(sweep, SsimSweepCheck)
    sizes = {variant: len(members) for variant, members in change_variants(sweep).items()}
    assert sizes == {
        "all": 9,
        "all_valid": 9,
        "rotate": 4,
        "gmic": 5,
        **{f"rotate={angle}": 1 for angle in (-30, -15, 15, 30)},
        **{f"gmic_{name}": 1 for name in FILTERS},
    }


def test_the_noise_is_one_in_normalized_space_for_any_model() -> None:
    tunnels = [one for one in PRESETS["erdem2021"].build(0).explainers if isinstance(one, NoiseTunnel)]
    assert len(tunnels) == 5
    assert {(one.std, one.std_unit) for one in tunnels} == {(1.0, "normalized")}
