"""A model reference of a file as a TorchServe archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from auditcore.contracts.access import AccessRules
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel
from auditcore.errors import AuditcoreError, InputError
from auditcore_service.cli.inputs import resolve_paths
from auditcore_service.cli.inspecting import read_model
from auditcore_service.cli.outcome import CommandError, mistakes


def archive(path: Path, out: Path, *, name: str, version: str, extra: Sequence[Path], access: AccessRules) -> None:
    """Load the model of a file and write its archive.

    Raises:
        CommandError: The file names no model that can be archived, or it cannot be loaded.
    """
    document = read_model(path)
    folder = path.absolute().parent
    resolve_paths(document, folder)
    try:
        model = InspectionRequest.model_validate(document).model
    except ValidationError as error:
        message = f"{path} names no valid model"
        raise CommandError(message, errors=mistakes(error.errors(), document), code="invalid_request") from error
    if not isinstance(model, TorchvisionModel | TimmModel | FactoryModel | DemoModel):
        message = f"a model of kind {model.kind!r} cannot be archived; name architecture and weights"
        raise CommandError(message)

    from auditcore.models.archive_writing import write_archive  # noqa: PLC0415 - torch takes seconds to load

    rules = access.model_copy(update={"file_roots": (*access.file_roots, folder)})
    try:
        write_archive(out, name=name, version=version, model=model, access=rules, extra_files=extra)
    except InputError as error:
        message = f"the model of {path} cannot be archived"
        raise CommandError(message, errors=[(error.field, error.message)], code=error.code) from error
    except (AuditcoreError, OSError) as error:
        message = f"the model of {path} cannot be archived: {error}"
        raise CommandError(message) from error
