"""Finds places of a module that know a single explainer or check, in the syntax tree of its source."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

QUESTIONS = frozenset({"isinstance", "issubclass"})


def names_in(node: ast.AST) -> set[str]:
    """Names and attributes that occur in an expression."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} | {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)
    }


def asks_for_kind(node: ast.Compare, kinds: Collection[str], words: Collection[str]) -> bool:
    """Whether `.kind`, `["kind"]` or a variable `kind` is compared with a kind; words do not count for a variable."""
    sides = [node.left, *node.comparators]
    found = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)} & set(kinds)
    if found and any(
        (isinstance(side, ast.Attribute) and side.attr == "kind")
        or (isinstance(side, ast.Subscript) and isinstance(side.slice, ast.Constant) and side.slice.value == "kind")
        for side in sides
    ):
        return True
    return bool(found - set(words)) and any(isinstance(side, ast.Name) and side.id == "kind" for side in sides)


def is_table(keys: Collection[ast.expr | None], classes: Collection[str], kinds: Collection[str]) -> bool:
    """Whether the keys of a dictionary are classes, or several of them kinds; one may be a word of another meaning."""
    named = [key for key in keys if isinstance(key, ast.Name) and key.id in classes]
    kind = [key for key in keys if isinstance(key, ast.Constant) and key.value in kinds]
    return bool(named) or len(kind) > 1


def violations(
    source: str,
    *,
    package: str,
    classes: Collection[str],
    kinds: Collection[str],
    words: Collection[str] = (),
    may_import: bool = False,
) -> Iterator[str]:
    """What in a module knows a single method, with its line.

    Args:
        source: Text of the module.
        package: Where the contracts are.
        classes: Names of the contracts.
        kinds: Their kinds.
        words: Kinds that are also words of another meaning, with which a variable `kind` may be compared.
        may_import: Whether the module may import single contracts, as one that writes plans must.
    """
    own = set(classes)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith(package) and not may_import:
                if known := {name.name for name in names} & own:
                    yield f"{node.lineno}: imports {', '.join(sorted(known))}"
            case ast.Call(func=ast.Name(id=called), args=[_, asked]) if called in QUESTIONS and names_in(asked) & own:
                yield f"{node.lineno}: asks {called}"
            case ast.MatchClass(cls=cls) if names_in(cls) & own:
                yield f"{cls.lineno}: matches a class"
            case ast.Compare() if asks_for_kind(node, kinds, words) or names_in(node) & own:
                yield f"{node.lineno}: compares a class or a kind"
            case ast.Dict(keys=keys) if is_table(keys, own, kinds):
                yield f"{node.lineno}: has a table of classes or kinds"
