"""What routes that list page by page have in common."""

from __future__ import annotations

from fastapi import Request, Response

from auditcore_service.gateway.problem_responses import problem_example

CURSOR_EXAMPLE = "WzE3OTUzNDg4MDAuMCwgIjBiNmY1YzFlLTNhNTItNGYwZS05Yzc3LTFmMmYwYThmNGQxMSJd"

INVALID_CURSOR = problem_example(
    422,
    "invalid_cursor",
    "this cursor is not from this service; send `next_cursor` unchanged, or no cursor for the first page",
    pointer="#query/cursor",
)


def link_next_page(request: Request, response: Response, cursor: str | None) -> None:
    """Add the header Link with the address of the next page, if there is one."""
    if cursor is not None:
        url = request.url.include_query_params(cursor=cursor)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
