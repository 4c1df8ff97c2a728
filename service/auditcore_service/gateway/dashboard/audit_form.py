"""The form of a new audit: from its fields to the request that the API takes, and from mistakes back to fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar, final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from auditcore_service.gateway.request_bodies import read_json
from auditcore_service.gateway.schemas import ProblemError

Checked = TypeVar("Checked", bound=BaseModel)

Fields = Mapping[str, str]
"""Name of a field -> its text."""


class ModelKind(NamedTuple):
    """A kind of model reference that has fields of its own; others are given as JSON.

    Attributes:
        title: What people call it.
        places: Field -> place in the reference, joined by dots.
    """

    title: str
    places: dict[str, str]


_BUILT: Final = {
    "model_name": "name",
    "model_weights": "weights.uri",
    "model_sha256": "weights.sha256",
    "model_classes": "classes",
}

KINDS: Final = {
    "demo": ModelKind("Demo model (EfficientNet-Lite0)", {}),
    "torchvision": ModelKind("torchvision", _BUILT),
    "timm": ModelKind("timm", _BUILT),
    "huggingface": ModelKind("Hugging Face", {"model_repo": "repo", "model_revision": "revision"}),
    "torchserve": ModelKind("TorchServe", {"model_url": "url", "served_name": "name", "served_version": "version"}),
    "json": ModelKind("Another kind, as JSON", {}),
}

_WHOLE_NUMBERS: Final = frozenset({"model_classes", "seed"})

_OF_PART: Final = {
    "model": "model_kind",
    "models": "model_kind",
    "images": "images",
    "archive": "images",
    "labels": "labels",
    "classes": "classes",
    "plan": "plan",
    "policy": "policy",
    "stop": "policy",
    "baseline": "policy",
    "name": "name",
    "tags": "tags",
}
"""First part of a pointer -> field of the form beside which a mistake there is shown."""


@final
@dataclass
class FormMistakes:
    """Mistakes by field of the form.

    Attributes:
        by_field: Field -> what is wrong and how to fix it. Those without a field are under the empty name.
    """

    by_field: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, message: str) -> None:
        """Add a mistake to a field."""
        self.by_field.setdefault(name, []).append(message)

    def add_problems(self, fields: Fields, found: Iterable[ProblemError]) -> None:
        """Add what the API says of a request, each at the field that it came from."""
        for one in found:
            name = field_of(one.pointer, fields)
            # a field that holds a whole document does not say where in it
            self.add(name, f"{one.pointer}: {one.detail}" if name.endswith("_json") else one.detail)


def document_of(fields: Fields, mistakes: FormMistakes) -> dict[str, Any]:
    """The request as JSON. A field that is no JSON, or no number, is added to `mistakes` and left out."""
    document: dict[str, Any] = {"model": _model(fields, mistakes)}
    if fields.get("batch"):
        document["images"] = {"kind": "batch", "digest": fields["batch"]}
    document["plan"] = _plan(fields, mistakes)
    if fields.get("policy") == "json":
        document["policy"] = _json("policy_json", fields, mistakes)
    elif fields.get("policy"):
        document["policy"] = fields["policy"]
    if fields.get("name"):
        document["name"] = fields["name"]
    tags = _tags(fields.get("tags", ""), mistakes)
    if tags:
        document["tags"] = tags
    return document


def checked_document(kind: type[Checked], document: dict[str, Any]) -> Checked:
    """A document as the contract of a body, such as `AuditRequest`.

    Raises:
        RequestValidationError: It has mistakes, in the form in which the API would find them.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(found, body=document) from error


def fields_of(document: dict[str, Any]) -> dict[str, str]:
    """The fields that a stored request fills, to repeat it with changes."""
    images, policy = document.get("images") or {}, document.get("policy")
    found = {
        "model_kind": "json",
        "model_json": json.dumps(document.get("model"), indent=2),
        "plan": "json",
        "plan_json": json.dumps(document.get("plan"), indent=2),
        "batch": str(images.get("digest", "")) if images.get("kind") == "batch" else "",
        "name": str(document.get("name") or ""),
        "tags": "\n".join(f"{key}:{value}" for key, value in (document.get("tags") or {}).items()),
    }
    if policy:
        found |= {"policy": "json", "policy_json": json.dumps(policy, indent=2)}
    return found


def field_of(pointer: str, fields: Fields) -> str:
    """The field of the form for a place in the request; empty if it has none.

    Args:
        pointer: JSON pointer, such as `#/model/weights/uri`.
        fields: As they were sent; they say in which form model, plan and policy were given.
    """
    parts = [part for part in pointer.removeprefix("#").split("/") if part]
    if not parts:
        return ""
    if parts[0] == "model":
        return _model_field(parts[1:], fields)
    if parts[0] in {"plan", "policy"} and fields.get(parts[0]) == "json":
        return f"{parts[0]}_json"
    if parts == ["plan", "seed"]:
        return "seed"
    return _OF_PART.get(parts[0], "")


def _model_field(parts: list[str], fields: Fields) -> str:
    kind = fields.get("model_kind", "demo")
    if kind == "json":
        return "model_json"
    # pydantic puts the kind of a reference between `model` and the field
    place = ".".join(part for part in parts if part != kind)
    places = KINDS[kind].places if kind in KINDS else {}
    return next((name for name, own in places.items() if own == place or own.startswith(f"{place}.")), "model_kind")


def _model(fields: Fields, mistakes: FormMistakes) -> Any:  # noqa: ANN401 - JSON is any type
    kind = fields.get("model_kind", "demo")
    if kind == "json":
        return _json("model_json", fields, mistakes)
    reference: dict[str, Any] = {"kind": kind}
    for name, place in KINDS[kind].places.items() if kind in KINDS else ():
        text = fields.get(name, "")
        if text:
            *above, last = place.split(".")
            target = reference
            for part in above:
                target = target.setdefault(part, {})
            target[last] = _value(name, text, mistakes)
    return reference


def _plan(fields: Fields, mistakes: FormMistakes) -> Any:  # noqa: ANN401 - JSON is any type
    chosen = fields.get("plan", "quick")
    if chosen == "json":
        return _json("plan_json", fields, mistakes)
    plan: dict[str, Any] = {"preset": chosen}
    if fields.get("seed"):
        plan["seed"] = _value("seed", fields["seed"], mistakes)
    return plan


def _value(name: str, text: str, mistakes: FormMistakes) -> str | int:
    if name not in _WHOLE_NUMBERS:
        return text
    try:
        return int(text)
    except ValueError:
        mistakes.add(name, f"{text[:40]!r} is no whole number; write digits only")
        return text


def _json(name: str, fields: Fields, mistakes: FormMistakes) -> Any:  # noqa: ANN401 - JSON is any type
    text = fields.get(name, "")
    if not text.strip():
        mistakes.add(name, "this field is empty; write a JSON document here")
        return None
    try:
        return read_json(text.encode())
    except json.JSONDecodeError as error:
        mistakes.add(name, f"this is not JSON: {error.msg} at character {error.pos}")
        return None


def _tags(text: str, mistakes: FormMistakes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in (line.strip() for line in text.splitlines()):
        key, colon, value = line.partition(":")
        if line and not (colon and key.strip() and value.strip()):
            mistakes.add("tags", f"{line[:80]!r} is no tag; write each on a line of its own, as `key:value`")
        elif line:
            found[key.strip()] = value.strip()
    return found
