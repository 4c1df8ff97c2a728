"""The network in training, and the same weights as a classifier whose predictions can be explained."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from jaxtyping import Float, Int
from torch import Tensor, nn

from auditcore.contracts.explainers import Explainer
from auditcore.errors import ModelNotTrainable, ModelOutputInvalid, NotApplicable, TrainingDiverged
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.models.foreign_code import copied
from auditcore.random_numbers.streams import Streams
from auditcore.training.trained_weights import NO_DIGEST, load_state


@final
class Network:
    """Weights that change. In training mode they learn; in evaluation mode they are explained and measured.

    Attributes:
        start: The classifier from which training began.
        module: Normalized images (N,C,H,W) to logits (N,K), in training mode; its state is named as in the
            architecture.
        scores: How logits become probabilities.
        classes: Number of classes.
    """

    def __init__(self, start: Classifier, *, bf16: bool = False) -> None:
        """Copy the weights of a classifier, which stays as it is.

        Args:
            start: The classifier.
            bf16: Whether passes in training mode run under autocast; logits are float32 all the same.

        Raises:
            ModelNotTrainable: Its weights cannot be changed or do not get gradients.
        """
        if not (start.capabilities.gradients and start.capabilities.weights and start.parameters):
            why = start.capabilities.limitation or "it has no weights"
            msg = f"the model cannot be trained: {why}"
            raise ModelNotTrainable(msg, field="model")
        self.start = start
        self.scores, self.classes = start.scores, start.classes
        # passes in training count in the same ledger
        self.module: nn.Module = copied(start.module, shared=(start.ledger,))
        for parameter in self.module.parameters():
            parameter.requires_grad = parameter.is_floating_point()
        self.module.train()
        self._bf16 = bf16
        self._frozen: Classifier | None = None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.start.device

    def logits(self, pixels: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Logits in training mode, with gradients; batch normalization uses and remembers this batch.

        Raises:
            ModelNotTrainable: In training mode the model returns something else than in evaluation mode.
        """
        returned = self._passed(pixels)
        # batch normalization has just remembered these images, so a classifier that was made before is another one
        self.changed()
        if not (isinstance(returned, Tensor) and returned.shape == (len(pixels), self.classes)):
            msg = (
                "in training mode the model does not return one row of class scores per image, as it does in "
                "evaluation mode; turn off auxiliary outputs, or wrap the model so that it returns only the scores"
            )
            raise ModelNotTrainable(msg, field="model")
        return returned.float()

    def evaluated(self, pixels: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Logits in evaluation mode, with gradients by the weights; batch normalization stays as it is."""
        self.module.eval()
        try:
            logits: Tensor = self._passed(pixels).float()
        finally:
            self.module.train()
        return logits

    def predicted(self, pixels: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Logits in evaluation mode, without gradients.

        Raises:
            TrainingDiverged: They are NaN or infinite; on an accelerator the loss says so later.
        """
        try:
            return self.frozen.logits(pixels)
        except ModelOutputInvalid as error:
            raise _diverged(error) from error

    def losses(
        self, logits: Float[Tensor, "image class"], targets: Float[Tensor, "image class"]
    ) -> Float[Tensor, " image"]:
        """Cross-entropy of each image with soft labels: over the classes (softmax), or mean over classes (sigmoid).

        Args:
            logits: Of the images.
            targets: Share of each class, in [0,1]; rows sum to 1 for `softmax`.
        """
        if self.scores == "softmax":
            return -(targets * logits.log_softmax(dim=1)).sum(dim=1)
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)

    @property
    def frozen(self) -> Classifier:
        """A classifier with the weights of this moment, in evaluation mode; a copy, made once until `changed`."""
        if self._frozen is None:
            state = self.module.state_dict()
            self._frozen = self.start.altered(lambda module: load_state(module, state), digest=NO_DIGEST)
        return self._frozen

    def changed(self) -> None:
        """Say that weights or statistics have changed."""
        self._frozen = None

    def require_explainable(self, explainer: Explainer) -> None:
        """Refuse an explainer that is not right on this model, before anything is trained.

        What it finds out of the layers of the model holds for all weights, and is not looked for again in every step.

        Raises:
            ModelNotTrainable: The explainer is not right on this model.
        """
        _require_applicable(self.start, explainer)

    def maps(
        self,
        explainer: Explainer,
        pixels: Float[Tensor, "image channel height width"],
        targets: Int[Tensor, " image"],
        streams: Streams,
    ) -> Float[Tensor, "image channel_of_map height width"]:
        """Signed maps of the weights of this moment, detached.

        Args:
            explainer: Which method.
            pixels: Images in pixel space [0,1].
            targets: Class to explain, for each image.
            streams: Random streams of the images.

        Returns:
            As many channels as the images have, or one for methods whose maps are spatial.

        Raises:
            ModelNotTrainable: The explainer is not right on this model.
            TrainingDiverged: Logits of the model are NaN or infinite.
        """
        _require_applicable(self.frozen, explainer)
        try:
            return explain(self.frozen, explainer, pixels, targets, streams, diagnostics=False).maps
        except NotApplicable as error:
            raise _not_explainable(explainer, error.message) from error
        except ModelOutputInvalid as error:
            raise _diverged(error) from error

    def require_finite(self, loss: Float[Tensor, ""], *, step: int) -> None:
        """Stop a training whose loss is no number any more; this waits for the device.

        Raises:
            TrainingDiverged: It is NaN or infinite.
        """
        if not bool(torch.isfinite(loss)):
            msg = (
                f"the loss is {float(loss)} in step {step + 1}: training has diverged; lower "
                "`plan.optimizer.learning_rate`, such as to a tenth, or start from other weights"
            )
            raise TrainingDiverged(msg, field="plan.optimizer.learning_rate")

    def _passed(self, pixels: Float[Tensor, "image channel height width"]) -> Any:  # noqa: ANN401 - models return anything
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            return self.module(self.start.normalize(pixels))


def _require_applicable(classifier: Classifier, explainer: Explainer) -> None:
    reason = applicability(classifier, explainer)
    if reason is not None:
        raise _not_explainable(explainer, reason)


def _not_explainable(explainer: Explainer, reason: str) -> ModelNotTrainable:
    msg = f"explainer {explainer.label!r} of the method does not run on this model: {reason}"
    return ModelNotTrainable(msg, field="plan.method.explainer")


def _diverged(error: ModelOutputInvalid) -> TrainingDiverged:
    msg = (
        f"in evaluation mode, {error.message}. While a model is trained, the usual reason is that training has "
        "diverged: lower `plan.optimizer.learning_rate`, such as to a tenth, or start from other weights"
    )
    return TrainingDiverged(msg, field="plan.optimizer.learning_rate")
