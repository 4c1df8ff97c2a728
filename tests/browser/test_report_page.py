"""The page of a report in a real browser: what it shows, what it runs, what it fetches, how it prints."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route

import made_up_audits as made_up
from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.policy import Condition
from auditcore.contracts.report import AuditReport
from auditcore.contracts.shards import CurveSamples
from auditcore.report.failure import AuditFailure, render_failure_page
from auditcore.report.page.html import render_html
from auditcore_service.gateway.security_headers import HEADERS, REPORT_PAGE_HEADERS
from browser.chromium import DESK, PHONE, axe_violations, chromium, scrolls_sideways

HOSTILE = "\"'><img src=x onerror=document.title='ran'><script>document.title='ran'</script>);}</style>"
EXPLAINERS = ("gradient", "input_x_gradient", "grad_cam", "random")
SIDE = 56


def webp(pixels: np.ndarray) -> bytes:
    """A file of pictures, lossless so that colors can be checked."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    return file.getvalue()


def maps_file(explainers: int) -> bytes:
    """Maps whose left half is 1 for even explainers and -1 for odd ones; the right half is 0."""
    maps = np.full((explainers, SIDE, SIDE), 128, np.uint8)
    maps[0::2, :, : SIDE // 2] = 255
    maps[1::2, :, : SIDE // 2] = 0
    return webp(maps.reshape(explainers * SIDE, SIDE))


def with_pictures(report: AuditReport) -> tuple[AuditReport, Callable[[str], bytes | None]]:
    """The report with a white photo and maps for each image, and what reads them."""
    photo, maps = webp(np.full((SIDE, SIDE, 3), 255, np.uint8)), maps_file(len(EXPLAINERS))
    files = {sha256(data): data for data in (photo, maps)}
    artifacts = tuple(
        Artifact(image=item.index, explainers=explainers, digest=sha256(data))
        for item in report.images.items
        for data, explainers in ((photo, ()), (maps, EXPLAINERS))
    )
    return report.model_copy(update={"artifacts": artifacts}), files.get


CURVES = CurveSamples(x=(0.0, 0.5, 1.0), values=tuple((0.9, 0.5 + index / 100, 0.1) for index in range(12)))


def audited() -> AuditReport:
    """Twelve images, conditions of most kinds, and hostile texts wherever a text comes from outside."""
    noise = np.random.default_rng(3)
    rows = [
        made_up.row(name, [round(float(v), 4) for v in noise.normal(0.3 + 0.1 * number, 0.1, 12)])
        for number, name in enumerate(EXPLAINERS)
    ]
    rows += [made_up.row(name, [0.5] * 12, metric="morf_auc", curve=CURVES) for name in ("gradient", "grad_cam")]
    rows.append(made_up.row("grad_cam", [None, *[0.5] * 11], metric="lerf_auc", reasons={0: HOSTILE}))
    policy = (
        Condition(id="good", check="deletion", explainer="grad_cam", metric="srg", at_least=0.0),
        Condition(id="bad", check="deletion", explainer="gradient", metric="srg", at_least=0.9),
        Condition(id="gap", check="deletion", explainer="grad_cam", metric="lerf_auc", at_least=0.4, severity="warn"),
    )
    report = made_up.report(made_up.shard(None, {index: [index % 3] for index in range(12)}, *rows), policy=policy)
    items = tuple(
        one.model_copy(update={"name": f"image-{one.index:02d}.png" if one.index else HOSTILE, "label": 1})
        for one in report.images.items
    )
    images = report.images.model_copy(update={"items": items, "class_names": {0: "cat", 1: "dog", 2: HOSTILE}})
    conditions = tuple(one.model_copy(update={"message": f"{one.message} {HOSTILE}"}) for one in report.conditions)
    return report.model_copy(
        update={"images": images, "conditions": conditions, "audit_id": "audit-4711", "verdict_reason": HOSTILE}
    )


@pytest.fixture(scope="module")
def html() -> str:
    return render_html(*with_pictures(audited()))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page from a file; a test fails if it logs an error or asks for anything else."""
    settings: dict[str, Any] = {"viewport": DESK} | getattr(request, "param", {})
    context = browser.new_context(**settings)
    found = context.new_page()
    trouble: list[str] = []
    found.on("console", lambda message: trouble.append(message.text))
    found.on("pageerror", lambda error: trouble.append(str(error)))
    found.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else trouble.append(asked.url))
    found.goto(file.as_uri())
    yield found
    assert trouble == []
    assert found.title() != "ran"
    context.close()


def names(page: Page) -> list[str]:
    """Names of the images that are shown, from top to bottom."""
    return page.eval_on_selector_all("tbody.image:not([hidden]) th", "found => found.map(one => one.dataset.value)")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "page",
    [{}, {"color_scheme": "dark"}, pytest.param({"viewport": PHONE}, marks=pytest.mark.long)],
    ids=["light", "dark", "phone"],
    indirect=True,
)
def test_axe_finds_nothing_and_the_page_is_no_wider_than_its_window(page: Page) -> None:
    assert not scrolls_sideways(page)
    for number in (0, 1):
        page.locator("button.open").nth(number).click()
    page.evaluate("document.querySelectorAll('details.fold').forEach((one) => { one.open = true; })")
    assert axe_violations(page) == []
    assert not scrolls_sideways(page)


def test_columns_are_sorted_by_key_and_what_is_missing_stays_last(page: Page) -> None:
    before = names(page)
    heading = page.locator(".images th[data-sort]").filter(has_text="Image")
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert names(page) == [HOSTILE, *(f"image-{number:02d}.png" for number in range(1, 12))]
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    page.locator(".images th[data-sort]").first.locator("button").click()
    assert names(page) == before
    gap = page.locator(".images th[data-sort]").filter(has_text="lerf_")
    for _ in range(2):
        gap.locator("button.sort").click()
        assert names(page)[-1] == HOSTILE
    # the summary sorts its rows, too
    srg = page.locator(".summary th[data-sort]").filter(has_text="srg").locator("button.sort")
    srg.click()
    rows = page.eval_on_selector_all(".summary tbody tr.line th", "found => found.map(one => one.dataset.value)")
    srg.click()
    turned = page.eval_on_selector_all(".summary tbody tr.line th", "found => found.map(one => one.dataset.value)")
    known = [name for name in rows if name in {"gradient", "input_x_gradient", "grad_cam", "random"}]
    assert [name for name in turned if name in known] == known[::-1]


def test_images_are_filtered_by_text_class_and_flags(page: Page) -> None:
    count = page.locator(".filters-bar output")
    page.locator("[name=text]").fill("image-03")
    assert names(page) == ["image-03.png"]
    page.locator("[name=text]").fill("CAT")
    assert sorted(names(page)) == sorted([HOSTILE, "image-03.png", "image-06.png", "image-09.png"])
    page.locator("[name=text]").fill("")
    page.locator("[name=class]").select_option("0")
    assert len(names(page)) == 4
    assert count.text_content() == "4 of 12 images"
    page.locator("[name=class]").select_option("")
    page.locator("[name=missing]").check()
    page.locator("[name=wrong]").check()
    # label 1 everywhere, so the classes 0 and 2 are misclassified; only image 0 has a gap
    assert names(page) == [HOSTILE]


def test_a_row_opens_by_key_and_by_click(page: Page) -> None:
    button = page.locator("button.open").first
    details = page.locator("details.maps").first
    assert not details.is_visible()
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert details.locator(".stage").is_visible()
    page.keyboard.press("Enter")
    assert not details.is_visible()
    page.locator("tbody.image .line").nth(1).click()
    assert page.locator("details.maps").nth(1).is_visible()


def color(page: Page, x: float) -> tuple[int, int, int]:
    """The color of the stage at this share of its width, half way down."""
    shot = page.locator(".stage .under").screenshot()
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    found = picture.getpixel((int(picture.width * x), picture.height // 2))
    assert isinstance(found, tuple)
    red, green, blue = found
    return int(red), int(green), int(blue)


def test_the_stage_has_slider_swap_crossfade_and_hold(page: Page) -> None:
    page.locator("button.open").first.click()
    stage = page.locator(".stage")
    first, second = stage.locator("select").nth(0), stage.locator("select").nth(1)
    opacity, fade = stage.locator("input").nth(0), stage.locator("input").nth(1)
    first.select_option(label="gradient")
    second.select_option(label="input_x_gradient")
    opacity.fill("100")
    red, _, blue = color(page, 0.25)
    assert red > blue + 100  # orange: positive
    assert len(set(color(page, 0.75))) == 1  # 0 is clear: the gray photo
    stage.locator(".swap").click()
    red, _, blue = color(page, 0.25)
    assert blue > red + 60  # blue: negative
    stage.locator(".swap").press("s")
    assert first.input_value() == "0"
    fade.fill("100")
    red, _, blue = color(page, 0.25)
    assert blue > red + 60
    fade.fill("0")
    hold = stage.locator(".hold")
    hold.hover()
    page.mouse.down()
    red, _, blue = color(page, 0.25)
    assert blue > red + 60
    page.mouse.up()
    red, _, blue = color(page, 0.25)
    assert red > blue + 100
    opacity.fill("0")
    assert len(set(color(page, 0.25))) == 1


def test_a_switched_off_explainer_has_no_curve_and_meanings_open_by_key(page: Page) -> None:
    what = page.locator("button.what").first
    what.focus()
    page.keyboard.press("Enter")
    popover = page.locator(f"#{what.get_attribute('popovertarget')}")
    assert popover.is_visible()
    page.keyboard.press("Escape")
    assert not popover.is_visible()
    panel = page.locator("figure.curves").first
    toggle = panel.locator("input").first
    curve = panel.locator("g.e0").first
    assert curve.is_visible()
    toggle.focus()
    page.keyboard.press("Space")
    assert not curve.is_visible()


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_script_every_map_is_shown(page: Page) -> None:
    assert page.locator(".filters-bar").first.is_hidden()
    page.locator("details.maps > summary").first.click()
    tiles = page.locator("details.maps").first.locator("figure")
    assert [tile.is_visible() for tile in tiles.all()] == [True] * 5


def test_the_header_of_the_gateway_lets_only_the_own_script_run(browser: Browser, html: str) -> None:
    assert set(REPORT_PAGE_HEADERS) <= set(HEADERS)

    def answer(route: Route) -> None:
        headers = {**HEADERS, **REPORT_PAGE_HEADERS, "Content-Type": "text/html; charset=utf-8"}
        route.fulfill(body=html.replace("</main>", "<script>document.title = 'ran'</script></main>"), headers=headers)

    context = browser.new_context()
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.route("**/*", answer)
    page.goto("https://gateway.example/v1/audits/x/report")
    assert page.title() != "ran"
    page.locator("button.open").first.click()
    assert page.locator(".stage").is_visible()
    # the foreign script is the only thing that was refused, by the header and by the page itself
    assert trouble
    assert all("inline script" in one for one in trouble), trouble
    assert page.evaluate("self.origin") == "null"
    context.close()


def test_every_printed_page_has_the_audit_and_its_number(page: Page) -> None:
    printed = pypdf.PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    count = len(printed.pages)
    assert 3 <= count <= 30
    for number, one in enumerate(printed.pages, 1):
        text = re.sub(r"\s+", " ", one.extract_text())
        assert f"{number} of {count}" in text
        assert "Audit audit-4711" in text
    assert "Signature" in printed.pages[-1].extract_text()


def test_in_gray_print_negative_areas_are_striped(page: Page) -> None:
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 900, "height": 900})
    tiles = page.locator("details.printed").first.locator("figure.mapped .tile")
    stripes = []
    for number in (0, 1):
        gray = np.asarray(Image.open(io.BytesIO(tiles.nth(number).screenshot())).convert("L"), float)
        height, width = gray.shape
        column = gray[height // 4 : 3 * height // 4, width // 4]
        stripes.append(float(np.ptp(column)))
    positive, negative = stripes
    assert positive < 20
    assert negative > 80


def test_the_page_of_many_noisy_maps_stays_below_three_megabytes() -> None:
    noise = np.random.default_rng(1)
    names = [f"explainer_{number}" for number in range(8)]
    rows = [made_up.row("gradient", [round(float(v), 4) for v in noise.normal(0.3, 0.1, 100)])]
    report = made_up.report(made_up.shard(None, {index: [index % 5] for index in range(100)}, *rows))
    files: dict[str, bytes] = {}
    artifacts = []
    for item in report.images.items[:20]:
        for explainers in ((), tuple(names)):
            shape = (224 * max(1, len(explainers)), 224) + (() if explainers else (3,))
            data = webp(noise.integers(0, 256, shape, np.uint8))
            files[sha256(data)] = data
            artifacts.append(Artifact(image=item.index, explainers=explainers, digest=sha256(data)))
    page = render_html(report.model_copy(update={"artifacts": tuple(artifacts)}), files.get)
    assert 500_000 < len(page.encode()) < 3_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_failed_audit_is_clean_too(browser: Browser, scheme: str) -> None:
    failure = AuditFailure(
        audit_id="audit-4711", state="failed", code="no_usable_images", message=HOSTILE, field="images", seconds=1.0
    )
    context = browser.new_context(viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.set_content(render_failure_page(failure))
    assert axe_violations(page) == []
    assert not scrolls_sideways(page)
    assert page.title() == "Audit audit-4711: failed"
    assert "This audit failed" in page.inner_text("h1")
    assert trouble == []
    context.close()
