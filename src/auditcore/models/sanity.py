"""Whether all logits were valid: checked at once on the CPU, and on an accelerator when its results are read."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from auditcore.errors import ModelOutputInvalid


@final
class LogitGuard:
    """Checks the logits of one classifier. -inf is allowed for classes that are masked: their probability is 0."""

    def __init__(self, *, one_color: bool = True) -> None:
        """Begin without any pass.

        Args:
            one_color: Whether the model gives logits for an image of one color; errors mention it if not.
        """
        self._invalid: Tensor | None = None
        self._one_color = one_color

    def error(self) -> ModelOutputInvalid:
        """Return the error for logits of this classifier that are not valid."""
        return invalid_output(one_color=self._one_color)

    def see(self, logits: Float[Tensor, "..."]) -> None:
        """Check the logits of a pass. On an accelerator the check is only queued, so that the host does not wait.

        Raises:
            ModelOutputInvalid: A logit on the CPU is NaN or +inf, or all logits of an image are -inf.
        """
        # reading the result from an accelerator now would make the host wait for it
        invalid = _invalid(logits)
        if logits.device.type == "cpu":
            if bool(invalid):
                raise self.error()
        else:
            self._invalid = invalid if self._invalid is None else self._invalid | invalid

    def require_finite(self) -> None:
        """Wait for the passes since the last call and check them.

        Raises:
            ModelOutputInvalid: One of their logits is NaN or infinite.
        """
        if self.has_seen_invalid():
            raise self.error()

    def has_seen_invalid(self) -> bool:
        """Wait for the passes since the last call and return whether one of their logits was NaN or infinite."""
        seen, self._invalid = self._invalid, None
        return seen is not None and bool(seen)

    def forget(self) -> None:
        """Forget earlier passes: an audit that broke off must not make the next one fail."""
        self._invalid = None


def is_invalid(logits: Float[Tensor, "..."]) -> bool:
    """Return whether a logit is NaN or +inf, or all logits of an image are -inf. This waits for the device."""
    return bool(_invalid(logits))


def _invalid(logits: Tensor) -> Tensor:
    # the largest logit of an image is NaN if one is, +inf if one is, and -inf only if all are
    return ~logits.amax(dim=-1).isfinite().all()


def invalid_output(*, one_color: bool = True, on: str = "an image") -> ModelOutputInvalid:
    """Return the error for logits that are not valid.

    Args:
        one_color: Whether the model gives logits for an image of one color.
        on: What the model was given.
    """
    if one_color:
        msg = (
            f"the model returned NaN or infinite logits for {on}; check its weights and preprocessing, "
            "and divisions by values that can be 0 (-inf is allowed, for classes that are masked)"
        )
    else:
        msg = (
            "the model returned NaN or infinite logits, as it does for an image of one color; it may divide by the "
            "standard deviation of each image: add a small number to the divisor, or leave out methods and checks that "
            "make images of one color"
        )
    return ModelOutputInvalid(msg, field="model")
