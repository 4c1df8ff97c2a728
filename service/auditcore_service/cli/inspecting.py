"""The command `inspect`: what will run on a model, from a service or from loading it in this process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from auditcore.contracts.access import AccessRules
from auditcore.contracts.inspection import Ability, Inspection, InspectionRequest
from auditcore.errors import AuditcoreError, InputError
from auditcore_service.cli.inputs import read_request, resolve_paths
from auditcore_service.cli.outcome import CommandError, mistakes
from auditcore_service.cli.progress import ShowProgress
from auditcore_service.cli.service_client import connected

_RUNS = {True: ("yes", "green"), False: ("no", "red"), None: ("not known yet", "yellow")}


def read_model(path: Path) -> dict[str, Any]:
    """The body of an inspection, from a request for one model or from a file with only a model reference.

    Raises:
        CommandError: The file is neither.
    """
    document = read_request(path)
    if "kind" in document:
        return {"model": document}
    if not isinstance(document.get("model"), dict):
        message = f'{path} holds no model: give a request with `model`, or a model reference such as {{"kind": ...}}'
        raise CommandError(message)
    return {name: document[name] for name in ("model", "plan") if name in document}


def inspect_here(path: Path, *, access: AccessRules, progress: ShowProgress) -> Inspection:
    """What will run on a model that is loaded in this process.

    Args:
        path: A request file, or a file with a model reference.
        access: What the request may reach, besides the file's own folder.
        progress: Called with each stage.

    Raises:
        CommandError: The model cannot be audited; the message names the field and how to fix it.
    """
    document = read_model(path)
    folder = path.absolute().parent
    resolve_paths(document, folder)
    try:
        request = InspectionRequest.model_validate(document)
    except ValidationError as error:
        message = f"{path} names no valid model"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error

    progress(None, "loading torch")
    from auditcore.auditing import inspect_model  # noqa: PLC0415 - torch takes seconds to load

    progress(None, "loading the model and looking at its layers")
    try:
        # code of a model may print, and the answer on stdout is read by programs
        with contextlib.redirect_stdout(sys.stderr):
            return inspect_model(request, access=access.model_copy(update={"file_roots": (*access.file_roots, folder)}))
    except InputError as error:
        message = f"the model of {path} cannot be audited"
        raise CommandError(message, errors=[(error.field, error.message)], code=error.code) from error
    except AuditcoreError as error:
        raise CommandError(error.message, code=error.code) from error


def ask_service(path: Path, *, url: str, token: Callable[[], str] | None = None) -> Inspection:
    """Ask a service, repeatedly until a worker has looked at the model.

    Raises:
        CommandError: The service refuses the model or cannot be reached.
    """
    with connected(url, token=token) as client:
        return client.inspect(read_model(path))


def show_inspection(found: Inspection, console: Console, *, as_json: bool) -> None:
    """Print an answer, for people or for programs."""
    if as_json:
        print(found.model_dump_json(indent=2))  # noqa: T201 - read by programs
        return
    facts: dict[str, object] = {}
    for name in ("version", "revision", "sha256"):
        value = getattr(found.model, name, None)
        if value is not None:
            facts[name] = value
    facts |= found.facts
    if found.found is not None:
        size = found.found.parameters
        facts |= {
            "classes": found.found.classes,
            "parameters": "black box" if size is None else f"{size:,}",
            "digest": found.found.digest,
        }
    for name, value in facts.items():
        console.print(f"{name}: {value}", highlight=False, markup=False, soft_wrap=True)
    for note in () if found.found is None else found.found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(_table("explainer", found.explainers))
    console.print(_table("check", found.checks))


def _table(title: str, abilities: Sequence[Ability]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(title, no_wrap=True)
    table.add_column("runs", no_wrap=True)
    layers = any(one.layer is not None for one in abilities)
    table.add_column("why not, or the layer it reads" if layers else "why not", overflow="fold")
    for one in abilities:
        word, style = _RUNS[one.runs]
        table.add_row(one.name, f"[{style}]{word}[/]", one.reason or one.layer or "")
    return table
