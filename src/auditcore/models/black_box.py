"""A model that gives only predictions: behind a server, or in a runtime of its own."""

from __future__ import annotations

from typing import Protocol, final, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from auditcore.contracts.capabilities import ModelCapabilities
from auditcore.contracts.contract import Sha256
from auditcore.contracts.models import Scores
from auditcore.contracts.outputs import Outputs
from auditcore.contracts.probe import ProbeAnswers
from auditcore.models.logits import require_declared, to_logits


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
        outputs: What it returns.
        scores: How logits become probabilities.
        columns: Number of columns of what the source returned last; 0 before the first pass.
    """

    def __init__(self, source: Source, *, outputs: Outputs, scores: Scores) -> None:
        """Send no request yet."""
        super().__init__()
        self.source = source
        self.outputs, self.scores = outputs, scores
        self.columns = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N,classes) on the device of `x`; for probabilities, logits that give them back."""
        outputs = self.source.predict(x.detach().contiguous().cpu())
        require_declared(outputs, outputs=self.outputs, scores=self.scores)
        self.columns = outputs.shape[1]
        logits: Tensor = to_logits(outputs, outputs=self.outputs, scores=self.scores, columns=self.columns)
        return logits.to(x.device)
