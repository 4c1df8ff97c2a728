"""Reads the bodies of requests: JSON that means one thing only, and forms whose files never fill the memory."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, Final, Never, cast, final

from anyio import to_thread
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

MOST_VALUES: Final = 1_000_000
"""Values in a JSON body. Images are one value each, however large they are; ten thousand images with ten boxes each
have 700 000."""

MOST_NAMES: Final = 10_000
"""Names in one JSON object. Each that is unknown is one mistake."""

MANY_VALUES: Final = 10_000
"""Bodies with more values are checked only up to their first mistakes: listing 300 000 takes seconds, in which the
interpreter does nothing else."""

_IN_A_THREAD_BYTES: Final = 2**16
"""Smaller bodies are read at once, which takes less time than handing them to a thread."""

_LONGEST_NUMBER: Final = 400
"""Characters; the largest float written out has 309 digits before the point."""


@final
class CheckedRequest(Request):
    """A request whose body is read with more care than the framework takes."""

    async def json(self) -> Any:  # noqa: ANN401 - JSON is any type
        """The JSON body.

        Raises:
            HTTPException: It has too many values.
            JSONDecodeError: It is not JSON, or could be read in two ways.
        """
        if not hasattr(self, "_json"):
            body = await self.body()
            if len(body) < _IN_A_THREAD_BYTES:
                self._json = read_json(body)
            else:
                self._json = await to_thread.run_sync(read_json, body)
        return self._json

    async def _get_form(
        self, *, max_files: float = 1000, max_fields: float = 1000, max_part_size: int = 2**20
    ) -> FormData:
        """As the framework does, but files are spooled in the folder of the blobs, not where they may be in memory."""
        if self._form is None and self.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
            parser = _SpoolingParser(
                self.headers, self.stream(), max_files=max_files, max_fields=max_fields, max_part_size=max_part_size
            )
            parser.folder = self.app.state.service.settings.spool_folder
            try:
                self._form = await parser.parse()
            except MultiPartException as error:
                raise HTTPException(HTTPStatus.BAD_REQUEST, error.message) from error
        return await super()._get_form(max_files=max_files, max_fields=max_fields, max_part_size=max_part_size)


@final
class CheckedBodies(APIRoute):
    """The class of every route that reads a body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """A handler that reads the body as `CheckedRequest` does."""
        handler = super().get_route_handler()
        model = None if self.body_field is None else self.body_field.field_info.annotation
        check = _check_of(model) if isinstance(model, type) and issubclass(model, BaseModel) else None

        async def checked(request: Request) -> Response:
            careful = CheckedRequest(request.scope, request.receive)
            if check is not None and _is_json(careful) and _values_in(await careful.body()) > MANY_VALUES:
                # what is no JSON at all is found out again, and answered, by the framework
                with suppress(json.JSONDecodeError):
                    await to_thread.run_sync(check, await careful.json())
            return await handler(careful)

        return checked


def _check_of(model: type[BaseModel]) -> Callable[[Any], None]:
    """A check that stops at the first mistake in each list."""
    validator = functools.cache(
        lambda: SchemaValidator(_failing_fast(model.__pydantic_core_schema__), _use_prebuilt=False)
    )

    def check(value: Any) -> None:  # noqa: ANN401 - JSON is any type
        try:
            validator().validate_python(value)
        except ValidationError as error:
            found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
            raise RequestValidationError(found, body=value) from error

    return check


def _failing_fast(schema: Any) -> Any:  # noqa: ANN401 - a tree of dictionaries
    match schema:
        case {"type": "list" | "tuple" | "set" | "frozenset"}:
            return {**{key: _failing_fast(value) for key, value in schema.items()}, "fail_fast": True}
        case {"type": "default"}:
            return {**schema, "schema": _failing_fast(schema["schema"])}
        case dict():
            return {key: value if key in _NO_SCHEMAS else _failing_fast(value) for key, value in schema.items()}
        case list():
            return [_failing_fast(one) for one in schema]
        case tuple():
            return tuple(_failing_fast(one) for one in schema)
        case _:
            return schema


_NO_SCHEMAS: Final = frozenset({"metadata", "config", "serialization", "cls", "expected"})
"""Parts of a schema that hold no schemas, or none that validate."""


def _is_json(request: Request) -> bool:
    subtype = request.headers.get("Content-Type", "").partition(";")[0].strip().lower().partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _values_in(body: bytes) -> int:
    """Most values that a JSON text can have; counted thousands of times faster than it is read."""
    return sum(body.count(sign) for sign in (b",", b"[", b"{"))


@final
class _SpoolingParser(MultiPartParser):
    """Puts the files of a form into a folder of ours.

    Attributes:
        folder: Where files lie that are too large for the memory; the folder of the system if None.
    """

    folder: Path | None = None

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        upload = self._current_part.file
        if upload is not None and self.folder is not None:
            # the framework's own file is empty, and only in memory
            upload.file.close()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            spooled = SpooledTemporaryFile(max_size=self.spool_max_size, dir=str(self.folder))  # noqa: SIM115 - the form closes it
            self._files_to_close_on_error[-1] = spooled
            self._current_part.file = UploadFile(
                file=cast("BinaryIO", spooled),
                size=0,
                filename=upload.filename,
                headers=Headers(raw=self._current_part.item_headers),
            )


def read_json(body: bytes) -> Any:  # noqa: ANN401 - JSON is any type
    """The value of a JSON text, if it has one meaning only.

    RFC 8259 leaves open what a name given twice means, and has neither NaN nor infinity. Python reads both.

    Raises:
        HTTPException: It has too many values.
        JSONDecodeError: It is not JSON, or could be read in two ways.
    """
    values = _values_in(body)
    if values > MOST_VALUES:
        detail = (
            f"the body has about {values} values, more than the {MOST_VALUES} allowed; send less, such as masks as "
            "PNG files and images as an image batch"
        )
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    try:
        return json.loads(
            body, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_number
        )
    except json.JSONDecodeError as error:
        raise _invalid(error.pos, error.msg) from error
    except UnicodeDecodeError as error:
        raise _invalid(error.start, f"it is not UTF-8 ({error.reason})") from error
    except RecursionError as error:
        raise _invalid(0, "arrays or objects are nested too deeply") from error
    except _Refused as error:
        raise _invalid(0, str(error)) from error


class _Refused(ValueError):
    """Python reads this text, but it is too large, or JSON does not say what it means."""


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(pairs) > MOST_NAMES:
        msg = f"an object has {len(pairs)} names, more than the {MOST_NAMES} allowed"
        raise _Refused(msg)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        msg = f"the name {twice[:80]!r} is given twice in one object"
        raise _Refused(msg)
    return found


def _constant(name: str) -> Never:
    msg = f"{name} is no number of JSON"
    raise _Refused(msg)


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        msg = f"a number has {len(text)} digits"
        raise _Refused(msg)
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        msg = f"the number {text[:40]} is too large"
        raise _Refused(msg)
    return number


def _invalid(position: int, reason: str) -> json.JSONDecodeError:
    """The class of error that the framework answers as one of the request."""
    error = json.JSONDecodeError(reason, "", 0)
    error.pos = position
    return error
