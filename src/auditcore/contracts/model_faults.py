"""Errors of audits of several models: which model an error is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auditcore.errors import InputError


@contextmanager
def blaming_model(name: str | None, position: int) -> Iterator[None]:
    """Complete errors raised inside the block so that they name the model, in an audit of several.

    Checks and loaders know only one model and name fields such as `model.weights.uri`; in the request this is
    `models.1.model.weights.uri`. An error about anything else, such as a label, names the model in its message.

    Args:
        name: Name of the model; None in an audit of one, whose errors need no change.
        position: Its position in `models`.

    Raises:
        InputError: The error raised inside, with `field` or `message` completed.
    """
    try:
        yield
    except InputError as error:
        if name is not None:
            first, *rest = error.field.split(".")
            if first == "model":
                error.field = ".".join(("models", str(position), "model", *rest))
            # an error of a model that is compared with this one names that one already
            elif first != "models":
                error.message = f"model {name!r}: {error.message}"
                error.args = (error.message,)
        raise
