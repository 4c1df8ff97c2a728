"""Names of a model's classes, by which labels, boxes and masks may name a class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, final

from auditcore.contracts.class_names import LONGEST_CLASS_NAME, MOST_CLASSES
from auditcore.contracts.image_names import fault_of_name
from auditcore_service.use_cases.refusals import InvalidUpload
from auditcore_service.use_cases.text_encoding import BYTE_ORDER_MARK, composed

INTEGERS = range(2**53)
"""Integers with exactly one canonical JSON form, which the batch's digest needs."""

_QUOTED = 255
"""Largest number of characters of a value in a message, the same as for a file name."""

AnnotationField = Literal["labels", "boxes", "masks", "annotations"]


@final
class ClassNames:
    """The names of a model's classes in order, if they are known.

    Attributes:
        names: Name of each class; empty if none is known.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self._indices = {composed(name): index for index, name in enumerate(self.names)}

    def __contains__(self, name: object) -> bool:
        """Whether a value is the name of a class."""
        return isinstance(name, str) and composed(name) in self._indices

    def index(self, label: object, image: str, field: AnnotationField) -> int:
        """Class index of a label that is an index or a name.

        Args:
            label: What was sent.
            image: What it belongs to, for the error.
            field: Field of the upload that has it, for the error.

        Raises:
            InvalidUpload: It is neither, or there are fewer classes.
        """
        if isinstance(label, str) and label in self:
            return self._indices[composed(label)]
        if isinstance(label, str) and self.names:
            msg = f"label {cut(label)} of {image} is not one of the {len(self.names)} names in `classes`; correct it"
            raise InvalidUpload(msg, field=field)
        # check the type first: `in` on a range compares every element with a value that is not an integer
        if not isinstance(label, int) or isinstance(label, bool) or label not in INTEGERS:
            one = "a whole number from 0, or null"
            forms = "whole numbers from 0, a list of them, or null" if field == "labels" else one
            named = "; for names of classes, send `classes`, the names in the model's order" if _is_text(label) else ""
            msg = f"label {cut(label)} of {image} is not a class index; use {forms}{named}"
            raise InvalidUpload(msg, field=field)
        if self.names and label >= len(self.names):
            count = len(self.names)
            msg = f"label {label} of {image} is beyond the {count} names in `classes`, counted from 0; correct it"
            raise InvalidUpload(msg, field=field)
        return label


def read_classes(text: str | None) -> ClassNames:
    """Read the names of the model's classes.

    Args:
        text: A JSON list of names in the model's order, or one name per line; None or blank if they are not known.

    Raises:
        InvalidUpload: The text is no such list, it is too long, or a name is empty, too long or occurs twice.
    """
    text = (text or "").removeprefix(BYTE_ORDER_MARK).strip()
    if not text:
        return ClassNames()
    if text[0] in "[{":
        try:
            names = json.loads(text)
        except (ValueError, RecursionError) as error:
            msg = f'classes is not JSON ({error}); send a list such as ["cat", "dog"], or one name per line'
            raise InvalidUpload(msg, field="classes") from error
        if not isinstance(names, list) or not all(_is_text(name) and name for name in names):
            msg = 'classes must be a list of names in the model\'s order, such as ["cat", "dog"]'
            raise InvalidUpload(msg, field="classes")
    else:
        names = [line.strip() for line in text.splitlines()]
    _refuse_names(names)
    return ClassNames(names)


def _refuse_names(names: Sequence[str]) -> None:
    """Refuse names that a batch cannot keep."""
    if len(names) > MOST_CLASSES:
        msg = f"classes has {len(names)} names; at most {MOST_CLASSES} are possible"
        raise InvalidUpload(msg, field="classes")
    seen: dict[str, int] = {}
    for position, name in enumerate(names):
        if not name:
            msg = f"the name of class {position} is empty; remove the blank line, or give the class a name"
            raise InvalidUpload(msg, field="classes")
        if len(name) > LONGEST_CLASS_NAME:
            msg = (
                f"the name {cut(name)} of class {position} has {len(name)} characters; at most {LONGEST_CLASS_NAME} fit"
            )
            raise InvalidUpload(msg, field="classes")
        fault = fault_of_name(name)
        if fault is not None:
            msg = f"the name {cut(name)} of class {position} {fault}; rename the class"
            raise InvalidUpload(msg, field="classes")
        first = seen.setdefault(composed(name), position)
        if first != position:
            msg = f"classes has the name {cut(name)} for the classes {first} and {position}; send each name once"
            raise InvalidUpload(msg, field="classes")


def cut(value: object) -> str:
    """A value as a message quotes it, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def _is_text(value: object) -> bool:
    return isinstance(value, str)
