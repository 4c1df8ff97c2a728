"""The results of a report as a data frame of pandas."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from auditcore.contracts.report import AuditReport
from auditcore.contracts.report_rows import ImageRow, ResultRow, image_rows, result_rows

if TYPE_CHECKING:
    import pandas as pd

_DTYPES: Final[Mapping[type, str]] = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}
"""Types of pandas that have `pd.NA` for what is missing, so that an index stays an integer."""


def result_frame(report: AuditReport, *, per_image: bool) -> pd.DataFrame:
    """One row per result, or per result and image.

    Args:
        report: The report.
        per_image: Whether every image has a row.

    Raises:
        ImportError: pandas is not installed; the message names the extra.
    """
    if find_spec("pandas") is None:
        message = "a data frame needs the extra `pandas`; install it with: pip install 'auditcore[pandas]'"
        raise ImportError(message)
    import pandas as pd  # noqa: PLC0415 - an extra, and most who read reports need none

    kind: type[Any] = ImageRow if per_image else ResultRow
    rows = list(image_rows(report) if per_image else result_rows(report))
    columns = list(kind._fields)
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    dtypes = column_types(kind)
    return pd.DataFrame(
        {column: pd.array(list(found), dtype=dtypes[column]) for column, found in zip(columns, values, strict=True)}
    )


def column_types(kind: type[Any]) -> dict[str, str]:
    """Column -> its type in pandas, from the types of a row."""
    return {name: _DTYPES[_type_of(hint)] for name, hint in get_type_hints(kind).items()}


def _type_of(hint: Any) -> type:  # noqa: ANN401 - a type expression has no type
    """The type of a value that is there."""
    found: type = next(one for one in get_args(hint) if one is not type(None)) if isinstance(hint, UnionType) else hint
    return found
