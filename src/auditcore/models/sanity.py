"""Whether all logits were finite: checked at once on the CPU, and on an accelerator when its results are read."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ModelOutputInvalid


@final
class LogitGuard:
    """Checks the logits of one classifier."""

    def __init__(self) -> None:
        """Begin without any pass."""
        self._invalid: Tensor | None = None

    def see(self, logits: Float[Tensor, "..."]) -> None:
        """Check the logits of a pass. On an accelerator the check is only queued, so that the host does not wait.

        Raises:
            ModelOutputInvalid: A logit on the CPU is NaN or infinite.
        """
        # reading the result from an accelerator now would make the host wait for it
        invalid = ~logits.isfinite().all()
        if logits.device.type == "cpu":
            if bool(invalid):
                raise invalid_output()
        else:
            self._invalid = invalid if self._invalid is None else self._invalid | invalid

    def require_finite(self) -> None:
        """Wait for the passes since the last call and check them.

        Raises:
            ModelOutputInvalid: One of their logits is NaN or infinite.
        """
        if self.has_seen_invalid():
            raise invalid_output()

    def has_seen_invalid(self) -> bool:
        """Wait for the passes since the last call and return whether one of their logits was NaN or infinite."""
        seen, self._invalid = self._invalid, None
        return seen is not None and bool(seen)

    def forget(self) -> None:
        """Forget earlier passes: an audit that broke off must not make the next one fail."""
        self._invalid = None


def invalid_output() -> ModelOutputInvalid:
    """The error for logits that are not finite."""
    msg = "the model returned NaN or infinite logits; check its weights and preprocessing"
    return ModelOutputInvalid(msg, field="model")
