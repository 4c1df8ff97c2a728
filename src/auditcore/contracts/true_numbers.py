"""Numbers of contracts are numbers: not `true`, and not text that looks like one.

pydantic takes `false` for 0 and `"7"` for 7. A seed of `false` is a mistake of its author, and the report would
state the seed 0. Its own strict mode refuses lists for tuples and 7.0 for 7 too, which JSON does not tell apart.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_NO_SCHEMAS: Final = frozenset({"metadata", "config", "serialization", "cls", "default", "expected", "keys_schema"})
"""Parts of a schema that hold no schemas; and keys of objects, which are texts in JSON."""

CODE: Final = "number_type"
"""Code of the mistake, beside those of pydantic."""

_NUMBERS: Final = frozenset({"int", "float"})


def refuse_disguised(value: Any) -> Any:  # noqa: ANN401 - any type is given
    """The value, unless it is a boolean or a text.

    Raises:
        PydanticCustomError: It is one.
    """
    if isinstance(value, bool | str | bytes):
        kind = "a boolean" if isinstance(value, bool) else "a text"
        raise PydanticCustomError(CODE, "write a number here; this is {kind}", {"kind": kind})
    return value


def with_true_numbers(schema: CoreSchema) -> CoreSchema:
    """The schema of a model in which every integer and float refuses booleans and texts.

    Models inside it are left as they are: each has its own schema.
    """
    fields: Any = schema
    while isinstance(fields, dict) and fields.get("type") != "model":
        fields = fields.get("schema")
    if fields is not None:
        fields["schema"] = _checked(fields["schema"])
    return schema


def _checked(schema: Any) -> Any:  # noqa: ANN401 - a tree of dictionaries
    match schema:
        case {"type": "model"}:
            return schema
        case {"type": "function-before", "function": {"function": function}} if function is refuse_disguised:
            return schema
        case {"type": str() as kind} if kind in _NUMBERS:
            return core_schema.no_info_before_validator_function(refuse_disguised, schema)
        case dict():
            return {key: value if key in _NO_SCHEMAS else _checked(value) for key, value in schema.items()}
        case list() | tuple():
            return type(schema)(_checked(one) for one in schema)
        case _:
            return schema
