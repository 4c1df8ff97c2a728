"""Errors of audits with several models: which model an error is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auditcore.errors import InputError


@contextmanager
def blaming_model(name: str | None, position: int | None) -> Iterator[None]:
    """Complete errors raised inside the block so that they name the model, in an audit of several.

    Checks and loaders know only one model and name fields such as `model.weights.uri`; in the request this is
    `models.1.model.weights.uri`, or `baseline.model.weights.uri`. An error about anything else, such as a label, names
    the model in its message.

    Args:
        name: Name of the model; None in an audit of one, whose errors need no change.
        position: Its position in `models`; None for the model of the baseline.

    Raises:
        InputError: The error raised inside, with `field` or `message` completed.
    """
    try:
        yield
    except InputError as error:
        if name is not None:
            first, *rest = error.field.split(".")
            if first == "model":
                place = ("baseline",) if position is None else ("models", str(position))
                error.field = ".".join((*place, "model", *rest))
            # an error of a model that is compared with this one names that one already
            elif first not in {"models", "baseline"}:
                error.message = f"model {name!r}: {error.message}"
                error.args = (error.message,)
        raise
