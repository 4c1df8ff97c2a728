"""Errors of a training that a measure makes: their field is the path in the plan of the measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auditcore.contracts.explainers import Explainer
from auditcore.errors import InputError, InvalidRequest, NotApplicable

_PLAN = "plan."


@contextmanager
def blaming_training() -> Iterator[None]:
    """Complete the field of errors of a training, such as `plan.optimizer` to `plan.training.optimizer`.

    Raises:
        InputError: The same.
    """
    try:
        yield
    except InputError as error:
        if error.field.startswith(_PLAN):
            error.field = f"{_PLAN}training.{error.field.removeprefix(_PLAN)}"
        raise


@contextmanager
def blaming_explainer(explainer: Explainer) -> Iterator[None]:
    """Turn a map that cannot be made after all into an error that names the explainer.

    Raises:
        InvalidRequest: The method is not right on this model.
    """
    try:
        yield
    except NotApplicable as error:
        msg = f"explainer {explainer.label!r} has no map of this model: {error.message}; leave it out"
        raise InvalidRequest(msg, field="plan.explainers") from error
