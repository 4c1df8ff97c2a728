"""The preset tetkova2023 against the paper: every setting it gives, with its section, and notes where we differ.

`default.yaml`, `explain_captum.py`, `utils.py` and `pixel_flipping.py` are files of the published code.
"""

from __future__ import annotations

import pytest

from auditcore.contracts.checks import SweepCheck
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.presets import PRESETS
from paper_table import Prescribed, deviations, deviations_of, unlisted

AUGMENTATIONS = ["brightness", "hue", "saturation", "rotate", "translate", "scale"]
METHODS = [
    *("gradient", "input_x_gradient", "integrated_gradients", "deconvolution", "guided_backpropagation"),
    *("lrp_epsilon_plus_flat", "lrp_epsilon_gamma_box", "lrp_epsilon_alpha2_beta1_flat"),
]

PAPER = (
    Prescribed("target", "label", "section 2, metrics: the target class; explain_captum.py: target=targets"),
    Prescribed("only_correct", True, "section 2: analyses on the correctly classified images"),  # noqa: FBT003
    Prescribed("explainers", METHODS, "section 2, explanation methods; table 1"),
    Prescribed("checks", ["sweep", "pixel_flipping"], "section 2, metrics"),
    Prescribed("explainers.integrated_gradients.baseline", "mean", "explain_captum.py: 0, normalized"),
    Prescribed("explainers.integrated_gradients.steps", 50, "captum's default n_steps"),
    Prescribed("explainers.lrp_epsilon_gamma_box.gamma", 0.25, "section 2, explanation methods: gamma = 0.25"),
    *(
        Prescribed(f"explainers.{name}.epsilon", 1e-6, "zennit's default epsilon")
        for name in METHODS
        if name.startswith("lrp")
    ),
    Prescribed("checks.sweep.augmentations", AUGMENTATIONS, "section 2, augmentation methods; table 1"),
    Prescribed("checks.sweep.levels", 11, "default.yaml: n_aug 10, with the unchanged image"),
    Prescribed(
        "checks.sweep.anchor",
        "identity",
        "section 2, metrics: the zero-augmented image takes a value of 1",
        disclosed="The text shifts the value at the identity to 1.",
    ),
    Prescribed("checks.sweep.anchor", "max", "utils.py: fig_to_num, diff = 1 - max(res_cut)"),
    Prescribed("checks.sweep.top_k", 1000, "section 2: intersection of 1000 most important pixels"),
    Prescribed(
        "checks.sweep.reduce",
        "sum",
        "section 2: pixels are ranked",
        disclosed="k of top_k therefore counts channel values",
    ),
    Prescribed("checks.sweep.reduce", "none", "utils.py: topk_intersection flattens all channels"),
    Prescribed("checks.sweep.explainers", None, "table 1: all methods"),
    Prescribed("checks.pixel_flipping.share", 0.2, "section 2, metrics: the first 20% pixels flipped"),
    Prescribed("checks.pixel_flipping.fill", "black", "section 2, metrics: black pixels"),
    Prescribed("checks.pixel_flipping.pixels_per_step", 512, "explain_captum.py: pixel_flipping_AOC(..., 512)"),
    Prescribed("checks.pixel_flipping.reduce", "sum", "explain_captum.py: np.sum(attr, axis=0)"),
    Prescribed("checks.pixel_flipping.explainers", None, "figure 4: all methods"),
)


def test_the_preset_equals_the_paper_or_documents_the_difference() -> None:
    assert [row.path for row in PAPER if row.disclosed] == ["checks.sweep.anchor", "checks.sweep.reduce"]
    assert deviations("tetkova2023", PAPER) == []


def test_no_setting_is_left_out_of_the_table() -> None:
    assert unlisted("tetkova2023", PAPER) == []


@pytest.mark.parametrize(
    ("update", "named"),
    [({"levels": 5}, "checks.sweep.levels is 5"), ({"top_k": 100}, "checks.sweep.top_k is 100, but 1000 in section 2")],
)
def test_a_deviation_without_a_note_is_found(update: dict[str, object], named: str) -> None:
    plan = PRESETS["tetkova2023"].build(0)
    sweep, flipping = plan.checks
    changed = plan.model_copy(update={"checks": (sweep.model_copy(update=update), flipping)})
    notes = {one.path: one.note for one in PRESETS["tetkova2023"].settings}
    (found,) = deviations_of(changed, notes, PAPER)
    assert found.startswith(named)


def test_the_meaning_of_k_is_documented() -> None:
    notes = {one.path: one.note for one in PRESETS["tetkova2023"].settings}
    assert "1000 channel values, of 150528 at 224 pixels" in notes["checks.sweep.top_k"]
    assert 3 * 224**2 == 150528
    assert "channel values" in str(SweepCheck.model_fields["top_k"].description)


def test_bounds_are_those_of_the_published_settings() -> None:
    """`default.yaml`: brightness, hue and saturation of 100 on a scale of 255, rotate 40, translate 0.4, scale 0.2."""
    sweep = PRESETS["tetkova2023"].build(0).checks[0]
    assert isinstance(sweep, SweepCheck)
    assert {
        augmentation.label: (augmentation.interval, augmentation.bound) for augmentation in sweep.augmentations
    } == {
        "brightness": ("auto", 100 / 255),
        "hue": ("auto", pytest.approx(100 / 255 * 360, abs=0.5)),
        "saturation": ("auto", 100 / 255),
        "rotate": ("auto", 40),
        "translate": ("auto", 0.4),
        "scale": ("auto", 0.2),
    }


def test_table_1_and_figures_4_and_5_are_results() -> None:
    """S(correlation, probability) of each augmentation, its mean over the six, and its quartiles over images."""
    sweep = PRESETS["tetkova2023"].build(0).checks[0]
    for metric in ("s_pearson", "s_top_k"):
        assert sweep.variants_of(metric) == (*AUGMENTATIONS, "mean")
        assert METRICS["sweep"][metric].boxed
