"""One comment on a merge request that is kept up to date, at GitHub and at GitLab.

The comment is found again by a marker that no reader sees, and only among the comments of the own account: everybody
can write the marker, and the author of a comment can change it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, Literal, Self, final
from urllib.parse import quote

import httpx

PER_PAGE: Final = 100
"""Comments on a page, the most that both give at a time."""

MOST_PAGES: Final = 50
"""Pages that are looked through; 5 000 comments are more than people write below one merge request."""

GITHUB_MOST_CHARACTERS: Final = 65_536
GITLAB_MOST_CHARACTERS: Final = 1_000_000
"""Longest comments that the two accept."""

_CUT = "\n\nThe rest is in the report.\n"

Posted = Literal["created", "updated"]


class CommentNotPosted(Exception):
    """The comment could not be written; the message says why and what to do."""


@final
class StickyComment:
    """The comments of one merge request.

    Use it as a context manager, which closes its connections.

    Attributes:
        most_characters: Longest comment.
    """

    def __init__(
        self,
        http: httpx.Client,
        path: str,
        *,
        update: Literal["PATCH", "PUT"],
        update_path: str,
        author_key: Literal["login", "id"],
        most_characters: int,
        advice: str,
    ) -> None:
        """Remember where comments are; `github_comments` and `gitlab_notes` know the paths.

        Args:
            http: Client with the address of the interface and the credentials.
            path: Where comments are listed and created.
            update: Method that changes a comment.
            update_path: Where a comment is changed, with `{}` for its id.
            author_key: Field by which an account is told from others.
            most_characters: Longest comment.
            advice: What to check if the interface refuses.
        """
        self._http = http
        self._path = path
        self._update = update
        self._update_path = update_path
        self._author_key = author_key
        self.most_characters = most_characters
        self._advice = advice

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def post(self, text: str, *, key: str = "") -> Posted:
        """Write a text as the comment: change the one that is there, or create it.

        Args:
            text: Markdown. What does not fit is cut at the end of a line.
            key: Tells comments of several audits on one merge request apart.

        Raises:
            CommentNotPosted: The interface cannot be reached or refuses.
        """
        marker = marker_of(key)
        body = {"body": f"{marker}\n{fitted(text, self.most_characters - len(marker) - 1)}"}
        try:
            found = self._own(marker)
            if found is None:
                self._call("POST", self._path, json=body)
                return "created"
            self._call(self._update, self._update_path.format(found), json=body)
        except httpx.HTTPError as error:
            message = f"the comment was not posted: {self._http.base_url} does not answer ({error})"
            raise CommentNotPosted(message) from error
        return "updated"

    def _own(self, marker: str) -> int | None:
        """Id of the comment with the marker by the own account; None if there is none."""
        is_own = self._authorship()
        for comment in self._comments():
            body = comment.get("body")
            if isinstance(body, str) and body.startswith(marker) and is_own(comment):
                return int(comment["id"])
        return None

    def _comments(self) -> Iterator[Mapping[str, Any]]:
        for page in range(1, MOST_PAGES + 1):
            found = self._call("GET", self._path, params={"per_page": PER_PAGE, "page": page}).json()
            yield from found
            if len(found) < PER_PAGE:
                return

    def _authorship(self) -> Callable[[Mapping[str, Any]], bool]:
        """Whether a comment is by the own account. The token of a workflow may not ask who it is: it is a bot."""
        answer = self._http.get("user")
        if not answer.is_success:
            return lambda comment: _account(comment).get("type") == "Bot"
        own = answer.json()[self._author_key]
        return lambda comment: bool(_account(comment).get(self._author_key) == own)

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own options
        answer = self._http.request(method, path, **options)
        if not answer.is_success:
            message = (
                f"the comment was not posted: {answer.request.url.copy_with(query=None)} answers {answer.status_code}; "
                f"{self._advice}"
            )
            raise CommentNotPosted(message)
        return answer


def _account(comment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Who wrote a comment: `user` at GitHub, `author` at GitLab."""
    found = comment.get("user") or comment.get("author")
    return found if isinstance(found, Mapping) else {}


def github_comments(api: str, repository: str, number: int, token: str) -> StickyComment:
    """The comments of a pull request.

    Args:
        api: Address of the interface, as in GITHUB_API_URL.
        repository: Owner and name.
        number: Number of the pull request.
        token: Token with the permission `pull-requests: write`.
    """
    http = _client(api, {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"})
    base = f"repos/{quote(repository)}/issues"
    return StickyComment(
        http,
        f"{base}/{number}/comments",
        update="PATCH",
        update_path=f"{base}/comments/{{}}",
        author_key="login",
        most_characters=GITHUB_MOST_CHARACTERS,
        advice="give the job the permission `pull-requests: write`; a pull request from a fork cannot have it",
    )


def gitlab_notes(api: str, project: str, number: int, token: str) -> StickyComment:
    """The notes of a merge request.

    Args:
        api: Address of the interface, as in CI_API_V4_URL.
        project: Id of the project, as in CI_PROJECT_ID.
        number: Number of the merge request, as in CI_MERGE_REQUEST_IID.
        token: Project access token with the scope `api`; the token of a job may not write notes.
    """
    notes = f"projects/{quote(project, safe='')}/merge_requests/{number}/notes"
    return StickyComment(
        _client(api, {"PRIVATE-TOKEN": token}),
        notes,
        update="PUT",
        update_path=f"{notes}/{{}}",
        author_key="id",
        most_characters=GITLAB_MOST_CHARACTERS,
        advice="check that AUDIT_GITLAB_TOKEN is a project access token with the scope `api`",
    )


def marker_of(key: str) -> str:
    """The line that a comment begins with; renderers leave it out. The digest keeps any text from ending it."""
    return f"<!-- auditcore {sha256(key.encode()).hexdigest()[:16]} -->"


def fitted(text: str, most: int) -> str:
    """A text of at most so many characters, cut at the end of a line."""
    if len(text) <= most:
        return text
    kept, _, _ = text[: most - len(_CUT)].rpartition("\n")
    return (kept or text[: most - len(_CUT)]) + _CUT


def _client(api: str, headers: Mapping[str, str]) -> httpx.Client:
    return httpx.Client(base_url=f"{api.rstrip('/')}/", headers=dict(headers), timeout=30)
