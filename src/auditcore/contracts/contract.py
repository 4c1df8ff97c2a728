"""What every contract has in common: frozen, closed, finite, and described in its JSON schema."""

from __future__ import annotations

import inspect
import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema

from auditcore.contracts.true_numbers import with_true_numbers

Sha256 = Annotated[
    str,
    StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$"),
]
"""A content address: `sha256:` and 64 lower-case hexadecimal digits."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
"""Name of an entry of a plan in the report: lower case, at most 64 characters."""

_ATTRIBUTES = re.compile(r"\n*^Attributes:\n((?:^ +.*\n?|^\n)*)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


def attribute_texts(kind: type[BaseModel]) -> dict[str, str]:
    """Attribute -> its text in the section `Attributes:` of the Google-style docstring of a model or its bases."""
    texts: dict[str, str] = {}
    for one in reversed(kind.__mro__[: kind.__mro__.index(BaseModel)]):
        section = _ATTRIBUTES.search(inspect.cleandoc(one.__dict__.get("__doc__") or ""))
        if section is not None:
            found = _ATTRIBUTE.findall(section[1])
            texts |= {name: " ".join(text.split()) for name, text in found}
    return texts


def describe_properties(schema: dict[str, Any], kind: type[BaseModel]) -> None:
    """Put the texts of a model's attributes into its JSON schema, so that they are written once.

    A `description` of the field itself wins. A property with one possible value says so. The section `Attributes:` is
    taken out of the description of the model.

    The default of a union of objects becomes part of the description: generators of clients have no way to write it
    (openapi-python-client 0.29 leaves out the whole model), and what is sent without it is the same.
    """
    texts = attribute_texts(kind)
    for name, property_ in schema.get("properties", {}).items():
        text = property_.get("description") or texts.get(name)
        if text is None and "const" in property_:
            text = f"Always `{property_['const']}`."
        default = property_.get("default")
        if isinstance(default, dict) and "$ref" not in property_:
            del property_["default"]
            given = json.dumps({key: value for key, value in default.items() if value is not None})
            text = f"{text or ''} Default: `{given}`.".lstrip()
        if text is not None:
            property_["description"] = text
    if "description" in schema:
        schema["description"] = _ATTRIBUTES.sub("", schema["description"])


class Contract(BaseModel):
    """Base class of all contracts: immutable, no unknown fields, no NaN or infinity, numbers that are numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra=describe_properties)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - a hook of pydantic
        """What pydantic makes of the fields, with numbers that are numbers."""
        return with_true_numbers(handler(source))
