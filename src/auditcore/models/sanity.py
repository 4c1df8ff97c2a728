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
                raise _invalid_output()
        else:
            self._invalid = invalid if self._invalid is None else self._invalid | invalid

    def require_finite(self) -> None:
        """Wait for the passes seen since the last time.

        Raises:
            ModelOutputInvalid: A logit of them is NaN or infinite.
        """
        seen, self._invalid = self._invalid, None
        if seen is not None and bool(seen):
            raise _invalid_output()


def _invalid_output() -> ModelOutputInvalid:
    msg = "the model returned NaN or infinite logits; check its weights and preprocessing"
    return ModelOutputInvalid(msg, field="model")
