"""The request of an experiment in its folder, so that another experiment does not go on from what is there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pydantic import ValidationError

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.experiments.stage import REPORT
from auditcore.errors import InvalidRequest
from auditcore.kept_files import KeptFolder

REQUEST: Final = "request.json"
"""The kept file with the request."""


def keep_request(folder: KeptFolder, request: Contract, *, what: str, may_change: Collection[str] = ()) -> None:
    """Keep the request in the folder of its experiment.

    Args:
        folder: An empty folder, or the one of the same experiment, to go on with it.
        request: With pinned models.
        what: What the experiment is called, such as `study`.
        may_change: Fields that change no value, so that the experiment may go on with others.

    Raises:
        InvalidRequest: The folder holds something else.
    """
    known = folder.read(REQUEST)
    # a report without a request is of something else, and would be replaced at the end
    if known is None and folder.read(REPORT) is None:
        folder.keep(REQUEST, request.model_dump_json(indent=2).encode())
    elif known is None or not _is_same(known, request, may_change, folder):
        msg = f"{folder.path} holds another {what}; name an empty folder, or the one of this {what} to go on with it"
        raise InvalidRequest(msg, field="out")


def _is_same(known: bytes, request: Contract, may_change: Collection[str], folder: KeptFolder) -> bool:
    try:
        earlier = type(request).model_validate_json(known)
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid":
            return False
        msg = f"{folder.path / REQUEST} is damaged; name an empty folder to begin anew"
        raise InvalidRequest(msg, field="out") from error
    return _identity(earlier, may_change) == _identity(request, may_change)


def _identity(request: Contract, may_change: Collection[str]) -> Sha256:
    """Digest of what a request is about."""
    fields = request.model_dump(mode="json")
    return digest_of({name: value for name, value in fields.items() if name not in may_change})
