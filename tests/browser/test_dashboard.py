"""The dashboard in a real browser, against a real gateway: how it looks to axe, what it asks for, and what it does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

import digits
from auditcore_service.gateway.credentials import COOKIE
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from browser.chromium import DESK, PHONE, axe_violations, chromium, scrolls_sideways
from dashboard_audits import PLAN, fill, hostile, settings_for, store_images, study, submit, training
from running_gateway import running_gateway, service_of, url_of
from two_tenants import OURS, work

WAIT_MS = 15_000


class Site(NamedTuple):
    """A gateway with audits in every state, and a browser."""

    browser: Browser
    service: Service
    url: str
    folder: Path
    ids: dict[str, str]


class Watched(NamedTuple):
    """A page, and what it has done that it should not."""

    page: Page
    url: str
    complaints: list[str]

    def open(self, path: str) -> Page:
        """Go to a page of the dashboard, and wait until its scripts have run."""
        self.page.goto(f"{self.url}{path}", wait_until="load")
        return self.page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with chromium() as browser, running_gateway(settings_for(folder)) as server:
        service = service_of(server)
        ids = fill(service, folder)
        ids |= {"hostile": hostile(service, folder), "training": training(service), "study": study(service)}
        yield Site(browser, service, url_of(server), folder, ids)


@pytest.fixture
def watch(site: Site) -> Iterator[Callable[..., Watched]]:
    """Opens pages that are watched; at the end none of them has complained, or asked another host for anything."""
    opened: list[tuple[BrowserContext, Watched]] = []

    def make(url: str = site.url, **options: Any) -> Watched:
        context = site.browser.new_context(**options)
        watched = Watched(context.new_page(), url, [])
        opened.append((context, watched))
        _listen(watched)
        return watched

    yield make
    complaints = [one for _, watched in opened for one in watched.complaints]
    for context, _ in opened:
        context.close()
    assert not complaints


def _listen(watched: Watched) -> None:
    page, complaints = watched.page, watched.complaints
    page.on("console", lambda message: complaints.append(f"{page.url}: {message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"{page.url}: {dialog.message}"))

    def asked(address: str) -> None:
        if not address.startswith((f"{watched.url}/", "data:")):
            complaints.append(f"{page.url} asked for {address}")

    page.on("request", lambda request: asked(request.url))


def forgive(watched: Watched, status: int) -> None:
    """Forget that the browser has written down an answer of this status, and nothing else."""
    assert watched.complaints
    assert all(f"with a status of {status}" in one for one in watched.complaints), watched.complaints
    watched.complaints.clear()


def pages_of(ids: dict[str, str]) -> list[str]:
    """The address of every page, hostile texts on as many as can have them."""
    return [
        "/ui/audits",
        "/ui/audits?name=nowhere",
        *(f"/ui/audits/{ids[name]}" for name in ("failed", "hostile", "waiting", "cancelled")),
        f"/ui/compare?first={ids['failed']}&second={ids['passed']}",
        f"/ui/compare?first={ids['hostile']}&second={ids['elsewhere']}",
        "/ui/history?tag=model:digits",
        "/ui/history?model=factory+digits:build",
        f"/ui/new?from={ids['hostile']}",
        "/ui/new",
        "/ui/policies",
        "/ui/policies/quick-look@1.0.0",
        "/ui/policies/new",
        "/ui/trainings",
        f"/ui/trainings/{ids['training']}",
        "/ui/experiments",
        f"/ui/experiments/{ids['study']}",
        "/ui/keys",
        "/ui/health",
    ]


@pytest.mark.parametrize(
    "look",
    [
        pytest.param({"viewport": DESK, "color_scheme": "light"}, id="light"),
        pytest.param({"viewport": DESK, "color_scheme": "dark"}, id="dark", marks=pytest.mark.long),
        pytest.param({"viewport": PHONE, "color_scheme": "light"}, id="phone", marks=pytest.mark.long),
    ],
)
def test_every_page_can_be_used_by_everybody(site: Site, watch: Callable[..., Watched], look: dict[str, Any]) -> None:
    watched = watch(**look)
    found = {}
    for path in pages_of(site.ids):
        page = watched.open(path)
        # nothing is hidden from the look behind a click
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        found[path] = axe_violations(page) + (["scrolls sideways"] if scrolls_sideways(page) else [])
        assert page.title() != "run", path
    assert {path: one for path, one in found.items() if one} == {}


def test_no_page_scrolls_sideways_on_a_phone(site: Site, watch: Callable[..., Watched]) -> None:
    watched = watch(viewport=PHONE)
    assert [path for path in pages_of(site.ids) if scrolls_sideways(watched.open(path))] == []


def test_filters_change_the_list_and_the_address_without_a_new_page(site: Site, watch: Callable[..., Watched]) -> None:
    page = watch(viewport=DESK).open("/ui/audits")
    page.evaluate("window.same = true")
    page.get_by_label("Verdict").select_option("warn")
    rows = page.locator("tr[data-job]")
    expect(rows).to_have_count(1, timeout=WAIT_MS)
    expect(rows).to_have_attribute("data-job", site.ids["warned"])
    expect(page).to_have_url(f"{site.url}/ui/audits?verdict=warn", timeout=WAIT_MS)
    assert page.evaluate("window.same") is True
    page.get_by_label("Verdict").select_option("")
    # one row is listed before and after, so that only the row itself says which list is shown
    page.get_by_label("Name", exact=True).fill("digits v3")
    expect(page).to_have_url(f"{site.url}/ui/audits?name=digits%20v3", timeout=WAIT_MS)
    expect(page.locator(f"tr[data-job='{site.ids['passed']}']")).to_be_visible()
    expect(rows).to_have_count(1)
    # somebody else opens the same address
    other = watch(viewport=DESK).open("/ui/audits?name=digits+v3")
    expect(other.locator("tr[data-job]")).to_have_attribute("data-job", site.ids["passed"])


def test_a_list_can_be_read_and_filtered_without_script(site: Site, watch: Callable[..., Watched]) -> None:
    page = watch(viewport=DESK, java_script_enabled=False).open("/ui/audits")
    page.get_by_label("Verdict").select_option("warn")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tr[data-job]")).to_have_attribute("data-job", site.ids["warned"])
    page.get_by_role("link", name="digits v2").click()
    expect(page.get_by_role("heading", name="digits v2")).to_be_visible()
    expect(page.get_by_text("Passed with 1 warning")).to_be_visible()


def test_progress_arrives_by_itself(site: Site, watch: Callable[..., Watched]) -> None:
    batch = store_images(site.service, ANONYMOUS)
    audit_id = submit(site.service, batch, digits.write_weights(site.folder), name="live")
    listed = watch(viewport=DESK).open("/ui/audits?name=live")
    shown = watch(viewport=DESK).open(f"/ui/audits/{audit_id}")
    expect(listed.locator("tr[data-job] .state")).to_contain_text("queued")
    assert work(site.service, audit_id).state == "succeeded"
    expect(listed.locator("tr[data-job] .state")).to_contain_text("succeeded", timeout=WAIT_MS)
    expect(listed.locator("tr[data-job] .badge")).to_contain_text("not evaluated")
    expect(shown.get_by_role("link", name="Open the full report")).to_be_visible(timeout=WAIT_MS)


def test_an_audit_is_cancelled_in_the_list(site: Site, watch: Callable[..., Watched]) -> None:
    batch = store_images(site.service, ANONYMOUS)
    audit_id = submit(site.service, batch, digits.write_weights(site.folder), name="stop me")
    page = watch(viewport=PHONE).open("/ui/audits?name=stop+me")
    page.get_by_role("button", name="Cancel stop me").click()
    expect(page.locator(f'tr[data-job="{audit_id}"] .state')).to_contain_text("cancelled", timeout=WAIT_MS)
    assert site.service.audits.get(ANONYMOUS, audit_id).state == "cancelled"


def test_a_new_audit_by_the_form(site: Site, watch: Callable[..., Watched], tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(digits.png(number))
    watched = watch(viewport=DESK)
    page = watched.open("/ui/new")
    page.get_by_label("Image files").set_input_files([tmp_path / "0.png", tmp_path / "1.png"])
    expect(page.get_by_label("Model reference as JSON")).to_be_hidden()
    page.get_by_label("Kind").select_option("json")
    reference = digits.reference(digits.write_weights(site.folder)).model_dump_json()
    page.get_by_label("Model reference as JSON").fill(reference)
    page.get_by_label("Preset").select_option("json")
    page.get_by_label("Plan as JSON").fill('{"explainers": [], "checks": []}')
    page.get_by_label("Name (optional)").fill("by form")
    expect(page.locator("#request")).to_contain_text('"by form"', timeout=WAIT_MS)
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#of-plan_json")).to_contain_text("#/plan/explainers", timeout=WAIT_MS)
    forgive(watched, 422)
    page.get_by_label("Plan as JSON").fill(re.sub("'", '"', str(PLAN)))
    page.get_by_role("button", name="Ask for the price").click()
    expect(page.get_by_role("heading", name="Price")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="by form")).to_be_visible(timeout=WAIT_MS)
    audit_id = page.url.rpartition("/")[2]
    assert site.service.audits.get(ANONYMOUS, audit_id).images == 2


def test_the_history_is_drawn_and_leads_to_its_audits(watch: Callable[..., Watched]) -> None:
    page = watch(viewport=DESK).open("/ui/history?tag=model:digits")
    chart = page.locator("#chart canvas")
    expect(chart).to_be_visible()
    drawn = page.evaluate(
        "() => { const c = document.querySelector('#chart canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return new Set(Array.from({length: d.length / 4}, (_, i) => `${d[4*i]},${d[4*i+1]},${d[4*i+2]}`)).size; }"
    )
    assert drawn > 5
    box = chart.bounding_box()
    assert box is not None
    # the last of three points is at five sixths of the width of the plot
    over = page.locator("#chart .u-over").bounding_box()
    assert over is not None
    page.mouse.click(over["x"] + over["width"] * 5 / 6, over["y"] + over["height"] / 2)
    expect(page.get_by_role("heading", name="digits v3")).to_be_visible(timeout=WAIT_MS)


def test_what_is_copied_is_what_is_shown(site: Site, watch: Callable[..., Watched]) -> None:
    watched = watch(viewport=DESK, permissions=["clipboard-read", "clipboard-write"])
    page = watched.open(f"/ui/audits/{site.ids['passed']}")
    page.get_by_text("As a command").click()
    page.locator('[data-copy="command"]').click()
    expect(page.locator('[data-copy="command"]')).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#command").text_content()


def test_the_keyboard_reaches_the_content_first(watch: Callable[..., Watched]) -> None:
    page = watch(viewport=DESK).open("/ui/audits")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_signing_in_and_out(watch: Callable[..., Watched], tmp_path: Path) -> None:
    with running_gateway(settings_for(tmp_path, authentication="required")) as server:
        service = service_of(server)
        _, key = service.api_keys.create(OURS, name="browser", scopes=OURS.scopes, expires_at=None)
        watched = watch(url_of(server), viewport=PHONE)
        page = watched.open("/ui/audits?verdict=fail")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert axe_violations(page) == []
        assert not scrolls_sideways(page)
        page.get_by_label("API key or token").fill(key[:-1] + ("a" if key[-1] != "a" else "b"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("Not signed in.")
        assert axe_violations(page) == []
        forgive(watched, 401)
        page.get_by_label("API key or token").fill(key)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{watched.url}/ui/audits?verdict=fail", timeout=WAIT_MS)
        (cookie,) = page.context.cookies()
        assert (cookie["name"], cookie["path"], cookie["httpOnly"]) == (COOKIE, "/ui", True)
        assert (cookie["sameSite"], cookie["expires"]) == ("Strict", -1)
        assert page.evaluate("document.cookie") == ""
        # the browser itself sends the cookie to no path of the API
        assert page.evaluate("fetch('/v1/usage').then((answer) => answer.status)") == 401
        assert page.evaluate("fetch('/ui/health').then((answer) => answer.status)") == 200
        forgive(watched, 401)
        assert not scrolls_sideways(page)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert page.context.cookies() == []


def test_a_form_of_another_origin_changes_nothing(site: Site) -> None:
    batch = store_images(site.service, ANONYMOUS)
    audit_id = submit(site.service, batch, digits.write_weights(site.folder))
    # the same machine by another name is another origin
    other = site.url.replace("127.0.0.1", "localhost")
    context = site.browser.new_context()
    page = context.new_page()
    body = f'<form method="post" action="{site.url}/ui/audits/{audit_id}/cancel"><button>Win a prize</button></form>'
    page.route(f"{other}/hostile", lambda route: route.fulfill(content_type="text/html", body=body))
    page.goto(f"{other}/hostile")
    page.get_by_role("button").click()
    expect(page.locator("body")).to_contain_text("cross_site_request", timeout=WAIT_MS)
    context.close()
    assert site.service.audits.get(ANONYMOUS, audit_id).state == "queued"
