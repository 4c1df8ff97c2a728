"""Labels of images as a table: CSV with a column of file names and a column of labels."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from auditcore_service.use_cases.class_names import AnnotationField, ClassNames, cut
from auditcore_service.use_cases.image_names import ImageNames
from auditcore_service.use_cases.refusals import InvalidUpload

DELIMITERS = ",;\t"
"""What separates columns: commas, semicolons where the comma is a decimal sign, or tabs."""

_QUOTED = re.compile(r'"[^"]*"')
_FILE_COLUMNS = frozenset({"file", "filename", "file_name", "image", "image_name", "img", "path", "filepath", "name"})
_LABEL_COLUMNS = frozenset({"label", "labels", "class", "class_name", "class_id", "category", "target", "y"})


def is_table(text: str) -> bool:
    """Whether a text is a table and not JSON."""
    first = text.lstrip()[:1]
    line = text.strip().partition("\n")[0]
    return first not in {"[", "{"} and any(delimiter in line for delimiter in DELIMITERS)


def read_label_table(text: str, names: Sequence[str], classes: ClassNames, field: AnnotationField) -> list[list[int]]:
    """Read the classes of each image; empty for an image without a row.

    The first row may name the columns; without names, there are two, the file and the label. Several
    rows of one file are its several classes. Rows of files that are not in the batch are left out, because a table
    often lists a whole dataset.

    Args:
        text: The table.
        names: File names of the images, in order.
        classes: Names of the model's classes, which labels may use.
        field: Field of the upload that has it, for errors.

    Raises:
        InvalidUpload: The table has no such columns, no row of an image of the batch, or a label that is no class.
    """
    rows = _rows(text, field)
    file_column, label_column, rows = _columns(rows, field)
    listed = (row[file_column].strip() for _, row in rows if len(row) > file_column)
    positions = ImageNames(names).known_positions(listed, field)
    found: list[list[int]] = [[] for _ in names]
    for number, row in rows:
        if len(row) <= max(file_column, label_column):
            msg = f"row {number} of {field} has {len(row)} columns; it needs a file name and a label"
            raise InvalidUpload(msg, field=field)
        position = positions.get(row[file_column].strip())
        if position is None:
            continue
        label = row[label_column].strip()
        if label:
            index = classes.index(_number(label, classes), f"image {position} ({names[position]!r})", field)
            if index not in found[position]:
                found[position].append(index)
    if not positions:
        example = f", such as {cut(rows[0][1][file_column])}" if rows else ""
        msg = f"no row of {field} names an image of the batch{example}; write the file names as they are uploaded"
        raise InvalidUpload(msg, field=field)
    return found


def _rows(text: str, field: AnnotationField) -> list[tuple[int, list[str]]]:
    # also the line ends of old spreadsheets of macOS; the end of a last row without a label stays
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    # a name in quotes may have a comma where columns are separated by something else
    delimiter = max(DELIMITERS, key=_QUOTED.sub("", lines.partition("\n")[0]).count)
    try:
        rows = list(enumerate(csv.reader(io.StringIO(lines), delimiter=delimiter), start=1))
    except csv.Error as error:
        msg = f"{field} is not a table ({error}); write one row per image: file name, label"
        raise InvalidUpload(msg, field=field) from error
    return [(number, row) for number, row in rows if any(cell.strip() for cell in row)]


def _columns(rows: list[tuple[int, list[str]]], field: AnnotationField) -> tuple[int, int, list[tuple[int, list[str]]]]:
    """Position of the column of files and of that of labels, and the rows below the names of columns."""
    header = [cell.strip().casefold() for cell in rows[0][1]]
    files = [position for position, name in enumerate(header) if name in _FILE_COLUMNS]
    labels = [position for position, name in enumerate(header) if name in _LABEL_COLUMNS]
    if not files and not labels:
        wide = next((row for _, row in rows if any(cell.strip() for cell in row[2:])), None)
        if wide is not None:
            msg = (
                f"{field} has {len(wide)} columns and no names of columns that say which has the files and which the "
                f"labels ({cut(rows[0][1])}); write `file` and `label` above these two"
            )
            raise InvalidUpload(msg, field=field)
        return 0, 1, rows
    if len(files) != 1 or len(labels) != 1:
        msg = (
            f"{field} has the columns {cut(header)}; name exactly one column of files `file` and one of labels `label`"
        )
        raise InvalidUpload(msg, field=field)
    return files[0], labels[0], rows[1:]


def _number(label: str, classes: ClassNames) -> object:
    """A label as a class index if it is one; spreadsheets write 3 as 3.0."""
    if label in classes:
        return label
    whole = label.removesuffix(".0")
    return int(whole) if whole.isascii() and whole.isdigit() and len(whole) <= 15 else label  # noqa: PLR2004 - below 2**53
