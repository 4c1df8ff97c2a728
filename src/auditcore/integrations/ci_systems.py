"""What GitHub Actions and GitLab CI say of a job in the environment, and where they read results from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

from auditcore.integrations.pipeline_gate import GateOutcome
from auditcore.integrations.sticky_comments import CommentNotPosted, StickyComment, github_comments, gitlab_notes


def github_pull_request(environment: Mapping[str, str]) -> StickyComment | None:
    """The comments of the pull request that a job of GitHub Actions is about; None if it is about none.

    Args:
        environment: GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_TOKEN, and GITHUB_EVENT_PATH or GITHUB_REF.

    Raises:
        CommentNotPosted: There is a pull request, and no token.
    """
    number = _pull_request_number(environment)
    if number is None:
        return None
    token = environment.get("GITHUB_TOKEN")
    if not token:
        message = "the comment was not posted: GITHUB_TOKEN is empty; the action sets it from its input `github-token`"
        raise CommentNotPosted(message)
    api = environment.get("GITHUB_API_URL") or "https://api.github.com"
    return github_comments(api, environment["GITHUB_REPOSITORY"], number, token)


def gitlab_merge_request(environment: Mapping[str, str]) -> StickyComment | None:
    """The notes of the merge request that a job of GitLab CI is about; None if it is about none.

    Args:
        environment: CI_API_V4_URL, CI_PROJECT_ID, CI_MERGE_REQUEST_IID and AUDIT_GITLAB_TOKEN.

    Raises:
        CommentNotPosted: There is a merge request, and no token.
    """
    number = environment.get("CI_MERGE_REQUEST_IID")
    if not number:
        return None
    token = environment.get("AUDIT_GITLAB_TOKEN")
    if not token:
        message = (
            "the note was not posted: the token of a job may not write notes; set AUDIT_GITLAB_TOKEN to a project "
            "access token with the scope `api`, or AUDIT_COMMENT to false"
        )
        raise CommentNotPosted(message)
    return gitlab_notes(environment["CI_API_V4_URL"], environment["CI_PROJECT_ID"], int(number), token)


def tell_github(outcome: GateOutcome, folder: Path, environment: Mapping[str, str]) -> None:
    """Write the outputs of the step and the summary of the job, where GitHub Actions asks for them.

    Args:
        outcome: What became of the audit.
        folder: Where the files of the gate are.
        environment: GITHUB_OUTPUT and GITHUB_STEP_SUMMARY; what is missing is not written.

    Raises:
        OSError: A file cannot be written.
    """
    outputs = {
        "audit-id": outcome.audit_id or "",
        "verdict": outcome.verdict or "error",
        "url": outcome.url or "",
        "report": str(folder),
        "exit-code": str(outcome.exit_status),
    }
    if path := environment.get("GITHUB_OUTPUT"):
        # a name that nobody can guess ends each value, so that no value can add an output of its own
        end = token_hex(16)
        _append(Path(path), "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in outputs.items()))
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        _append(Path(path), outcome.summary)


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _pull_request_number(environment: Mapping[str, str]) -> int | None:
    """From the event, which every kind of pull request event has; or from the ref of its merge."""
    if path := environment.get("GITHUB_EVENT_PATH"):
        try:
            event = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            event = {}
        found = event.get("pull_request") if isinstance(event, dict) else None
        if isinstance(found, dict) and isinstance(found.get("number"), int):
            return int(found["number"])
    ref = re.fullmatch(r"refs/pull/(\d+)/merge", environment.get("GITHUB_REF", ""))
    return None if ref is None else int(ref[1])
