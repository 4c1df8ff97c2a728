"""A client of the service: upload, submit, follow, fetch."""

from __future__ import annotations

import json
import shlex
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from pydantic import BaseModel

from auditcore.evidence.event_log import LogEntry
from auditcore_service.cli.found_images import ImageFile
from auditcore_service.cli.outcome import CommandError
from auditcore_service.use_cases.annotations import GivenAnnotations

Jobs = Literal["audits", "trainings", "experiments"]
"""What a service does; also the part of a path."""

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})

POLL_S = 0.5
"""Seconds between two requests for the status of an audit. One costs the service less than 2 ms."""

CURL_CREDENTIALS = '-H "Authorization: Bearer $AUDIT_TOKEN" '
"""What a curl command needs for a service with authentication; the shell fills it in, so that it is never shown."""

PATIENCE = 20
"""Failed requests in a row after which the service counts as gone; until then it may be restarting."""


class ServiceClient:
    """A connection to one service.

    `narrate` is called before every call, with a curl command that does the same. `token` is called for each request,
    so that a file that is renewed is read again; without it, requests carry no credentials.

    Raises:
        CommandError: The URL is not that of a service.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Callable[[], str] | None = None,
        narrate: Callable[[str], None] = lambda _line: None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = _checked(url)
        self._token = token
        self._narrate_line = narrate
        self._sleep = sleep
        self._http = httpx.Client(base_url=self._url, timeout=httpx.Timeout(60, connect=10), transport=transport)

    def __enter__(self) -> Self:
        """Use as a context manager: connections are closed at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._http.close()

    def upload(self, images: Sequence[ImageFile], annotations: GivenAnnotations | None = None) -> str:
        """Upload image files as one batch and return its digest.

        Args:
            images: Files, in order.
            annotations: What is known of them.

        Raises:
            CommandError: The service refuses them or cannot be reached.
        """
        given = annotations or GivenAnnotations()
        names = ("labels", "boxes", "masks", "annotations", "classes", "box_format")
        fields = {name: text for name in names if (text := getattr(given, name)) is not None}
        masks = [("masks", (mask.name, mask.data, "image/png")) for mask in given.mask_files]
        parts = [f"-F images=@{shlex.quote(str(image.path))}" for image in images]
        parts += [f"-F masks=@{shlex.quote(mask.name)}" for mask in given.mask_files]
        # --form-string: boxes hold characters that -F gives a meaning
        parts += [f"--form-string {shlex.quote(f'{name}={text}')}" for name, text in fields.items()]
        self._narrate(f"{' '.join(parts)} {self._url}/v1/image-batches")
        with ExitStack() as open_files:
            files = [("images", (image.name, open_files.enter_context(image.path.open("rb")))) for image in images]
            answer = self._call("POST", "/v1/image-batches", files=[*files, *masks], data=fields)
        return str(_object(answer)["digest"])

    def upload_maps(self, path: Path) -> str:
        """Upload a file of maps; the answer is its digest.

        Raises:
            CommandError: The service refuses it or cannot be reached.
        """
        self._narrate(f"-F maps=@{shlex.quote(str(path))} {self._url}/v1/maps")
        with path.open("rb") as file:
            answer = self._call("POST", "/v1/maps", files={"maps": (path.name, file)})
        return str(_object(answer)["digest"])

    def submit(self, request: Mapping[str, Any], *, jobs: Jobs = "audits") -> dict[str, Any]:
        """Submit an audit or an experiment and return its status.

        The call carries an idempotency key, so one repeated after a lost answer does not start a second one.

        Args:
            request: The request.
            jobs: What it is for.

        Raises:
            CommandError: The service refuses it or cannot be reached.
        """
        self._narrate(f"-H 'Content-Type: application/json' -d {shlex.quote(_compact(request))} {self._url}/v1/{jobs}")
        key = {"Idempotency-Key": f'"{uuid.uuid4()}"'}
        try:
            answer = self._call("POST", f"/v1/{jobs}", json=request, headers=key)
        except ServiceUnreachable:
            answer = self._call("POST", f"/v1/{jobs}", json=request, headers=key)
        return _object(answer)

    def estimate(self, request: Mapping[str, Any]) -> bytes:
        """What an audit costs, as JSON.

        Raises:
            CommandError: The service refuses the request or cannot be reached.
        """
        self._narrate(
            f"-H 'Content-Type: application/json' -d {shlex.quote(_compact(request))} {self._url}/v1/estimates"
        )
        return self._call("POST", "/v1/estimates", json=request).content

    def inspect(self, request: Mapping[str, Any]) -> bytes:
        """What will run on a model, as JSON; repeats the request while a worker is still looking.

        Raises:
            CommandError: The service refuses the model or cannot be reached.
        """
        body = shlex.quote(_compact(request))
        self._narrate(f"-H 'Content-Type: application/json' -d {body} {self._url}/v1/models:inspect")
        for _ in range(PATIENCE):
            answer = self._call("POST", "/v1/models:inspect", json=request)
            if answer.status_code != httpx.codes.ACCEPTED:
                break
            self._sleep(POLL_S)
        return answer.content

    def follow(self, job_id: str, *, jobs: Jobs = "audits") -> Iterator[dict[str, Any]]:
        """The status of an audit or an experiment, repeatedly until it is final; survives a restart of the service.

        Args:
            job_id: Its id.
            jobs: What it is.

        Raises:
            CommandError: The service stays unreachable or does not know it.
        """
        self._narrate(f"{self._url}/v1/{jobs}/{job_id}")
        failures = 0
        while True:
            try:
                status = _object(self._call("GET", f"/v1/{jobs}/{job_id}"))
            except ServiceUnreachable:
                failures += 1
                if failures == PATIENCE:
                    raise
            else:
                failures = 0
                yield status
                if status["state"] in FINAL_STATES:
                    return
            self._sleep(POLL_S)

    def report(self, audit_id: str, *, media_type: str = "application/json") -> bytes:
        """The report of a finished audit, in JSON, HTML or JUnit XML.

        Raises:
            CommandError: There is none (yet).
        """
        path = f"/v1/audits/{audit_id}/report"
        accept = "" if media_type == "application/json" else f"-H 'Accept: {media_type}' "
        self._narrate(f"{accept}{self._url}{path}")
        return self._call("GET", path, headers={"Accept": media_type}).content

    def experiment_files(self, experiment_id: str) -> dict[str, str]:
        """Name and digest of each file that an experiment has kept.

        Raises:
            CommandError: There is no such experiment.
        """
        path = f"/v1/experiments/{experiment_id}/files"
        self._narrate(f"{self._url}{path}")
        answer = self._call("GET", path)
        try:
            return {file.name: file.digest for file in _FileList.model_validate_json(answer.content).items}
        except ValueError as error:
            raise _not_the_service(answer) from error

    def experiment_file(self, experiment_id: str, name: str) -> bytes:
        """The bytes of a file that an experiment has kept.

        Raises:
            CommandError: There is none of this name.
        """
        return self._file(f"/v1/experiments/{experiment_id}/files/{name}")

    def training_report(self, training_id: str) -> bytes:
        """The report of a finished training.

        Raises:
            CommandError: There is none (yet).
        """
        return self._file(f"/v1/trainings/{training_id}/report")

    def trained_weights(self, training_id: str) -> bytes:
        """The weights of a finished training: a file of safetensors.

        Raises:
            CommandError: There are none (yet).
        """
        return self._file(f"/v1/trainings/{training_id}/weights")

    def _file(self, path: str) -> bytes:
        self._narrate(f"{self._url}{path}")
        return self._call("GET", path).content

    def cancel(self, audit_id: str) -> None:
        """Ask an audit to stop."""
        self._narrate(f"-X POST {self._url}/v1/audits/{audit_id}/cancel")
        self._call("POST", f"/v1/audits/{audit_id}/cancel")

    def log_page(self, after: int, *, limit: int) -> tuple[tuple[LogEntry, ...], int | None]:
        """Entries of the event log, and what to send as `after` for the next page; None on the last.

        Raises:
            CommandError: The service cannot be reached.
        """
        path = f"/v1/log?after={after}&limit={limit}"
        self._narrate(f"{shlex.quote(self._url + path)}")
        answer = self._call("GET", path)
        try:
            page = _LogPage.model_validate_json(answer.content)
        except ValueError as error:
            raise _not_the_service(answer) from error
        return page.items, page.next_after

    def _narrate(self, line: str) -> None:
        self._narrate_line(f"curl {CURL_CREDENTIALS}{line}" if self._token else f"curl {line}")

    def _call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - httpx's own options
    ) -> httpx.Response:
        sent = dict(headers or {})
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token()}"
        for _ in range(PATIENCE):
            try:
                answer = self._http.request(method, path, headers=sent, **options)
            except httpx.TransportError as error:
                raise ServiceUnreachable(self._url, error) from error
            pause = _pause_of(answer)
            if pause is None:
                break
            self._sleep(pause)
        if answer.is_success:
            return answer
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise _unauthorized(answer, sent="Authorization" in sent)
        raise refusal(answer)


