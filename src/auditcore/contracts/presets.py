"""Presets: two plans of our own and the protocol of each paper, with the source of every setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, final

from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.checks import (
    AgreementCheck,
    Change,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    SsimSweepCheck,
    SweepCheck,
)
from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import (
    Deconvolution,
    DeepLift,
    GradCam,
    Gradient,
    GradientShap,
    GuidedBackpropagation,
    GuidedGradCam,
    Iba,
    InputXGradient,
    IntegratedGradients,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    NoiseTunnel,
    Occlusion,
    Random,
    Saliency,
    SmoothGrad,
)
from auditcore.contracts.explainers.noise_tunnel import Tunneled
from auditcore.contracts.plan import AuditPlan, PresetName, PresetPlan
from auditcore.contracts.reference_models import compares_models, with_reference_models

Source = Literal["paper", "code", "ours"]


@final
class Setting(Contract):
    """The source of one setting of a preset.

    Attributes:
        path: Path of the setting in the plan, with entries of lists by name, such as `checks.sweep.levels`.
        source: The paper's text, the authors' published code, or our own choice.
        note: What the setting is, and where and why we differ.
    """

    path: str
    source: Source
    note: str


@final
class Preset(Contract):
    """A named plan.

    Attributes:
        summary: Purpose of the plan.
        paper: Paper of the protocol; None for our own plans.
        settings: Sources of its settings; a setting that is not listed has its contract's default.
        build: Returns the full plan for a seed, for an audit of several models if some of its checks compare models.
    """

    summary: str
    paper: str | None
    settings: tuple[Setting, ...]
    build: Callable[[int], AuditPlan]


def quick_plan(seed: int = 0) -> AuditPlan:
    """Return a plan that takes about a minute for four photos on two cores.

    It has one method per group of methods, two augmentations and coarse levels.
    """
    return AuditPlan(
        seed=seed,
        explainers=(
            Gradient(),
            InputXGradient(),
            IntegratedGradients(steps=16, baseline="mean"),
            GuidedBackpropagation(),
            GradCam(),
            LrpEpsilonPlusFlat(),
            Random(),
        ),
        checks=(
            SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20))), levels=5),
            DeletionCheck(grid=7, repeats=3),
            EddaCheck(keep=(0.15,), color="mean"),
        ),
    )


def standard_plan(seed: int = 0) -> AuditPlan:
    """Return a plan with eleven explainers, six augmentations with automatic intervals, and all checks without boxes.

    Levels, steps and draws are coarser than in the papers, so that eight photos take less than 15 minutes on two cores.
    """
    return AuditPlan(
        seed=seed,
        explainers=(
            Gradient(),
            InputXGradient(),
            IntegratedGradients(steps=16, baseline="mean"),
            SmoothGrad(samples=16),
            GuidedBackpropagation(),
            Deconvolution(),
            GradCam(),
            LrpEpsilonPlusFlat(),
            LrpEpsilonGammaBox(),
            LrpEpsilonAlpha2Beta1Flat(),
            Random(),
        ),
        checks=(
            SweepCheck(levels=5),
            DeletionCheck(grid=8),
            EddaCheck(color="mean"),
            PixelFlippingCheck(fill="mean"),
            RoadCheck(shares=(0.1, 0.3, 0.5)),
            SensitivityCheck(draws=2),
            InfidelityCheck(),
            RandomizationCheck(stages=2),
            ComplexityCheck(),
        ),
    )


def tetkova2023_plan(seed: int = 0) -> AuditPlan:
    """Return the protocol of Tetkova & Hansen 2023, with the settings of the published code where the text differs."""
    return AuditPlan(
        seed=seed,
        target="label",
        only_correct=True,
        explainers=(
            Gradient(),
            InputXGradient(),
            IntegratedGradients(steps=50, baseline="mean"),
            Deconvolution(),
            GuidedBackpropagation(),
            LrpEpsilonPlusFlat(),
            LrpEpsilonGammaBox(),
            LrpEpsilonAlpha2Beta1Flat(),
        ),
        checks=(
            SweepCheck(levels=11, anchor="max", top_k=1000, reduce="none"),
            PixelFlippingCheck(pixels_per_step=512, share=0.2, fill="black", rank_by="signed"),
        ),
    )


def erdem2021_plan(seed: int = 0) -> AuditPlan:
    """Return the protocol of Erdem & Mazurek 2021: attributions with a noise tunnel, compared by structural similarity.

    Sensitivity and infidelity leave out integrated gradients, as the thesis does (section 5.5).
    """

    def tunnel(name: str, method: Tunneled, samples: int = 8) -> NoiseTunnel:
        return NoiseTunnel(
            name=name, method=method, aggregate="smoothgrad", samples=samples, std=1.0, std_unit="normalized"
        )

    tunneled = ("saliency", "guided_grad_cam", "deconvolution", "gradient_shap", "guided_backpropagation")
    return AuditPlan(
        seed=seed,
        explainers=(
            IntegratedGradients(steps=25, baseline="black"),
            tunnel("saliency", Saliency(channels="each")),
            tunnel("guided_grad_cam", GuidedGradCam(layer="first")),
            tunnel("deconvolution", Deconvolution()),
            tunnel("gradient_shap", GradientShap(samples=5, baseline="normal"), samples=5),
            tunnel("guided_backpropagation", GuidedBackpropagation()),
        ),
        checks=(
            SsimSweepCheck(tolerance=0.05, window=11, border="include", reduce="none"),
            SensitivityCheck(draws=10, radius=0.02, explainers=tunneled),
            InfidelityCheck(draws=10, std=0.003, explainers=tunneled),
        ),
    )


def won2023_plan(seed: int = 0) -> AuditPlan:
    """Return the protocol of Won et al. 2025 (first version 2023): models compared by deletion and localization."""
    return AuditPlan(
        seed=seed,
        target="label",
        only_correct=True,
        explainers=(
            GradCam(),
            Iba(beta=10.0),
            SmoothGrad(samples=50, std=0.15),
            IntegratedGradients(steps=50, baseline="mean"),
            GuidedBackpropagation(),
        ),
        checks=(
            DeletionCheck(repeats=5, fill="mean"),
            LocalizationCheck(min_probability=0.6, box_share=(0.1, 0.5)),
        ),
    )


def li2021_plan(seed: int = 0) -> AuditPlan:
    """Return the protocol of Li et al. 2021 (EDDA): are the most relevant pixels sufficient and necessary?"""
    return AuditPlan(
        seed=seed,
        explainers=(
            GradCam(),
            Random(),
        ),
        checks=(
            EddaCheck(keep=(0.15, 0.3, 0.5), thresholds=(0.2, 0.5), color="black", min_probability=0.01),
            InsertionDeletionCheck(games=("deletion_black", "deletion_blur", "insertion_black", "insertion_blur")),
        ),
    )


def arun2021_plan(seed: int = 0) -> AuditPlan:
    """Return the protocol of Arun et al. 2021: localization, randomization of weights, and the maps of several models.

    Agreement compares every model with the first one of the request. Of the same architecture trained again it is the
    paper's repeatability, of another architecture its reproducibility.
    """
    return AuditPlan(
        seed=seed,
        target="label",
        explainers=(
            Gradient(),
            SmoothGrad(samples=50, std=0.15),
            IntegratedGradients(steps=50, baseline="black"),
            NoiseTunnel(
                name="smooth_integrated_gradients",
                method=IntegratedGradients(steps=50, baseline="black"),
                aggregate="smoothgrad",
                samples=10,
            ),
            GradCam(),
            GuidedBackpropagation(),
            GuidedGradCam(),
        ),
        checks=(
            LocalizationCheck(),
            RandomizationCheck(similarity="ssim", absolute=True),
            AgreementCheck(normalize="min_max", only_alike=False, absolute=True, window=7, harmless=()),
        ),
    )


def saporta2022_plan(seed: int = 0) -> AuditPlan:
    """Return the protocol of Saporta et al. 2022: overlap with masks of radiologists, and hits of the maximum."""
    return AuditPlan(
        seed=seed,
        target="label",
        explainers=(
            GradCam(),
            IntegratedGradients(steps=50, baseline="black"),
            DeepLift(baseline="black"),
            LrpEpsilonPlusFlat(),
            Occlusion(),
        ),
        checks=(LocalizationCheck(mask_threshold="otsu", tolerance_px=0),),
    )


PRESETS: dict[PresetName, Preset] = {
    "quick": Preset(
        summary="A first look: one method of each kind, about 12 seconds per photo on two cores.",
        paper=None,
        settings=(
            Setting(
                path="explainers.integrated_gradients.baseline",
                source="ours",
                note="The mean color, which is also the fill of deletion and EDDA: map and checks answer the same "
                "question.",
            ),
            Setting(path="checks.edda.color", source="ours", note="The mean color instead of the paper's black."),
            Setting(path="checks.sweep.levels", source="ours", note="5 instead of the paper's 11, for speed."),
            Setting(path="checks.deletion.grid", source="ours", note="7 instead of the paper's 14, for speed."),
        ),
        build=quick_plan,
    ),
    "standard": Preset(
        summary="Corrected defaults and every check that needs no boxes: eight photos in 15 minutes on two cores.",
        paper=None,
        settings=(
            Setting(
                path="checks.sweep.anchor",
                source="paper",
                note="Curves are shifted to 1 at the unchanged image; the published code shifts their maximum to 1, "
                "which "
                "rewards curves that rise away from it.",
            ),
            Setting(path="checks.sweep.levels", source="ours", note="5 instead of the paper's 11, for speed."),
            Setting(
                path="checks.sweep.reduce",
                source="ours",
                note="Channels are summed: a reader sees one value per pixel, so that value is compared.",
            ),
            Setting(
                path="explainers.integrated_gradients.baseline",
                source="ours",
                note="The mean color, which is also the fill of deletion and pixel_flipping: map and checks answer the "
                "same question. The paper's example is black.",
            ),
            Setting(path="explainers.integrated_gradients.steps", source="ours", note="16 instead of 50, for speed."),
            Setting(path="explainers.smoothgrad.samples", source="ours", note="16 instead of 50, for speed."),
            Setting(
                path="checks.deletion.grid",
                source="ours",
                note="8 cells per side, the paper's choice for small images, instead of 14, for speed.",
            ),
            Setting(path="checks.edda.color", source="ours", note="The mean color instead of the paper's black."),
            Setting(
                path="checks.pixel_flipping.fill",
                source="ours",
                note="The mean color, as deletion; Bach et al. fill with black.",
            ),
            Setting(path="checks.road.shares", source="ours", note="Three shares instead of nine, for speed."),
            Setting(path="checks.sensitivity.draws", source="ours", note="2 instead of 10, for speed."),
            Setting(path="checks.randomization.stages", source="ours", note="Two steps of the cascade, for speed."),
        ),
        build=standard_plan,
    ),
    "tetkova2023": Preset(
        summary="Do explanations survive brightness, hue, saturation, rotation, translation, scale? Needs labels.",
        paper="Tetkova & Hansen 2023",
        settings=(
            Setting(path="target", source="code", note="The data set's label is explained."),
            Setting(path="only_correct", source="code", note="Results are reported for correctly classified images."),
            Setting(
                path="explainers.integrated_gradients.baseline",
                source="code",
                note="captum's default of zero after normalization, which is the mean color.",
            ),
            Setting(path="explainers.integrated_gradients.steps", source="code", note="captum's default."),
            Setting(path="explainers.gradient", source="code", note="Signed: captum's Saliency with abs=False."),
            Setting(
                path="checks.sweep.augmentations",
                source="code",
                note="The six augmentations of the text with the code's bounds, in our units: brightness and "
                "saturation 100/255, hue 100/255 of a turn, rotate 40 degrees, translate 0.4, scale 0.2, cut where the "
                "mean probability has dropped by 10 % (text and code). We warp by torch instead of imgaug, whose "
                "brightness goes through one of several color spaces at random; ours is HSV.",
            ),
            Setting(
                path="checks.sweep.levels",
                source="code",
                note="11 over the cut interval, the code's default; its published jobs take 41 over the whole bound, "
                "cut afterwards. The text says equidistant and gives no number.",
            ),
            Setting(path="checks.sweep.anchor", source="code", note="The text shifts the value at the identity to 1."),
            Setting(
                path="checks.sweep.top_k",
                source="code",
                note="1000 channel values, of 150528 at 224 pixels, as in the code; the text speaks of 1000 pixels.",
            ),
            Setting(
                path="checks.sweep.reduce",
                source="code",
                note="Channels are compared, not summed; k of top_k therefore counts channel values.",
            ),
            Setting(path="checks.pixel_flipping.pixels_per_step", source="code", note="512 pixels per step."),
            Setting(path="checks.pixel_flipping.share", source="code", note="The first fifth of the curve."),
            Setting(path="checks.pixel_flipping.reduce", source="code", note="Channels summed; the text does not say."),
            Setting(path="checks.pixel_flipping.rank_by", source="code", note="Channels are summed with their signs."),
            Setting(
                path="checks.pixel_flipping.fill",
                source="paper",
                note="The code fills with Quantus's mean, one gray value taken from an image perturbed already; we "
                "do not.",
            ),
        ),
        build=tetkova2023_plan,
    ),
    "erdem2021": Preset(
        summary="Do explanations under filters and rotations look the same where the prediction is the same?",
        paper="Erdem & Mazurek 2021",
        settings=(
            Setting(path="target", source="code", note="The class predicted for the unchanged image."),
            Setting(
                path="explainers.integrated_gradients.steps",
                source="code",
                note="25, without a noise tunnel; the picture of the text (figure 3.9) has 50.",
            ),
            Setting(
                path="explainers.integrated_gradients.baseline",
                source="paper",
                note="Black (section 3.4); the code leaves captum's zero after normalization, the mean color.",
            ),
            Setting(
                path="explainers.saliency.std",
                source="paper",
                note="1 in normalized space (figure 3.15), captum's default, whatever the model divides by. The text "
                "also quotes 0.01, from Smilkov et al. (section 3.7).",
            ),
            Setting(
                path="explainers.saliency.samples",
                source="code",
                note="8 samples; 5, captum's default, for SHAP. The pictures of the text (figure 3.15) have 10. For "
                "sensitivity the code falls back to captum's 5 for every method; we take the same maps as elsewhere.",
            ),
            Setting(
                path="explainers.saliency.method",
                source="code",
                note="captum's Saliency keeps the channels apart, where Simonyan et al. take the largest.",
            ),
            Setting(
                path="explainers.guided_grad_cam.method",
                source="code",
                note="At the first convolution. Upsampled bilinearly; captum's default repeats cells.",
            ),
            Setting(
                path="explainers.gradient_shap.method",
                source="code",
                note="Standard normal baselines in normalized space, 5 samples; ours are drawn again for each sample.",
            ),
            Setting(path="checks.ssim_sweep.changes", source="paper", note="Four rotations and five G'MIC filters."),
            Setting(path="checks.ssim_sweep.tolerance", source="paper", note="0.05 on the target's probability."),
            Setting(path="checks.ssim_sweep.window", source="paper", note="11 pixels, uniform, as scikit-image."),
            Setting(
                path="checks.ssim_sweep.border",
                source="code",
                note="The corners that a rotation fills are compared too, which raises the similarity; our own default "
                "leaves them out. The code rotates maps by cubic splines and stretches SSIM's range by hand-kept "
                "tables; "
                "we rotate bilinearly, like the image, and measure the range.",
            ),
            Setting(
                path="checks.ssim_sweep.noise",
                source="ours",
                note="The same for an image and its copies. The code draws new noise in each call (`fresh`), so that "
                "its similarity measures the noise too; `repeatability_ssim` shows how much.",
            ),
            Setting(
                path="checks.sensitivity.explainers",
                source="paper",
                note="Without integrated gradients (section 5.5).",
            ),
            Setting(
                path="checks.sensitivity.noise",
                source="ours",
                note="The same for an image and its copies. The code draws new noise in each call (`fresh`); "
                "`repeatability_distance` shows the effect of the noise.",
            ),
            Setting(
                path="checks.sensitivity.draws",
                source="paper",
                note="10; the code takes fewer where a method exhausted memory.",
            ),
            Setting(path="checks.sensitivity.radius", source="paper", note="Uniform in normalized space, 0.02."),
            Setting(
                path="checks.infidelity.explainers",
                source="paper",
                note="Without integrated gradients (section 5.5). The text leaves Deconvolution out of its comparison; "
                "we list it.",
            ),
            Setting(path="checks.infidelity.draws", source="code", note="10, captum's default; the text gives none."),
            Setting(path="checks.infidelity.std", source="paper", note="Normal noise, standard deviation 0.003."),
        ),
        build=erdem2021_plan,
    ),
    "won2023": Preset(
        summary="Are models trained differently as interpretable? For several models; needs labels and boxes.",
        paper="Won et al. 2025",
        settings=(
            Setting(path="target", source="paper", note="The given label, which is also the predicted class."),
            Setting(
                path="only_correct",
                source="paper",
                note="Correctly classified images only (section 3.3). The text does not say whether every model or one "
                "of them must be right; here each model leaves out its own mistakes, and differences are taken on the "
                "images that both models have. The paper draws 2,000 such images of ImageNet.",
            ),
            Setting(path="explainers", source="paper", note="The five methods of section 2.3 and tables 2, 5 and 6."),
            Setting(
                path="explainers.grad_cam.layer",
                source="ours",
                note="The text names no layer.",
            ),
            Setting(path="explainers.iba.beta", source="paper", note="10, one bottleneck per sample (section 3.2)."),
            Setting(
                path="explainers.iba.layer",
                source="ours",
                note="The text names no layer; steps, learning rate and smoothing are those of Schulz et al. 2020.",
            ),
            Setting(path="explainers.smoothgrad.samples", source="paper", note="50 (section 3.2)."),
            Setting(
                path="explainers.smoothgrad.std",
                source="paper",
                note="0.15 (section 3.2). The text gives no unit; we take it as a share of the value range, as "
                "Smilkov et al. do.",
            ),
            Setting(path="explainers.integrated_gradients.steps", source="ours", note="The text gives no number."),
            Setting(
                path="explainers.integrated_gradients.baseline",
                source="ours",
                note="The mean color, which is also the fill of deletion: method and check ask the same question. The "
                "text names no baseline.",
            ),
            Setting(
                path="checks.deletion.grid",
                source="paper",
                note="14 cells per side for ImageNet, 8 for CIFAR-10 (section 3.5.3); here by the size of the input.",
            ),
            Setting(
                path="checks.deletion.repeats",
                source="paper",
                note="5 random orders per image (section 3.5.2); the same ones for every model and explainer, which "
                "the text leaves open.",
            ),
            Setting(
                path="checks.deletion.fill",
                source="paper",
                note="A constant, such as the average pixel value (section 3.5.2): zero after normalization.",
            ),
            Setting(
                path="checks.deletion.rank_by",
                source="ours",
                note="The text ranks cells by the average of attributions and is silent on the sign; its tables, where "
                "all five methods lie far above chance, suggest the order by magnitude for maps of gradients.",
            ),
            Setting(
                path="checks.deletion.reduce",
                source="ours",
                note="Channels summed. The text ranks cells by the average of attributions in them and does not say "
                "how channels are joined.",
            ),
            Setting(
                path="checks.localization.min_probability",
                source="paper",
                note="Scores higher than 0.6 (section 3.3): an image at exactly 0.6 is left out. Deletion uses all "
                "correctly classified images; the text describes this filter for localization only.",
            ),
            Setting(
                path="checks.localization.box_share",
                source="paper",
                note="Boxes that cover less than 50 % and more than 10 % of the image (section 3.3). We measure the "
                "share after resize and crop, and both ends count.",
            ),
            Setting(
                path="checks.localization",
                source="paper",
                note="Of effective_heat_ratio: heat inside the box over the number of pixels (section 3.3). The text "
                "has thresholds from 0.0 to 1.0 and gives no number; 11 quantiles as in the code of Zhang et al. 2021.",
            ),
            Setting(
                path="checks.localization.threshold",
                source="ours",
                note="Only for wsol_iou, which the paper argues against and does not report (section 3.3).",
            ),
        ),
        build=won2023_plan,
    ),
    "li2021": Preset(
        summary="Are the most relevant pixels enough for the prediction, and is it lost without them?",
        paper="Li et al. 2021",
        settings=(
            Setting(
                path="target",
                source="paper",
                note="Section 4.2, equation 5: the predicted class. For a multi-label model set `label` and "
                "`only_correct`: section 3.3 explains every class that is predicted and true.",
            ),
            Setting(path="only_correct", source="paper", note="Equation 5 is a mean over all test images."),
            Setting(
                path="explainers.grad_cam",
                source="paper",
                note="Section 4.2: Grad-CAM at the final convolutional layer; the report names the layer. Enlarged "
                "bilinearly; the paper does not say how.",
            ),
            Setting(
                path="explainers.random",
                source="ours",
                note="The floor of every number. Section 4.2 has random maps (RandExp) as a baseline of training, "
                "uniform in [0, 1]; ours are normal: every order is as likely, but thresholds keep other shares.",
            ),
            Setting(
                path="checks.edda.keep",
                source="paper",
                note="Section 4.2: the top 15 %; here also 30 and 50 %.",
            ),
            Setting(
                path="checks.edda.rank_by",
                source="ours",
                note="Section 4.2 takes the top 15 % of a saliency map and is silent on the sign. Maps of regions, "
                "such as Grad-CAM's, are ordered by their sign, those of gradients by magnitude.",
            ),
            Setting(
                path="checks.edda.thresholds",
                source="paper",
                note="Appendix B: 0.2 and 0.5, chosen for training; section 4.4 shows images at 0.5. Masks as in "
                "equations 3 and 4; algorithms 2 and 3 print the signs the other way round. Scaled to [0, 1] by "
                "minimum and maximum; the paper does not say how.",
            ),
            Setting(
                path="checks.edda.color",
                source="paper",
                note="Equations 3 and 4 multiply by 0. Ours is black before normalization, as appendix C says of its "
                "masks.",
            ),
            Setting(
                path="checks.edda.min_probability",
                source="ours",
                note="Equation 5 has no floor. Below 0.01 a relative change explodes; the predicted class of up to 100 "
                "is never below.",
            ),
            Setting(
                path="checks.insertion_deletion.games",
                source="paper",
                note="Appendix C: towards and from black and blur, by score and by accuracy. The paper calls black "
                "`zero`; our games of that name fill with the mean color. It prints scores times 100.",
            ),
            Setting(
                path="checks.insertion_deletion.rank_by",
                source="ours",
                note="Appendix C removes the most important pixels first and is silent on the sign; as in edda.",
            ),
            Setting(
                path="checks.insertion_deletion.pixels_per_step",
                source="ours",
                note="224 for 224 x 224 pixels, as in the code of Petsiuk et al., whom appendix C follows; the paper "
                "gives no number, and no kernel of the blur.",
            ),
        ),
        build=li2021_plan,
    ),
    "arun2021": Preset(
        summary="Do maps find abnormalities, do they depend on the weights, and do other models give the same ones? "
        "Needs labels, boxes or masks, and several models: the model, the same architecture trained again, and another "
        "architecture. An audit of one model leaves out the comparison of models.",
        paper="Arun et al. 2021",
        settings=(
            Setting(path="target", source="ours", note="The given label: an abnormality with a box or mask."),
            Setting(
                path="explainers",
                source="paper",
                note="Seven of the eight methods; XRAI is missing. Our names: gradient explanation is `gradient`.",
            ),
            Setting(
                path="explainers.smooth_integrated_gradients.method",
                source="paper",
                note="Smooth IG: integrated gradients of noisy copies. The steps are ours.",
            ),
            Setting(
                path="explainers.smooth_integrated_gradients.aggregate",
                source="paper",
                note="Their mean.",
            ),
            Setting(
                path="explainers.smooth_integrated_gradients.samples",
                source="ours",
                note="10 noisy copies, each with the steps of integrated gradients.",
            ),
            Setting(path="explainers.integrated_gradients.baseline", source="ours", note="Black."),
            Setting(
                path="checks",
                source="paper",
                note="Localization utility is `average_precision` (AUPRC), and sensitivity to weights is the cascading "
                "randomization. Repeatability and reproducibility are `ssim` of agreement: of a model of the same "
                "architecture as the first model of the request, trained again, and of a model of another one.",
            ),
            Setting(
                path="checks.localization",
                source="paper",
                note="AUPRC of the map against the pixels of a mask or box. Negative relevance counts as 0.",
            ),
            Setting(
                path="checks.randomization.similarity",
                source="paper",
                note="SSIM. The paper compares it with the mean SSIM of 50 random pairs of maps.",
            ),
            Setting(path="checks.randomization.absolute", source="ours", note="Absolute values."),
            Setting(
                path="checks.agreement.reference",
                source="ours",
                note="The first model of the request is the one under audit; the others are compared with it.",
            ),
            Setting(
                path="checks.agreement.measures",
                source="ours",
                note="SSIM is the paper's measure. The other three are ours: SSIM is high where both maps are nearly "
                "flat, and correlations are not.",
            ),
            Setting(
                path="checks.agreement.normalize",
                source="code",
                note="Maps in [0, 1], by minimum and maximum. The code clips them at their 99th percentile first. It "
                "leaves the data range to scikit-image, which then took 2 for maps of floats; ours is 1, the range of "
                "the maps.",
            ),
            Setting(path="checks.agreement.window", source="code", note="7 pixels, scikit-image's default."),
            Setting(
                path="checks.agreement.absolute",
                source="ours",
                note="Absolute values of the sum over channels, as in randomization; the code sums absolute values.",
            ),
            Setting(
                path="checks.agreement.only_alike",
                source="ours",
                note="All images, whatever the models predict: both maps explain the given label. The code takes "
                "images with an abnormality and explains the class that each model predicts.",
            ),
            Setting(
                path="checks.agreement.harmless",
                source="paper",
                note="None: the paper does not compare a model with itself under harmless changes.",
            ),
        ),
        build=arun2021_plan,
    ),
    "saporta2022": Preset(
        summary="Do maps lie on what radiologists outlined? Needs labels and masks.",
        paper="Saporta et al. 2022",
        settings=(
            Setting(
                path="target",
                source="paper",
                note="Every pathology that is present in an image, for a multi-label model.",
            ),
            Setting(
                path="explainers",
                source="paper",
                note="Five of the seven methods; Grad-CAM++ and Eigen-CAM are missing.",
            ),
            Setting(path="explainers.integrated_gradients.baseline", source="ours", note="Black."),
            Setting(path="explainers.deep_lift.baseline", source="ours", note="Black."),
            Setting(
                path="explainers.lrp_epsilon_plus_flat",
                source="ours",
                note="One of three composites; the rules of the paper's LRP may differ.",
            ),
            Setting(
                path="checks.localization.mask_threshold",
                source="paper",
                note="Otsu's method. `mask_iou` is the overlap per image; its mean is the paper's mIoU.",
            ),
            Setting(
                path="checks.localization.tolerance_px",
                source="paper",
                note="0: the most relevant pixel is inside the mask. The mean of `hit_rate` is the paper's hit rate.",
            ),
        ),
        build=saporta2022_plan,
    ),
}


def setting_value(plan: AuditPlan, path: str) -> Any:  # noqa: ANN401 - a plan holds values of many types
    """Return the value at a path of a plan as plain JSON; entries with a name or kind are shortened to it.

    Raises:
        KeyError: The plan has no such path.
    """
    found: Any = plan
    for step in path.split("."):
        if isinstance(found, tuple):
            found = {entry.label: entry for entry in found}[step]
        elif step in type(found).model_fields:
            found = getattr(found, step)
        else:
            raise KeyError(path)
    return _shortened(found)


def _shortened(value: Any) -> Any:  # noqa: ANN401
    match value:
        case tuple():
            return [_shortened(entry) for entry in value]
        case Change():
            return f"{value.augmentation.label} {', '.join(f'{number:g}' for number in value.values)}"
        case Contract():
            return getattr(value, "label", None) or value.model_dump(mode="json")
        case _:
            return value


def resolve_plan(plan: AuditPlan | PresetPlan, *, several_models: bool = True) -> AuditPlan:
    """The plan with every default spelled out.

    Args:
        plan: A plan, or the name of a preset.
        several_models: Whether the audit is of several models. If not, a preset comes without its checks that compare
            models; a plan in full stays as it is.

    >>> plan = resolve_plan(PresetPlan(preset="arun2021", seed=7), several_models=False)
    >>> [check.label for check in plan.checks]
    ['localization', 'randomization']
    """
    if not isinstance(plan, PresetPlan):
        return plan
    whole = PRESETS[plan.preset].build(plan.seed)
    left_out = () if several_models else checks_of_several_models(plan)
    checks = tuple(check for check in whole.checks if check.label not in left_out)
    return whole.model_copy(update={"checks": checks}) if left_out else whole


def plan_for_models(plan: AuditPlan | PresetPlan, models: Sequence[str], *, baseline: bool = False) -> AuditPlan:
    """The plan with every default spelled out, as it is carried out on the models of a request.

    Args:
        plan: A plan, or the name of a preset.
        models: Names of the models; empty in an audit of one.
        baseline: Whether the request has a baseline. Presets leave out checks that compare models in an audit of one
            model even so.

    Raises:
        InvalidRequest: A check compares models in an audit of one without a baseline, or with a model that the request
            does not name.
    """
    return with_reference_models(resolve_plan(plan, several_models=bool(models)), models, baseline=baseline)


def checks_of_several_models(plan: AuditPlan | PresetPlan) -> tuple[str, ...]:
    """Names of the checks of a preset that an audit of one model leaves out; none for a plan in full.

    >>> checks_of_several_models(PresetPlan(preset="arun2021"))
    ('agreement',)
    """
    if not isinstance(plan, PresetPlan):
        return ()
    return tuple(check.label for check in PRESETS[plan.preset].build(plan.seed).checks if compares_models(check))
