"""Answers that never change: entity tags, and 304 for clients that have them already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Header, Response

from auditcore_service.use_cases.representations import etag_matches

CACHE_CONTROL = "private, max-age=31536000, immutable"
"""Private: a report shows a model's weaknesses and a policy what its owner accepts, so no shared cache keeps them."""

IfNoneMatch = Annotated[str | None, Header(description="ETag of an earlier answer; 304 if it still holds.")]


def etag_of_digest(digest: str) -> str:
    """Strong entity tag of content that is known by its digest."""
    return f'"{digest.removeprefix("sha256:")}"'


def immutable(
    content: Callable[[], bytes], *, etag: str, media_type: str, if_none_match: str | None, vary: str | None = None
) -> Response:
    """The answer with its content, or 304 if the client has it.

    Args:
        content: Returns the body; not called if the client has it.
        etag: Strong entity tag, in quotes.
        media_type: Media type of the body.
        if_none_match: The header of the request.
        vary: The header of the request that chose the representation, if one did.
    """
    return _tagged(
        content, etag=etag, media_type=media_type, if_none_match=if_none_match, vary=vary, cached=CACHE_CONTROL
    )


def revalidated(content: Callable[[], bytes], *, etag: str, media_type: str, if_none_match: str | None) -> Response:
    """As `immutable`, for what may be replaced: a client asks each time whether it has the newest."""
    return _tagged(
        content, etag=etag, media_type=media_type, if_none_match=if_none_match, vary=None, cached="private, no-cache"
    )


def _tagged(
    content: Callable[[], bytes],
    *,
    etag: str,
    media_type: str,
    if_none_match: str | None,
    vary: str | None,
    cached: str,
) -> Response:
    headers = {"ETag": etag, "Cache-Control": cached} | ({} if vary is None else {"Vary": vary})
    if if_none_match is not None and etag_matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(content(), media_type=media_type, headers=headers)