class _LogPage(BaseModel):
    """A page of the event log."""

    items: tuple[LogEntry, ...]
    next_after: int | None


class _File(BaseModel):
    """A file of an experiment."""

    name: str
    digest: str


class _FileList(BaseModel):
    """The files of an experiment."""

    items: tuple[_File, ...]


class ServiceUnreachable(CommandError):
    """No service answers."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(f"no service answers at {url} ({error}); start one with `auditcore serve`, or check --url")


def refusal(answer: httpx.Response) -> CommandError:
    """The error that an answer reports, with the mistakes that its problem details list."""
    try:
        problem = answer.json()
        errors = [(str(item["pointer"]), str(item["detail"])) for item in problem.get("errors", ())]
        return CommandError(f"{problem['title']}: {problem['detail']}", errors=errors, code=problem["code"])
    except (ValueError, KeyError, TypeError, AttributeError):
        # something between here and the service answered: a proxy, or another program on that port
        return _not_the_service(answer)


def _pause_of(answer: httpx.Response) -> float | None:
    """Seconds after which a request may be repeated that came after too many others, and so did nothing; else None.

    A quota that is used up is an error of the command: it may be free again only tomorrow.
    """
    after = answer.headers.get("Retry-After", "")
    if answer.status_code != httpx.codes.TOO_MANY_REQUESTS or not after.isdigit():
        return None
    return float(after) if refusal(answer).code == "too_many_requests" else None


def _unauthorized(answer: httpx.Response, *, sent: bool) -> CommandError:
    """The error of an answer 401, with what to do about it here."""
    told = refusal(answer)
    advice = (
        "check the token that AUDIT_TOKEN, --token or a file of --token-file gives"
        if sent
        else "give an API key or a token with AUDIT_TOKEN or --token-file"
    )
    return CommandError(f"{told.message}; {advice}", errors=told.errors, code=told.code)


def _checked(url: str) -> str:
    """A URL of a service without the slash at its end.

    Raises:
        CommandError: It is not one.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        message = f"--url {url!r} is not a URL ({error}); write http://host:port"
        raise CommandError(message) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        message = f"--url {url!r} is not the address of a service; write http://host:port"
        raise CommandError(message)
    if parsed.query or parsed.fragment:
        message = f"--url {url!r} has a query or a fragment; write only http://host:port, or a prefix below it"
        raise CommandError(message)
    return url.rstrip("/")


def _object(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        CommandError: It is not one, so that no auditcore service has answered.
    """
    try:
        document = answer.json()
    except ValueError as error:
        raise _not_the_service(answer) from error
    if not isinstance(document, dict):
        raise _not_the_service(answer)
    return document


def _not_the_service(answer: httpx.Response) -> CommandError:
    message = (
        f"{answer.request.url} answers with status {answer.status_code}, but not as an auditcore service does; "
        "check --url, and any proxy on the way"
    )
    return CommandError(message)


def _compact(request: Mapping[str, Any]) -> str:
    return json.dumps(request, separators=(",", ":"))
