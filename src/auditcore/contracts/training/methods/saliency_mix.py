"""SaliencyMix."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.training.methods.method import TrainingMethodContract


@final
class SaliencyMix(TrainingMethodContract):
    """As CutMix, with the box around the most salient pixel of the partner, pasted at the same place.

    Saliency is the fine-grained saliency of Montabone and Soto (2010) as OpenCV implements it, on the brightness of
    8-bit images. It does not depend on the model. The authors' code gives OpenCV a normalized image of floats, which
    OpenCV reads as bytes: its maps have no correlation with those of the image. Ours are maps of the image. On a plain
    background that is a little darker or brighter than the mean, the peak may be a pixel of the background, as in
    OpenCV. A partner of one color has no salient pixel; its first pixel stands in.

    Attributes:
        alpha: The share that is kept before the box is clipped is drawn from Beta(alpha, alpha), once per batch.
        probability: Share of the batches that are mixed: 1 in the authors' runs on ImageNet, 0.5 in those on CIFAR.
    """

    paper: ClassVar[str] = "Uddin et al. 2021; Won et al. 2025, section 3.2"
    mixes_images: ClassVar[bool] = True
    mixes_labels: ClassVar[bool] = True
    kind: Literal["saliency_mix"] = "saliency_mix"
    alpha: float = Field(default=1.0, gt=0, le=100)
    probability: float = Field(default=1.0, gt=0, le=1)
    box: Literal["each_partner", "first_partner"] = Field(
        default="each_partner",
        description="each_partner: every partner has its own box, as in the paper. first_partner: the box of the first "
        "partner is used for the whole batch, as in the authors' code.",
    )
