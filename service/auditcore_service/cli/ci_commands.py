"""The commands `ci github` and `ci gitlab`: an audit as the gate of a pipeline, told where its system shows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditcore_service.cli.extras import CLIENT, missing_extra
from auditcore_service.cli.outcome import EXIT_INTERRUPTED, CommandError, err, out, stop

if TYPE_CHECKING:
    from auditcore.integrations.pipeline_gate import GateOutcome
    from auditcore.integrations.sticky_comments import StickyComment

ci = typer.Typer(
    name="ci",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Gate a pipeline of GitHub Actions or GitLab CI on an audit, and say the verdict where people look.\n\n"
    "Submits the request, waits, writes report.json, report.html, report.xml (JUnit) and summary.md into a folder, and "
    "keeps one comment on the pull or merge request up to date. Exits with 0 for the verdicts pass, warn and "
    "not_evaluated, 1 for fail, 3 for inconclusive, 2 if there is no verdict.",
)

RequestArgument = Annotated[
    Path, typer.Argument(envvar="AUDIT_REQUEST", help="Request file; `images` may be left out with --images.")
]
UrlOption = Annotated[str, typer.Option("--url", "-u", envvar="AUDIT_URL", help="Address of the service.")]
ImagesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        "-i",
        help="Image files or folders instead of the request's own; repeatable. Or AUDIT_IMAGES, one a line.",
    ),
]
PolicyOption = Annotated[
    str | None,
    typer.Option(
        envvar="AUDIT_POLICY",
        metavar="FILE|NAME@VERSION",
        help="Policy in place of the request's own: a file, or the name and version of one that the service knows.",
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        envvar="AUDIT_NAME",
        help="What to call the audit in lists. Audits of different names have comments of their own.",
    ),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="KEY:VALUE", help="To find the audit by; repeatable. Or AUDIT_TAGS, one a line."),
]
CommentOption = Annotated[
    bool, typer.Option("--comment/--no-comment", envvar="AUDIT_COMMENT", help="Write the comment, if there is a place.")
]
FolderOption = Annotated[Path, typer.Option(envvar="AUDIT_FOLDER", help="Where the files are written.")]

_URL = "http://127.0.0.1:8000"
_FOLDER = Path("auditcore-report")


@ci.command()
def github(
    request: RequestArgument,
    url: UrlOption = _URL,
    images: ImagesOption = None,
    policy: PolicyOption = None,
    name: NameOption = None,
    tag: TagOption = None,
    folder: FolderOption = _FOLDER,
    comment: CommentOption = True,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Gate a job of GitHub Actions. The action of auditcore calls it.

    Writes the summary of the job and the outputs audit-id, verdict, url, report (the folder) and exit-code. The comment
    needs GITHUB_TOKEN with the permission `pull-requests: write`. The service's token is in AUDIT_TOKEN.

    For example:

        auditcore ci github request.json --url https://auditcore.example --images photos/
    """
    from auditcore.integrations.ci_systems import github_pull_request, tell_github  # noqa: PLC0415 - loads pydantic

    outcome = _gate(request, url, images, policy=policy, name=name, tags=tag, folder=folder)
    tell_github(outcome, folder, os.environ)
    _finish(outcome, github_pull_request if comment else None, key=name or "")


@ci.command()
def gitlab(
    request: RequestArgument,
    url: UrlOption = _URL,
    images: ImagesOption = None,
    policy: PolicyOption = None,
    name: NameOption = None,
    tag: TagOption = None,
    folder: FolderOption = _FOLDER,
    comment: CommentOption = True,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Gate a job of GitLab CI. The template of auditcore calls it.

    The note on the merge request needs a project access token with the scope `api` in AUDIT_GITLAB_TOKEN. The service's
    token is in AUDIT_TOKEN.

    For example:

        auditcore ci gitlab request.json --url https://auditcore.example --images photos/
    """
    from auditcore.integrations.ci_systems import gitlab_merge_request  # noqa: PLC0415 - loads pydantic

    outcome = _gate(request, url, images, policy=policy, name=name, tags=tag, folder=folder)
    _finish(outcome, gitlab_merge_request if comment else None, key=name or "")


def _gate(
    request: Path,
    url: str,
    images: list[Path] | None,
    *,
    policy: str | None,
    name: str | None,
    tags: list[str] | None,
    folder: Path,
) -> GateOutcome:
    missing = missing_extra(CLIENT)
    if missing is not None:
        stop(CommandError(missing))
    from auditcore.client import Client, ClientError  # noqa: PLC0415 - `--help` needs no httpx
    from auditcore.integrations.pipeline_gate import run_gate  # noqa: PLC0415 - the same
    from auditcore_service.cli.audit_labels import with_labels  # noqa: PLC0415 - the same
    from auditcore_service.cli.inputs import read_request  # noqa: PLC0415 - the same

    try:
        document = read_request(request)
        with_labels(document, name=name, tags=tags or _lines("AUDIT_TAGS"))
        if policy is not None:
            document["policy"] = _policy(policy)
        given = images or [Path(line) for line in _lines("AUDIT_IMAGES")]
        with Client(url) as client:
            return run_gate(client, document, images=given, folder=folder, tell=_tell)
    except CommandError as error:
        stop(error)
    except ClientError as error:
        # what happens after a submit is an outcome; this is an address or a token that cannot be right
        stop(CommandError(str(error), code=error.code))
    except OSError as error:
        stop(CommandError(f"{folder} cannot be written ({error.strerror}); choose another with --folder"))
    except KeyboardInterrupt:
        err.print("interrupted; an audit that was accepted goes on", highlight=False, markup=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _finish(
    outcome: GateOutcome, place: Callable[[Mapping[str, str]], StickyComment | None] | None, *, key: str
) -> None:
    """Write the comment and exit by the verdict. A comment that cannot be written changes no verdict."""
    from auditcore.integrations.sticky_comments import CommentNotPosted  # noqa: PLC0415 - loads httpx

    if place is not None:
        try:
            comments = place(os.environ)
            if comments is not None:
                with comments:
                    _tell(f"comment {comments.post(outcome.summary, key=key)}")
        except CommentNotPosted as error:
            err.print(f"warning: {error}", highlight=False, markup=False)
    if outcome.problem is not None:
        err.print(f"error: {outcome.problem}", highlight=False, markup=False)
    out.print(f"verdict: {outcome.verdict or 'none'}", highlight=False, markup=False)
    raise typer.Exit(outcome.exit_status)


def _policy(given: str) -> object:
    """A file of conditions or a policy document as it stands; else a name that the service knows."""
    from auditcore_service.cli.inputs import read_json  # noqa: PLC0415 - loads pydantic

    return read_json(Path(given)) if Path(given).is_file() else given


def _lines(variable: str) -> list[str]:
    return [line.strip() for line in os.environ.get(variable, "").splitlines() if line.strip()]


def _tell(line: str) -> None:
    err.print(line, highlight=False, markup=False)
