"""Which of several models an error is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auditcore.errors import InputError


@contextmanager
def blaming_model(name: str | None, position: int) -> Iterator[None]:
    """Errors raised inside name the model they are about, in an audit of several.

    Checks and loaders know one model and blame fields such as `model.weights.uri`; in the request that is
    `models.1.model.weights.uri`. An error about anything else, such as a label, says in its message for which model.

    Args:
        name: What the audit calls the model; None in an audit of one, whose errors are right as they are.
        position: Its position in `models`.

    Raises:
        InputError: What was raised inside, with `field` or `message` completed.
    """
    try:
        yield
    except InputError as error:
        if name is not None:
            first, *rest = error.field.split(".")
            if first == "model":
                error.field = ".".join(("models", str(position), "model", *rest))
            else:
                error.message = f"model {name!r}: {error.message}"
                error.args = (error.message,)
        raise
