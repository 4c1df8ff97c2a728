"""EDDA: training on images that the model's own explanations have masked."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.checks.edda import SaliencyThreshold
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import GRADIENT, LOGITS, Passes
from auditcore.contracts.training.methods.explanation_driven import ExplanationDriven


@final
class Edda(ExplanationDriven):
    """Add masked copies of the images that the model predicts right, so that its explanations become more faithful.

    In each step the model first predicts the batch. Of each image that it predicts right, the explainer makes a map,
    which is scaled to s in [0, 1] by its own minimum and maximum. Two copies follow: the umask keeps the important
    pixels, `x * (s > umask_threshold)`; the imask keeps the others, `x * (s < imask_threshold)`. A copy joins the batch
    with the label of its image, but only if the model still predicts this label for it. A umask that is still
    predicted rewards a faithful map. An imask that is still predicted shows that the map missed evidence; learning
    from it makes the model rely on other pixels, so that a later map is better. The step learns from the mean loss of
    all images of the enlarged batch.

    These are equations 3 and 4 of the paper. Its algorithms 2 and 3 print the two comparisons the other way round.

    A model with several labels per image (`sigmoid`) gets no umask, as in algorithm 3: for each true class that it
    predicts, one imask, kept if this class is still predicted, with all labels of the image.

    Predictions and maps come from the model in evaluation mode, so that batch normalization learns nothing from copies
    that are then left out; the paper does not say which it uses. A map that is constant gives no order, and its image
    no copy. `explainer: random` is the paper's control RandExp: a value per pixel, uniform in [0, 1], new in every
    step. The paper trains with Grad-CAM, both thresholds at 0.5 (ResNet-50) or 0.2 (VGG-16), and `begin` at 0.
    """

    paper: ClassVar[str] = "Li et al. 2021, section 3 and algorithms 1 to 3"
    kind: Literal["edda"] = "edda"
    umask_threshold: SaliencyThreshold = Field(
        default=0.5, description="Of the scaled map; only pixels above it stay in the umask. Not used for `sigmoid`."
    )
    imask_threshold: SaliencyThreshold = Field(
        default=0.5, description="Of the scaled map; only pixels below it stay in the imask."
    )
    begin: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the epochs that pass before the explainer is asked, rounded to whole epochs; until then "
        "training is plain.",
    )
    keep_original: bool = Field(
        default=True,
        description="Whether the images themselves stay in the batch, as the text of the paper has it. False is "
        "algorithm 2 read literally: only copies are learned from, so an image that is predicted wrong takes no part.",
    )
    color: Literal["black", "mean"] = Field(
        default="black", description="Of masked pixels; mean is the model's mean color: zero after normalization."
    )

    def passes(self, shape: InputShape) -> Passes:
        """A prediction, a map, the predictions of both copies, and up to three images to learn from.

        An image with several labels costs this for the first of them, and for each other one at most a map, a
        prediction and an image to learn from.
        """
        learned = GRADIENT.times(2 + self.keep_original)
        return LOGITS.plus(self.passes_of_map(shape)).plus(LOGITS.times(2)).plus(learned)
