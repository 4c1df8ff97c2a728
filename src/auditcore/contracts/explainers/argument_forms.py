"""Which JSON values an argument of a method of another library may have."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast, final


class Form(ABC):
    """The values that one argument may have."""

    @abstractmethod
    def problem(self, value: object) -> str | None:
        """What the value must be instead, such as `a whole number from 1 to 1000`; None if it is right."""


@final
@dataclass(frozen=True)
class Flag(Form):
    """true or false."""

    def problem(self, value: object) -> str | None:
        """None for a boolean."""
        return None if isinstance(value, bool) else "true or false"


@final
@dataclass(frozen=True)
class Choice(Form):
    """One of several words.

    Attributes:
        words: Which.
    """

    words: tuple[str, ...]

    def problem(self, value: object) -> str | None:
        """None for one of the words."""
        return None if value in self.words else f"one of {', '.join(self.words)}"


@final
@dataclass(frozen=True)
class Whole(Form):
    """A whole number.

    Attributes:
        least: Smallest value.
        most: Largest value.
    """

    least: int
    most: int

    def problem(self, value: object) -> str | None:
        """None for a whole number in the range."""
        fits = isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most
        return None if fits else f"a whole number from {self.least} to {self.most}"


@final
@dataclass(frozen=True)
class Number(Form):
    """A finite number.

    Attributes:
        least: Smallest value.
        most: Largest value.
    """

    least: float
    most: float

    def problem(self, value: object) -> str | None:
        """None for a number in the range."""
        fits = _is_number(value) and self.least <= value <= self.most
        return None if fits else f"a number from {self.least:g} to {self.most:g}"


@final
@dataclass(frozen=True)
class Words(Form):
    """A list of words.

    Attributes:
        words: The words that it may have.
    """

    words: tuple[str, ...]

    def problem(self, value: object) -> str | None:
        """None for a list of these words."""
        fits = isinstance(value, list) and all(each in self.words for each in value)
        return None if fits else f"a list of words from {', '.join(self.words)}"


@final
@dataclass(frozen=True)
class ImageValues(Form):
    """Normalized values of an image: a number for all, a list with a number per channel, or lists (C,H,W)."""

    def problem(self, value: object) -> str | None:
        """None for finite numbers in one of the three forms, all rows of one length."""
        fits = shape_of(value) is not None and len(shape_of(value) or ()) in {0, 1, 3}
        return None if fits else "a finite number, a list with one per channel, or lists of the image's size (C,H,W)"


@final
@dataclass(frozen=True)
class ImageList(Form):
    """Several images as `ImageValues`.

    Attributes:
        most: How many, at most.
    """

    most: int

    def problem(self, value: object) -> str | None:
        """None for a list of images."""
        fits = (
            isinstance(value, list)
            and 0 < len(value) <= self.most
            and all(ImageValues().problem(each) is None for each in value)
        )
        return None if fits else f"a list of 1 to {self.most} images: numbers, lists per channel or lists (C,H,W)"


@final
@dataclass(frozen=True)
class Window(Form):
    """Channels, height and width of a window, or of its step.

    Attributes:
        single: Whether one number for all three axes is right too.
    """

    single: bool = False

    def problem(self, value: object) -> str | None:
        """None for three whole numbers of at least 1."""
        each = Whole(1, 4096)
        if self.single and each.problem(value) is None:
            return None
        fits = isinstance(value, list) and len(value) == 3 and all(each.problem(one) is None for one in value)  # noqa: PLR2004 - (C,H,W)
        return None if fits else f"[channels, height, width] in pixels{', or one number for all' * self.single}"


@final
@dataclass(frozen=True)
class FeatureGrid(Form):
    """Rows of feature numbers: the image is cut into as many cells, and all channels of a cell have its number."""

    def problem(self, value: object) -> str | None:
        """None for rows of one length that hold every number from 0 to the largest one."""
        shape = shape_of(value)
        if shape is not None and len(shape) == 2:  # noqa: PLR2004 - rows and columns
            numbers = [number for row in rows_of(value) for number in row]
            whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
            if whole and set(numbers) == set(range(len(set(numbers)))):
                return None
        return "rows of whole numbers, all of one length, that hold every number from 0 to the largest"


def rows_of(value: object) -> Sequence[Sequence[Any]]:
    """The rows of a `FeatureGrid`."""
    return cast("Sequence[Sequence[Any]]", value)


def feature_count(value: object) -> int:
    """Features of a `FeatureGrid`."""
    return 1 + max(int(number) for row in rows_of(value) for number in row)


def shape_of(value: object) -> tuple[int, ...] | None:
    """Lengths of nested lists of finite numbers; empty for a number, None if lengths differ or one is no number."""
    if not isinstance(value, list):
        return () if _is_number(value) else None
    inner = {shape_of(each) for each in value}
    (shape, *others) = inner or {None}
    return None if shape is None or others else (len(value), *shape)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def refuse_arguments(owner: str, arguments: Mapping[str, object], forms: Mapping[str, Form]) -> None:
    """Check names and values.

    Args:
        owner: Whose arguments they are, for the message.
        arguments: What was given.
        forms: What may be given.

    Raises:
        ValueError: A name is unknown or a value has another form; the message says which are right.
    """
    for name, value in arguments.items():
        if name not in forms:
            known = f"it takes {', '.join(sorted(forms))}" if forms else "it takes none"
            msg = f"arguments: {owner} has no argument {name!r} that a request may set; {known}"
            raise ValueError(msg)
        problem = forms[name].problem(value)
        if problem is not None:
            shown = repr(value)
            shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
            msg = f"arguments.{name} of {owner} must be {problem}, got {shown}"
            raise ValueError(msg)


_LONGEST_SHOWN = 80
"""Characters of a wrong value in a message."""
