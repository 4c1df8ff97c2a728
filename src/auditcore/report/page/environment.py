"""The templates of pages, and the styles that all pages share."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

_PLAIN_IN_CSS = re.compile("[^A-Za-z0-9]")


@cache
def environment() -> Environment:
    """Templates of the package; every text that they show is escaped, and an unknown name is an error."""
    found = Environment(
        loader=PackageLoader("auditcore.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["number"] = number_text
    found.filters["class_name"] = _class_name
    found.filters["breakable"] = breakable
    found.filters["css_string"] = css_string
    found.globals["styles"] = styles()
    return found


@cache
def styles() -> Markup:
    """Colors and type that pages share with the dashboard, then the styles of pages."""
    folder = files("auditcore.report.page")
    return Markup("\n").join(
        Markup(folder.joinpath(name).read_text(encoding="utf-8"))  # noqa: S704 # nosec B704 - files of this package
        for name in ("theme.css", "page.css")
    )


def number_text(value: float | None) -> str:
    """A number with four digits; a dash without one."""
    return "-" if value is None else f"{value:.4g}"


def breakable(name: str) -> Markup:
    """A name that may break after each underscore, so that headings of columns stay narrow."""
    return Markup("_<wbr>").join(name.split("_"))


def css_string(text: str) -> Markup:
    """A text as a string of CSS in a `<style>` element, where escapes of HTML mean nothing.

    Every character but letters and digits becomes an escape of CSS, so that no text can end the string or the element.
    """
    escaped = _PLAIN_IN_CSS.sub(lambda found: f"\\{ord(found[0]):x} ", text)
    return Markup('"{}"').format(escaped)


@pass_context
def _class_name(context: Context, number: int) -> str:
    """A class as the page calls it: its name if that is known, and its index."""
    name = context["report"].images.class_names.get(number)
    return str(number) if name is None else f"{number} ({name})"
