"""Numbers of contracts are numbers: not `true`, and not text that looks like one.

pydantic takes `false` for 0 and `"7"` for 7. A seed of `false` is a mistake of its author, and the report would
state the seed 0. Its own strict mode refuses lists for tuples and 7.0 for 7 too, which JSON does not tell apart.

Integers lie between -(2^53 - 1) and 2^53 - 1, where every JSON parser reads them exactly (RFC 7493, 2.2). Others have
no canonical JSON form (RFC 8785), so a contract with one would have no digest.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_NO_SCHEMAS: Final = frozenset({"metadata", "config", "serialization", "cls", "default", "expected", "keys_schema"})
"""Parts of a schema that hold no schemas; and keys of objects, which are texts in JSON."""

CODE: Final = "number_type"
"""Code of the mistake, beside those of pydantic."""

TOO_LARGE: Final = "integer_range"
"""Code of an integer that is not safe in JSON."""

LARGEST_INTEGER: Final = 2**53 - 1


def refuse_disguised(value: Any) -> Any:  # noqa: ANN401 - any type is given
    """The value, unless it is a boolean or a text.

    Raises:
        PydanticCustomError: It is one.
    """
    if isinstance(value, bool | str | bytes):
        kind = "a boolean" if isinstance(value, bool) else "a text"
        raise PydanticCustomError(CODE, "write a number here; this is {kind}", {"kind": kind})
    return value


def refuse_unsafe(value: Any) -> Any:  # noqa: ANN401 - any type is given
    """The value, unless it is a number beyond the integers that every JSON parser reads exactly.

    Raises:
        PydanticCustomError: It is one.
    """
    if isinstance(value, int | float) and LARGEST_INTEGER < abs(value) < float("inf"):
        raise PydanticCustomError(
            TOO_LARGE,
            "integers must lie between -{largest} and {largest}, which every JSON parser reads exactly",
            {"largest": LARGEST_INTEGER},
        )
    return value


def with_true_numbers(schema: CoreSchema) -> CoreSchema:
    """The schema of a model in which integers and floats refuse booleans and texts, and integers are safe in JSON.

    Models inside it are left as they are: each has its own schema.
    """
    fields: Any = schema
    while isinstance(fields, dict) and fields.get("type") != "model":
        fields = fields.get("schema")
    if fields is not None:
        fields["schema"] = _checked(fields["schema"])
    return schema


def _checked(schema: Any) -> Any:  # noqa: ANN401 - a tree of dictionaries
    if _is_complete(schema):
        return schema
    match schema:
        case {"type": "int" | "float" as kind}:
            if kind == "int" and not _is_bounded(schema):
                schema = core_schema.no_info_before_validator_function(refuse_unsafe, schema)
            return core_schema.no_info_before_validator_function(refuse_disguised, schema)
        case dict():
            parts = {key: value if key in _NO_SCHEMAS else _checked(value) for key, value in schema.items()}
            if not any(map(_is_any_integer, schema.get("choices", ()))):
                return parts
            # as a whole: the branch of floats would read what that of integers refuses, and others would complain too
            return core_schema.no_info_before_validator_function(refuse_unsafe, parts)
        case list() | tuple():
            return type(schema)(_checked(one) for one in schema)
        case _:
            return schema


def _is_complete(schema: Any) -> bool:  # noqa: ANN401 - a tree of dictionaries
    """Whether nothing is to be added: the schema of a model, or a number that is checked."""
    match schema:
        case {"type": "model"}:
            return True
        case {"type": "function-before", "function": {"function": function}}:
            return function is refuse_disguised
        case _:
            return False


def _is_any_integer(choice: Any) -> bool:  # noqa: ANN401 - a schema, or one with its name
    schema = choice[0] if isinstance(choice, tuple) else choice
    return isinstance(schema, dict) and schema.get("type") == "int" and not _is_bounded(schema)


def _is_bounded(schema: dict[str, Any]) -> bool:
    """Whether an integer has bounds of its own on both sides, whose messages say more."""
    return not schema.keys().isdisjoint({"ge", "gt"}) and not schema.keys().isdisjoint({"le", "lt"})
