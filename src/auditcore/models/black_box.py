"""A model that gives only predictions: behind a server, or in a runtime of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from auditcore.contracts.capabilities import ModelCapabilities
from auditcore.contracts.contract import Sha256
from auditcore.contracts.models import Scores
from auditcore.contracts.packaged_models import Outputs
from auditcore.contracts.probe import ProbeAnswers
from auditcore.errors import ModelOutputInvalid

SMALLEST = torch.finfo(torch.float32).tiny
"""Smaller probabilities count as this one, because the logarithm of 0 is not finite."""

SUM_TOLERANCE = 1e-3
"""How far the sum of the probabilities of softmax may be from 1, because servers round them."""


@runtime_checkable
class Source(Protocol):
    """A source of predictions."""

    @property
    def digest(self) -> Sha256:
        """Content address of the model."""

    @property
    def capabilities(self) -> ModelCapabilities:
        """What an audit can use of this model."""

    @property
    def probe(self) -> ProbeAnswers | None:
        """Answers that reveal whether another model has taken its place; None if that cannot happen."""

    @property
    def images_per_pass(self) -> int:
        """Number of images per pass with which it is fastest."""

    def predict(self, inputs: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Outputs for normalized inputs, as the source declares them; float32 on the CPU, rows in order."""

    def begin(self, images: int) -> None:
        """Before a shard of about this number of images: check that the model is the same and the budget suffices."""

    def end(self) -> tuple[str, ...]:
        """After a shard: check that the model is the same, and return what a reader of the report should know."""


@final
class BlackBox(nn.Module):
    """A PyTorch module that gets its predictions from a source.

    Attributes:
        source: Source of the predictions.
    """

    def __init__(self, source: Source, *, outputs: Outputs, scores: Scores) -> None:
        """Send no request yet."""
        super().__init__()
        self.source = source
        self._to_logits: Callable[[Tensor], Tensor] = _checked_logits if outputs == "logits" else _LOGITS_OF[scores]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N,classes) on the device of `x`; for probabilities, logits that give them back."""
        outputs = self.source.predict(x.detach().contiguous().cpu())
        return self._to_logits(outputs).to(x.device)


def _checked_logits(outputs: Tensor) -> Tensor:
    if outputs.shape[1] > 1 and outputs.min() >= 0 and (outputs.sum(dim=1) - 1).abs().max() < SUM_TOLERANCE / 100:
        msg = "the outputs are declared as logits, but every row sums to 1; set `outputs` to `probabilities`"
        raise ModelOutputInvalid(msg, field="model.outputs")
    return outputs


def _log_softmax_of(probabilities: Tensor) -> Tensor:
    _refuse_outside_unit(probabilities)
    sums = probabilities.double().sum(dim=1)
    worst = float((sums - 1).abs().max())
    if not worst < SUM_TOLERANCE:
        msg = (
            f"the outputs are declared as softmax probabilities, but the sum of an image's classes differs from 1 by "
            f"{worst:.3g}; set `outputs` to `logits`, or `scores` to `sigmoid`"
        )
        raise ModelOutputInvalid(msg, field="model.outputs")
    return probabilities.clamp_min(SMALLEST).log()


def _logit_of(probabilities: Tensor) -> Tensor:
    _refuse_outside_unit(probabilities)
    # 1 - p is exact for p above a half, and p is exact below
    most = math.nextafter(1.0, 0.0)
    return torch.logit(probabilities.double().clamp(SMALLEST, most)).float()


def _refuse_outside_unit(probabilities: Tensor) -> None:
    low, high = float(probabilities.min()), float(probabilities.max())
    if not (low >= 0 and high <= 1 + SUM_TOLERANCE):
        msg = (
            f"the outputs are declared as probabilities, but range from {low:g} to {high:g}; set `outputs` to "
            "`logits`, or check the preprocessing"
        )
        raise ModelOutputInvalid(msg, field="model.outputs")


_LOGITS_OF: dict[Scores, Callable[[Tensor], Tensor]] = {"softmax": _log_softmax_of, "sigmoid": _logit_of}
