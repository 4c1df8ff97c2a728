"""The images that a summary in Markdown sends a person to, and names that try to break out of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.report.markdown import MOST_IMAGES, MOST_ROWS, code, plain_text, render_markdown
from made_up_audits import report as made_up
from made_up_audits import row, shard

VALUES = [0.5, 0.1, 0.4, 0.3, 0.2, 0.6, 0.7, 0.8, 0.9, 0.95]
IMAGES = {index: [index % 3] for index in range(10)}
PLAIN = frozenset({"h2", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "ul", "li", "br", "h3"})
"""What a summary without a link is made of."""


def condition(**changes: Any) -> Condition:
    fields = {"check": "deletion", "explainer": "grad_cam", "metric": "srg", "at_least": 0.9}
    return Condition.model_validate(fields | changes)


def audited(names: dict[int, str] | None = None, classes: dict[int, str] | None = None) -> AuditReport:
    report = made_up(shard(None, IMAGES, row("grad_cam", VALUES)), policy=(condition(),))
    items = tuple(one.model_copy(update={"name": (names or {}).get(one.index)}) for one in report.images.items)
    return report.model_copy(
        update={"images": report.images.model_copy(update={"items": items, "class_names": classes or {}})}
    )


def html_of(markdown: str) -> str:
    """As GitHub and GitLab draw it, but with any HTML of the text left in, to see whether there is any."""
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def rows_of(markdown: str) -> list[list[str]]:
    *_, images = html_of(markdown).split("<h3>")
    rows = re.findall(r"<tr>(.*?)</tr>", images, re.DOTALL)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", one)] for one in rows]


def test_the_worst_images_come_first_with_name_class_and_value() -> None:
    names = {index: f"scan-{index}.png" for index in range(10) if index != 4}
    head, *rows = rows_of(render_markdown(audited(names, {1: "tumor", 0: "healthy"})))
    assert head == ["Image", "Class", "Value", "Of"]
    assert rows == [
        ["scan-1.png", "tumor", "0.100", "deletion grad_cam srg"],
        ["image 4 of the batch", "tumor", "0.200", "deletion grad_cam srg"],
        ["scan-3.png", "healthy", "0.300", "deletion grad_cam srg"],
        ["scan-2.png", "class 2", "0.400", "deletion grad_cam srg"],
        ["scan-0.png", "healthy", "0.500", "deletion grad_cam srg"],
    ]


def test_images_of_several_models_are_listed_together() -> None:
    report = made_up(
        shard("one", IMAGES, row("grad_cam", VALUES)),
        shard("two", {index: [9 - index] for index in range(10)}, row("grad_cam", VALUES[::-1])),
        policy=(condition(),),
    )
    _, *rows = rows_of(render_markdown(report))
    assert len(rows) == MOST_IMAGES
    assert rows[0] == ["image 1 of the batch", "class 1", "0.100", "one deletion grad_cam srg"]
    assert rows[1] == ["image 8 of the batch", "class 1", "0.100", "two deletion grad_cam srg"]


def test_images_without_values_are_not_listed() -> None:
    none = row("grad_cam", [None] * 10, reasons=dict.fromkeys(range(10), "no map"))
    assert "Images to look at" not in render_markdown(made_up(shard(None, IMAGES, none), policy=(condition(),)))


def test_a_long_name_keeps_its_end() -> None:
    _, first, *_ = rows_of(render_markdown(audited({1: f"{'x' * 300}-0017.png"})))
    assert first[0].endswith("-0017.png")
    assert len(first[0]) == 80


def test_a_reason_that_says_the_same_is_not_repeated() -> None:
    vacuous = made_up(shard(None, IMAGES, row("grad_cam", VALUES)), policy=(condition(at_least=-0.5),))
    assert vacuous.verdict == "inconclusive"
    assert render_markdown(vacuous).count("has shown nothing") == 1
    assert vacuous.verdict_reason is not None


def test_the_page_of_the_audit_is_linked() -> None:
    page = "https://audits.example/dashboard/audits/a?tab=images&x=(1)"
    assert f'<a href="{page.replace("&", "&amp;")}">Open the audit</a>' in html_of(render_markdown(audited(), page))


@pytest.mark.parametrize("page", ["javascript:alert(1)", "https://a.example/>[x](http://b.example)", "http://a b", ""])
def test_what_is_no_address_of_a_page_is_not_linked(page: str) -> None:
    assert "<a" not in html_of(render_markdown(audited(), page))


@settings(deadline=None)  # the machine of CI does other work beside it
@given(st.text(max_size=60), st.text(max_size=60))
@example("` | </code><script>alert(1)</script>", "``")
@example("www.evil.example", "mail@evil.example")
@example("![x](http://evil.example/p.png)", "</td></tr></table>")
@example("", "|")
@example("a\u202egnp.exe", "[x]: http://evil.example")
def test_no_name_breaks_out_of_the_summary(name: str, class_name: str) -> None:
    report = audited(dict.fromkeys(range(10), name), {0: class_name, 1: class_name, 2: class_name})
    text = render_markdown(report)
    assert set(re.findall(r"<(\w+)", html_of(text))) == PLAIN
    assert [len(one) for one in rows_of(text)] == [4] * (MOST_IMAGES + 1)
    assert "\u202e" not in text


@settings(deadline=None)  # the machine of CI does other work beside it
@given(st.text(max_size=200))
@example("- one")
@example("12. one")
@example("    code")
@example("www.evil.example and http://evil.example and a@b.example")
def test_plain_text_is_text(text: str) -> None:
    page = html_of(f"{plain_text(text)}\n")
    assert set(re.findall(r"<(\w+)", page)) <= {"p"}
    # both make links of these without being asked
    assert not re.search(r"://|www\.|\w@\w", page, re.IGNORECASE)


@settings(deadline=None)  # the machine of CI does other work beside it
@given(st.text(max_size=50))
def test_code_is_one_piece_of_code(text: str) -> None:
    assert html_of(f"a {code(text)} b").count("<code>") == 1


def test_no_text_is_a_command_of_gitlab() -> None:
    assert not html_of(plain_text("/close")).startswith("<p>/close")


@pytest.mark.parametrize("reference", ["#12", "!12", "~bug", "%4", "$7", "@team"])
def test_no_text_refers_to_a_person_or_an_issue(reference: str) -> None:
    assert reference not in re.sub("<.*?>", "", html_of(plain_text(f"see {reference} now")))


def test_the_longest_summary_fits_into_a_comment() -> None:
    long = "n" * 200
    policy = tuple(condition(id=f"{index:03d}{'i' * 60}") for index in range(120))
    report = made_up(shard(None, IMAGES, row("grad_cam", VALUES)), policy=policy)
    items = tuple(one.model_copy(update={"name": long}) for one in report.images.items)
    report = report.model_copy(update={"images": report.images.model_copy(update={"items": items})})
    assert MOST_ROWS * 100 < len(render_markdown(report)) < 65_536
