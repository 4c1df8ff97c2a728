"""Shell-style patterns of names, such as `lrp_*`: one condition of a policy can concern many results."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

_SPECIAL = frozenset("*?[")


def is_pattern(name: str | None) -> bool:
    """Return whether a name has a character by which it can stand for several names."""
    return name is not None and not _SPECIAL.isdisjoint(name)


def matching(wanted: str | None, names: Iterable[str | None]) -> tuple[str | None, ...]:
    """Return the names that a name or pattern stands for, in their order.

    Args:
        wanted: A name, which stands for itself; None, which stands for None; or a pattern, in which `*` stands for any
            characters, `?` for one and `[ab]` for one of these. Case matters.
        names: What there is; None is matched like an empty name.
    """
    if not is_pattern(wanted):
        return tuple(name for name in names if name == wanted)
    return tuple(name for name in names if fnmatchcase(name or "", wanted or ""))
