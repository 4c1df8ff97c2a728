"""The part of GitHub's and GitLab's interfaces that comments use, as a real HTTP server with comments in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scripted_server import Asked, Reply, Scripted, scripted

BOT = {"login": "github-actions[bot]", "type": "Bot", "id": 41}
PERSON = {"login": "mallory", "type": "User", "id": 666}

_COMMENTS = re.compile(
    r"/repos/team/model/issues/7/comments"
    r"|/repos/team/model/issues/comments/(?P<github>\d+)"
    r"|/projects/12/merge_requests/7/notes(/(?P<gitlab>\d+))?"
)


@dataclass
class Forge:
    """The running server and what is on it.

    Attributes:
        url: Where its interface is.
        comments: All comments of merge request 7, oldest first.
        account: Whose token is used.
        knows_itself: Whether the token may ask whose it is; that of a workflow may not.
        refuses: Status with which it answers every change; None if it makes them.
        calls: Method and path of all requests.
    """

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    account: dict[str, Any] = field(default_factory=lambda: dict(BOT))
    knows_itself: bool = False
    refuses: int | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def add(self, body: str, account: dict[str, Any]) -> None:
        """A comment of an account; `user` is how GitHub calls it, `author` how GitLab does."""
        self.comments.append({"id": 1000 + len(self.comments), "body": body, "user": account, "author": account})

    def answer(self, asked: Asked) -> Reply:
        """The answer of the interface."""
        parts = urlsplit(asked.path)
        self.calls.append((asked.method, parts.path))
        self.tokens.add(asked.headers.get("authorization") or asked.headers.get("private-token", ""))
        if parts.path == "/user":
            return _json(self.account) if self.knows_itself else Reply(status=403)
        found = _COMMENTS.fullmatch(parts.path)
        if found is None:
            return Reply(status=404)
        if asked.method == "GET":
            query = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
            size = min(query.get("per_page", 30), 100)
            start = size * (query.get("page", 1) - 1)
            return _json(self.comments[start : start + size])
        if self.refuses is not None:
            return Reply(status=self.refuses)
        body = json.loads(asked.body)["body"]
        number = found["github"] or found["gitlab"]
        if number is None:
            assert asked.method == "POST"
            self.add(body, self.account)
            return _json(self.comments[-1], status=201)
        assert asked.method == ("PATCH" if found["github"] else "PUT")
        comment = next(one for one in self.comments if one["id"] == int(number))
        comment["body"] = body
        return _json(comment)


def _json(value: object, status: int = 200) -> Reply:
    return Reply(status=status, content=json.dumps(value).encode())


@contextmanager
def forge() -> Iterator[Forge]:
    """A running server without comments."""
    one = Forge()
    server: Scripted
    with scripted(one.answer) as server:
        one.url = server.url
        yield one
