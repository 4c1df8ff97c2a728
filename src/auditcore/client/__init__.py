"""A client of a running auditcore service, without torch: upload, submit, wait, read the report.

    from auditcore import DemoModel
    from auditcore.client import Client

    with Client("http://127.0.0.1:8000") as client:
        batch = client.upload("photos/")
        audit = client.submit(model=DemoModel(), images=batch, plan="quick", policy="quick-look@1.0.0")
        client.wait(audit.id, on_progress=lambda status: print(f"{status.fraction:.0%}"))
        print(client.report(audit.id).verdict)

`AsyncClient` has the same methods for an event loop. Errors are in `auditcore.client.errors`, answers in
`auditcore.client.answers`. Needs the extra `auditcore[client]`.
"""

from __future__ import annotations

from auditcore.client.clients import AsyncClient, Client
from auditcore.client.errors import (
    AuditCancelled,
    AuditFailed,
    ClientError,
    Refused,
    Unreachable,
    WaitTimeout,
)
from auditcore.client.retries import Retries
from auditcore.client.uploads import NamedImage
from auditcore.client.verification import verify

__all__ = [
    "AsyncClient",
    "AuditCancelled",
    "AuditFailed",
    "Client",
    "ClientError",
    "NamedImage",
    "Refused",
    "Retries",
    "Unreachable",
    "WaitTimeout",
    "verify",
]
