"""The forms of a report: JSON as stored, HTML for people, JUnit XML for CI systems, and files for other tools."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping

import mimeparse

from auditcore.contracts.canonical_json import sha256
from auditcore.report.failure import (
    AuditFailure,
    render_failure_junit,
    render_failure_markdown,
    render_failure_page,
)
from auditcore_service.use_cases.refusals import NotAcceptable, NotFound

JSON, HTML, JUNIT, MARKDOWN = "application/json", "text/html", "application/junit+xml", "text/markdown"
ML_BOM, MODEL_INDEX = "application/vnd.cyclonedx+json", "application/yaml"

_ANSWERS: Mapping[str, str] = {
    # the last of several equals wins, as in the library that matches them
    ML_BOM: ML_BOM,
    MODEL_INDEX: MODEL_INDEX,
    "text/xml": JUNIT,
    "application/xml": JUNIT,
    MARKDOWN: MARKDOWN,
    JUNIT: JUNIT,
    HTML: HTML,
    JSON: JSON,
}
"""What a client may ask for -> what it gets."""

NOT_ACCEPTABLE = f"a report comes as {JSON}, {HTML}, {JUNIT}, {MARKDOWN}, {ML_BOM} or {MODEL_INDEX}; ask for one"

OF_FAILURES = frozenset({HTML, JUNIT, MARKDOWN})
"""Forms in which an audit without a report says why it has none."""


def negotiate(accept: str) -> str:
    """Media type to answer with, from an Accept header.

    Raises:
        NotAcceptable: The header allows none of the forms of a report, or cannot be parsed.
    """
    # an empty element of a list means nothing (RFC 9110, 5.6.1), and an empty header is one that was not sent
    ranges = [part for part in accept.split(",") if part.strip()] or ["*/*"]
    try:
        best = mimeparse.best_match(_ANSWERS, ",".join(ranges).lower())
    except mimeparse.MimeTypeParseException as error:
        raise NotAcceptable(NOT_ACCEPTABLE, field="Accept") from error
    if not best:
        raise NotAcceptable(NOT_ACCEPTABLE, field="Accept")
    return _ANSWERS[best]


def render(report: bytes, media_type: str, picture: Callable[[str], bytes]) -> bytes:
    """A stored report in another form; JSON is passed on byte for byte.

    Args:
        report: The report as stored.
        media_type: What `negotiate` chose.
        picture: Bytes of an artifact by its digest; one that raises NotFound is left out of the page.

    Raises:
        NotAcceptable: The report is of a version that cannot be read, so that it comes only as JSON.
    """
    if media_type == JSON:
        return report
    from auditcore.report.reading import read_report  # noqa: PLC0415 - most gateways only ever hand out JSON

    try:
        parsed = read_report(report)
    except ValueError as error:
        msg = f"this report is of an earlier version and comes only as {JSON}; ask for that, or submit the audit again"
        raise NotAcceptable(msg, field="Accept") from error
    if media_type == HTML:
        from auditcore.report.page.html import render_html  # noqa: PLC0415 - loads jinja2

        return render_html(parsed, functools.partial(_stored_or_none, picture)).encode()
    if media_type == MARKDOWN:
        from auditcore.report.markdown import render_markdown  # noqa: PLC0415 - most gateways only ever hand out JSON

        return render_markdown(parsed).encode()
    if media_type == ML_BOM:
        from auditcore.report.ml_bom import render_ml_bom  # noqa: PLC0415 - loads cyclonedx

        return render_ml_bom(parsed, sha256(report)).encode()
    if media_type == MODEL_INDEX:
        from auditcore.report.model_index import render_model_index  # noqa: PLC0415 - loads yaml

        return render_model_index(parsed).encode()
    from auditcore.report.junit import render_junit  # noqa: PLC0415 - most gateways only ever hand out JSON

    return render_junit(parsed).encode()


def render_failure(failure: AuditFailure, media_type: str) -> bytes:
    """An audit that ended without a report, where another form than JSON is asked for.

    Args:
        failure: How it ended.
        media_type: HTML, JUNIT or MARKDOWN, as `negotiate` chose.
    """
    renderers = {HTML: render_failure_page, JUNIT: render_failure_junit, MARKDOWN: render_failure_markdown}
    return renderers[media_type](failure).encode()


def _stored_or_none(picture: Callable[[str], bytes], digest: str) -> bytes | None:
    """A picture; None if it is no longer stored, because a page without some of them is better than none."""
    try:
        return picture(digest)
    except NotFound:
        return None


def etag_of(content: bytes) -> str:
    """Strong entity tag: the digest of the bytes."""
    return f'"{hashlib.sha256(content).hexdigest()}"'


def etag_matches(if_none_match: str, etag: str) -> bool:
    """Whether a client already has this; comparison is weak, as RFC 9110 says for If-None-Match."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
