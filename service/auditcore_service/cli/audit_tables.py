"""Audits of a service as a person or a program reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditcore.client.answers import AuditStatus

_STYLES = {"pass": "green", "warn": "yellow", "fail": "red", "inconclusive": "yellow", "failed": "red"}

_AUDITS = TypeAdapter(tuple[AuditStatus, ...])


def show_audits(audits: Sequence[AuditStatus], console: Console, *, as_json: bool) -> None:
    """Print audits, one a line.

    Args:
        audits: In their order.
        console: Where to print.
        as_json: Whether to print a list of JSON objects.
    """
    if as_json:
        print(_AUDITS.dump_json(tuple(audits), indent=2).decode())  # noqa: T201 - read by programs
        return
    if not audits:
        console.print("no audit matches", highlight=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    # an id is copied, so that it must not break; a name can
    table.add_column("id", no_wrap=True)
    table.add_column("submitted (UTC)", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("images", justify="right")
    table.add_column("name", overflow="fold")
    table.add_column("tags", overflow="fold")
    for audit in audits:
        running = f" {audit.fraction:.0%}" if audit.state == "running" else ""
        table.add_row(
            audit.id,
            f"{audit.created_at:%Y-%m-%d %H:%M}",
            Text(f"{audit.state}{running}", style=_STYLES.get(audit.state, "")),
            Text(audit.verdict or "", style=_STYLES.get(audit.verdict or "", "")),
            str(audit.images),
            Text(audit.name or ""),
            Text(" ".join(f"{key}:{value}" for key, value in audit.tags.items())),
        )
    console.print(table)


def show_status(audit: AuditStatus, url: str, console: Console, *, as_json: bool) -> None:
    """Print where an audit stands.

    Args:
        audit: Its status.
        url: Address of the service.
        console: Where to print.
        as_json: Whether to print one JSON object.
    """
    if as_json:
        print(audit.model_dump_json(indent=2))  # noqa: T201 - read by programs
        return
    facts: dict[str, object] = {
        "id": audit.id,
        "name": audit.name,
        "state": f"{audit.state}, {audit.fraction:.0%} of the work done",
        "verdict": audit.verdict,
        "images": audit.images,
        "submitted": _time(audit.created_at),
        "ended": None if audit.finished_at is None else _time(audit.finished_at),
        "tags": " ".join(f"{key}:{value}" for key, value in audit.tags.items()) or None,
        "waits": None if audit.waiting_for is None else audit.waiting_for.message,
        "error": None if audit.error is None else f"{audit.error.message} ({audit.error.code})",
        "page": f"{url}{audit.links['page']}",
    }
    for name, value in facts.items():
        if value is not None:
            console.print(f"{name}: {value}", highlight=False, markup=False, soft_wrap=True)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
