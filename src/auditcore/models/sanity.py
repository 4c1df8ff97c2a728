"""Whether all logits were numbers: asked at once on the CPU, and of an accelerator when its results come back."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ModelOutputInvalid


@final
class LogitGuard:
    """Watches the logits of one classifier."""

    def __init__(self) -> None:
        """Nothing was seen."""
        self._invalid: Tensor | None = None

    def see(self, logits: Float[Tensor, "..."]) -> None:
        """Take note of the logits of a pass. To ask an accelerator at once would make the host wait for it.

        Raises:
            ModelOutputInvalid: A logit on the CPU is NaN or infinite.
        """
        invalid = ~logits.isfinite().all()
        if logits.device.type == "cpu":
            if bool(invalid):
                raise invalid_output()
        else:
            self._invalid = invalid if self._invalid is None else self._invalid | invalid

    def require_finite(self) -> None:
        """Wait for the passes seen since the last time.

        Raises:
            ModelOutputInvalid: A logit of them is NaN or infinite.
        """
        if self.has_seen_invalid():
            raise invalid_output()

    def has_seen_invalid(self) -> bool:
        """Wait for the passes seen since the last time, say whether a logit was NaN or infinite, and forget them."""
        seen, self._invalid = self._invalid, None
        return seen is not None and bool(seen)

    def forget(self) -> None:
        """Start anew: what an audit that broke off has left behind must not be held against the next one."""
        self._invalid = None


def invalid_output() -> ModelOutputInvalid:
    """The error for logits that are no numbers."""
    msg = "the model returned NaN or infinite logits; check its weights and preprocessing"
    return ModelOutputInvalid(msg, field="model")
