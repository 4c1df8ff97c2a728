"""The request of an experiment in its folder, so that another experiment does not go on from what is there."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Contract
from auditcore.contracts.experiments.stage import REPORT
from auditcore.errors import InvalidRequest
from auditcore.kept_files import KeptFolder

REQUEST: Final = "request.json"
"""The kept file with the request."""


def keep_request(folder: KeptFolder, request: Contract, *, what: str) -> None:
    """Keep the request in the folder of its experiment.

    Args:
        folder: An empty folder, or the one of the same experiment, to go on with it.
        request: With pinned models.
        what: What the experiment is called, such as `study`.

    Raises:
        InvalidRequest: The folder holds something else.
    """
    known = folder.read(REQUEST)
    # a report without a request is of something else, and would be replaced at the end
    if known is None and folder.read(REPORT) is None:
        folder.keep(REQUEST, request.model_dump_json(indent=2).encode())
    elif known is None or not _same(known, request):
        msg = f"{folder.path} holds another {what}; name an empty folder, or the one of this {what} to go on with it"
        raise InvalidRequest(msg, field="out")


def _same(known: bytes, request: Contract) -> bool:
    try:
        earlier = type(request).model_validate_json(known)
    except ValidationError:
        return False
    return digest_of(earlier) == digest_of(request)
