"""What `make test` puts around functions with tensors: a check of their shapes and types at each call.

Importing this module instruments the packages that are imported after it. jaxtyping's own hook would wrap every
function, of which one in ten has a shape to check, and calls of the others would take a fifth of the tests' time.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, jaxtyped

PACKAGES = (
    "auditcore.augmentations",
    "auditcore.checks",
    "auditcore.engine",
    "auditcore.explainers",
    "auditcore.images",
    "auditcore.metrics",
    "auditcore.models",
    "auditcore.random_numbers",
    "auditcore.report.pictures",
    "auditcore.retraining",
    "auditcore.synthetic",
    "auditcore.training",
)
"""Those with tensors; in the others mypy knows the types."""

_CHECKER = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int where a float is declared is fine, as for mypy."""

_DECORATOR = "_with_shapes_checked"


def with_shapes_checked(defined: Any) -> Any:
    """A function, or a dataclass, that checks the shapes it declares at each call; what declares none as it is.

    Annotations are read where they stand, so aliases are seen, and names that are not defined yet are no shapes.
    """
    if inspect.isclass(defined):
        # its own fields only: an inherited one is checked where it stands
        declares = dataclasses.is_dataclass(defined) and _declares(defined, vars(sys.modules[defined.__module__]))
    else:
        declares = isinstance(defined, types.FunctionType) and _declares(defined, defined.__globals__)
    return jaxtyped(defined, typechecker=_CHECKER) if declares else defined


def _declares(defined: Any, names: dict[str, Any]) -> bool:
    """Whether an annotation mentions a shape."""
    return any(
        _is_shape(names.get(word))
        for annotation in getattr(defined, "__annotations__", {}).values()
        for word in re.findall(r"\w+", annotation if isinstance(annotation, str) else repr(annotation))
    )


def _is_shape(value: Any) -> bool:
    """Whether it is a type of array, such as Float, or an alias of one with its axes."""
    if isinstance(value, list):  # of the arguments of a callable
        return any(map(_is_shape, value))
    if inspect.isclass(value) and value.__module__.startswith("jaxtyping"):
        return True
    return (inspect.isclass(value) and issubclass(value, AbstractArray)) or any(map(_is_shape, typing.get_args(value)))


class _Decorated(ast.NodeTransformer):
    """A module whose functions and classes have the decorator, next to what they define."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        # below all others, which often hide annotations
        node.decorator_list.append(ast.copy_location(ast.Name(_DECORATOR, ast.Load()), node))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        # above all others, one of which makes it a dataclass
        node.decorator_list.insert(0, ast.copy_location(ast.Name(_DECORATOR, ast.Load()), node))
        return node


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> types.CodeType:
        """The code with decorators; not from a file beside the source, which is for code without."""
        path = self.get_filename(fullname)
        tree = _Decorated().visit(ast.parse(self.get_data(path), path))
        return self.source_to_code(tree, path)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module where the decorator has a name."""
        vars(module)[_DECORATOR] = with_shapes_checked
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module with another loader, if it is in one of the packages."""
        if not any(fullname == package or fullname.startswith(f"{package}.") for package in PACKAGES):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


_early = [name for name in sys.modules if any(name.startswith(package) for package in PACKAGES)]
if _early:
    msg = f"{', '.join(_early)} cannot be checked any more: import shape_checks before"
    raise RuntimeError(msg)
sys.meta_path.insert(0, _Finder())
