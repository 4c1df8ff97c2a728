"""The forms of a report: JSON as stored, HTML for people, JUnit XML for CI systems."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress

from auditcore.contracts.report import AuditReport
from auditcore_service.use_cases.refusals import NotAcceptable, NotFound

JSON, HTML, JUNIT = "application/json", "text/html", "application/junit+xml"

# what clients ask for -> what they get; the order decides between equals
_CAPABILITIES: Mapping[str, str] = {
    JSON: JSON,
    HTML: HTML,
    JUNIT: JUNIT,
    "application/xml": JUNIT,
    "text/xml": JUNIT,
}


def negotiate(accept: str) -> str:
    """Media type to answer with, from an Accept header.

    Raises:
        NotAcceptable: None of those asked for is offered.
    """
    wanted = _ranges(accept)
    quality = {capabilities: _quality(capabilities, wanted) for capabilities in _CAPABILITIES}
    best = max(quality, key=lambda capabilities: quality[capabilities])
    if quality[best] <= 0:
        msg = f"a report comes as {JSON}, {HTML} or {JUNIT}; ask for one of them"
        raise NotAcceptable(msg, field="Accept")
    return _CAPABILITIES[best]


def render(report: bytes, media_type: str, picture: Callable[[str], bytes]) -> bytes:
    """A stored report in another form; JSON is passed on byte for byte.

    Args:
        report: The report as stored.
        media_type: What `negotiate` chose.
        picture: Bytes of an artifact by its digest; NotFound leaves it out of the page.

    Raises:
        NotAcceptable: The report has the form of a version that cannot be read, which only JSON can pass on.
    """
    if media_type == JSON:
        return report
    from auditcore.report.reading import read_report  # noqa: PLC0415 - most gateways only ever hand out JSON

    try:
        parsed = read_report(report)
    except ValueError as error:
        msg = f"this report is of an earlier version and comes as {JSON} only; ask for that, or submit the audit again"
        raise NotAcceptable(msg, field="Accept") from error
    if media_type == HTML:
        from auditcore.report.page.html import render_html  # noqa: PLC0415

        return render_html(parsed, _pictures(parsed, picture)).encode()
    from auditcore.report.junit import render_junit  # noqa: PLC0415

    return render_junit(parsed).encode()


def _pictures(report: AuditReport, picture: Callable[[str], bytes]) -> dict[str, bytes]:
    """The pictures of the page; a report without its maps is better than none."""
    from auditcore.report.page.gallery import gallery_artifacts  # noqa: PLC0415 - likewise

    found: dict[str, bytes] = {}
    for artifact in gallery_artifacts(report):
        with suppress(NotFound):
            found[artifact.digest] = picture(artifact.digest)
    return found


def etag_of(content: bytes) -> str:
    """Strong entity tag: the digest of the bytes."""
    return f'"{hashlib.sha256(content).hexdigest()}"'


def etag_matches(if_none_match: str, etag: str) -> bool:
    """Whether a client already has this; comparison is weak, as RFC 9110 says for If-None-Match."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def _ranges(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.lower().split(";"))
        weight = next((p.partition("=")[2].strip() for p in parameters if p.startswith("q")), "1")
        try:
            found[media] = float(weight)
        except ValueError:
            found[media] = 0.0
    return found


def _quality(capabilities: str, wanted: Mapping[str, float]) -> float:
    """The most specific range decides."""
    for media in (capabilities, f"{capabilities.partition('/')[0]}/*", "*/*"):
        if media in wanted:
            return wanted[media]
    return 0.0
