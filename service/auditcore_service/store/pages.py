"""Pages of lists that begin with the newest row."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, or_, true


def after_position(
    created_at: ColumnElement[float], key: ColumnElement[str], position: tuple[float, str] | None
) -> ColumnElement[bool]:
    """The condition that a row comes after a position in a list sorted by time and then key, both descending.

    Args:
        created_at: The column of the time.
        key: The column that tells rows of one time apart.
        position: Time and key of the last row on the previous page; None for the first page.
    """
    if position is None:
        return true()
    time, last = position
    return or_(created_at < time, and_(created_at == time, key < last))
