"""Settings as a command reads them: from the environment, with its own options on top."""

from __future__ import annotations

import os
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from auditcore_service.cli.outcome import CommandError, err
from auditcore_service.settings import Settings, unknown_variables


def read_settings(**given: Any) -> Settings:  # noqa: ANN401 - options of different types
    """Settings from `AUDIT_*` variables. Names a variable that is misspelt, since nothing would read it.

    Args:
        given: Options of the command line; None leaves a setting to the environment.

    Raises:
        CommandError: A value is not valid.
    """
    for name, nearest in unknown_variables(os.environ).items():
        advice = "remove it" if nearest is None else f"did you mean {nearest}?"
        err.print(f"warning: {name} is not a setting and is ignored; {advice}", highlight=False, markup=False)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        errors = [(_variable(item["loc"]), str(item["msg"]).removeprefix("Value error, ")) for item in error.errors()]
        message = "a setting is not valid"
        raise CommandError(message, errors=errors) from error
    except SettingsError as error:
        # raised for lists that are not JSON; it names the field and, as its cause, what the parser met
        message = f"a setting is not valid: {error}; write lists as JSON, such as '[\"/data\"]' ({error.__cause__})"
        raise CommandError(message) from error


def _variable(location: tuple[int | str, ...]) -> str:
    """The variable that a location of pydantic names; the alias of a setting is one already."""
    name = ".".join(str(part) for part in location).upper()
    return name if not name or name.startswith("AUDIT_") else f"AUDIT_{name}"
