"""The page in a real browser: how wide it is, what its choices show, and that no name in it runs."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anndata import AnnData
from hostile_names import HOSTILE_GENE, HOSTILE_SECTION, hostile

import bleep_sc as bl

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]  # CI installs the browser meanwhile
Pair = tuple[AnnData, AnnData]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What the machine's own browser may be called."""
WIDTHS = (1400, 400)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    sync_api = pytest.importorskip("playwright.sync_api", reason='a browser is driven by `pip install ".[test]"`')
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium here: `apt-get install chromium`")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path)
        yield started
        started.close()


@pytest.fixture(scope="module")
def written(full_once: Pair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with everything on two slides, and one whose names are HTML."""
    ref, query = (adata.copy() for adata in full_once)
    folder = tmp_path_factory.mktemp("reports")
    with bl.settings.override(progress_bar=False, verbosity="error"):
        two = query.copy()
        two.obs["section"] = ["E2" if row % 2 else "D1" for row in range(two.n_obs)]
        two.uns["spatial"]["E2"] = two.uns["spatial"]["D1"]
        usual = bl.report(two, ref, path=folder / "usual.html", genes=["g3", "g7"], library_key="section")
        bad_ref, bad_query = hostile((ref, query))
        arguments = {"genes": [HOSTILE_GENE, "g7"], "title": HOSTILE_SECTION, "note": HOSTILE_GENE}
        odd = bl.report(bad_query, bad_ref, path=folder / "hostile.html", **arguments)
    return {"usual": usual, "hostile": odd}


@pytest.fixture
def visit(browser: "Browser", written: dict[str, Path]) -> "Iterator[Callable[[str, int], Page]]":
    """`visit(report, width)` opens a report; at the end of the test it must have loaded nothing and said nothing."""
    pages: list[Page] = []
    said: list[str] = []
    asked: list[str] = []

    def open_page(report: str, width: int) -> "Page":
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(written[report].as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    assert {url for url in asked if url.startswith("file://")} <= {path.as_uri() for path in written.values()}


def shown(page: "Page") -> list[str]:
    """The kinds, genes and slides of the maps that can be seen."""
    return page.eval_on_selector_all(
        "img.map",
        "all => all.filter(map => map.checkVisibility())"
        ".map(map => `${map.dataset.kind} ${map.dataset.gene} ${map.dataset.slide}`)",
    )


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("report", ["usual", "hostile"])
@pytest.mark.slow
def test_it_fits_the_window(report: str, width: int, visit: Callable) -> None:
    page = visit(report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.eval_on_selector_all("img", "all => all.every(image => image.complete && image.naturalWidth > 0)")
    # the map lies exactly on the slide
    boxes = page.evaluate(
        "[...document.querySelectorAll('.stack')].filter(part => part.checkVisibility()).map(part => "
        "[...part.querySelectorAll('img')].filter(image => image.checkVisibility())"
        ".map(image => image.getBoundingClientRect().toJSON()))"
    )
    ((ground, over),) = boxes
    for side in ("left", "top", "width", "height"):
        assert ground[side] == pytest.approx(over[side], abs=0.6)
    assert over["width"] > 250


@pytest.mark.parametrize("width", WIDTHS)
def test_the_mouse_chooses_what_is_shown(width: int, visit: Callable) -> None:
    page = visit("usual", width)
    assert shown(page) == ["predicted 0 0"]
    assert not page.get_by_text("Scripts are switched off").is_visible()
    viewer = page.locator("#viewer")
    viewer.get_by_label("Measured").check()
    assert shown(page) == ["measured 0 0"]
    viewer.get_by_label("g7").check()
    assert shown(page) == ["measured 1 0"]
    assert "Measured g7" in viewer.locator("figcaption").filter(visible=True).last.inner_text()
    assert "Measured expression of g7 on D1" in page.locator("#says").inner_text()
    viewer.get_by_label("E2").check()
    assert shown(page) == ["measured 1 1"]
    for kind in ("Lower bound", "Upper bound"):
        viewer.get_by_label(kind).check()
        assert shown(page) == [f"{kind.split()[0].lower()} 1 1"]
    viewer.get_by_label("Unlike the reference").check()
    assert shown(page) == ["reliability  1"]
    assert page.get_by_text("above: like the reference").is_visible()
    assert not page.get_by_text("(high)").filter(visible=True).count()
    viewer.get_by_label("The slide alone").check()
    assert shown(page) == []
    assert page.locator("#says").inner_text() == "Nothing lies over the slide."


@pytest.mark.parametrize("width", WIDTHS)
def test_the_keyboard_does_too(width: int, visit: Callable) -> None:
    page = visit("usual", width)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0, "it is seen once it has the focus"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#brief"

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.name || document.activeElement.id") == name:
                return
        pytest.fail(f"the keyboard does not reach {name}")

    tab_to("slide")
    page.keyboard.press("ArrowDown")
    assert shown(page) == ["predicted 0 1"]
    tab_to("kind")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("ArrowDown")
    assert shown(page) == ["measured 0 1"]
    tab_to("gene")
    page.keyboard.press("ArrowDown")
    assert shown(page) == ["measured 1 1"]
    tab_to("strength")
    before = page.evaluate("getComputedStyle(document.querySelector('img.map:not([hidden])')).opacity")
    page.keyboard.press("Home")
    after = page.evaluate("getComputedStyle(document.querySelector('img.map:not([hidden])')).opacity")
    assert (float(before), float(after)) == (0.9, 0.0)


@pytest.mark.parametrize("width", WIDTHS)
def test_names_that_hold_html_do_not_run(width: int, visit: Callable) -> None:
    page = visit("hostile", width)
    viewer = page.locator("#viewer")
    viewer.get_by_label("Measured").check()
    viewer.get_by_label("g7").check()
    viewer.get_by_label(HOSTILE_GENE).check()
    page.wait_for_timeout(100)
    assert page.evaluate("typeof window.hit") == "undefined"
    assert page.title() == HOSTILE_SECTION
    assert HOSTILE_GENE in page.locator("#says").inner_text()
    assert HOSTILE_SECTION in page.locator("#slides").inner_text()
    assert page.evaluate("document.scripts.length") == 1


def test_nothing_would_run_even_if_it_were_not_escaped(
    browser: "Browser", written: dict[str, Path], tmp_path: Path
) -> None:
    """The page's own policy stands behind the escaping."""
    text = written["usual"].read_text(encoding="utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(text.replace("<main>", f"<main>{HOSTILE_GENE}{HOSTILE_SECTION}", 1), encoding="utf-8")
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(bad.as_uri())
    page.wait_for_timeout(100)
    assert page.evaluate("typeof window.hit") == "undefined"
    assert any("Content Security Policy" in text for text in refused)
    assert shown(page) == ["predicted 0 0"]
    page.close()


CONTRASTS = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const found = [];
  for (const part of document.querySelectorAll("body *")) {
    const own = [...part.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !part.checkVisibility()) continue;
    let behind = part;
    while (behind && parts(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const ground = behind ? parts(getComputedStyle(behind).backgroundColor) : [255, 255, 255];
    const [a, b] = [light(parts(getComputedStyle(part).color)), light(ground)].sort((x, y) => y - x);
    found.push([part.tagName, part.textContent.trim().slice(0, 40), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""


def test_text_stands_out_from_its_ground(visit: Callable) -> None:
    page = visit("usual", 1400)
    found: list[tuple[str, str, float]] = page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert {tag for tag, _, _ in found} >= {"H1", "A", "P", "TD", "LEGEND", "SUMMARY"}
    assert [part for part in found if part[2] < 4.5] == []


def test_what_is_read_aloud(visit: Callable) -> None:
    """Roles and names as the browser gives them to a screen reader."""
    page = visit("usual", 1400)
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    for name in ("Slide", "Show", "Gene"):
        assert page.get_by_role("group", name=name, exact=True).count() == 1, name
    assert page.get_by_role("radio", name="Predicted", exact=True).is_checked()
    assert page.get_by_role("slider", name="Strength of colour").count() == 1
    for name in ("In brief", "Maps", "Genes", "Limits", "How to cite"):
        assert page.get_by_role("region", name=name, exact=True).count() == 1, name
    assert page.get_by_role("status").count() == 1
    assert page.get_by_role("img", name=re.compile("^H&E picture of D1")).count() >= 1
    assert page.get_by_role("columnheader", name="Expected r (range)").count() >= 1


def test_it_prints(visit: Callable) -> None:
    """The choices stay away, all else is there, and no part sticks out of the sheet."""
    page: Any = visit("usual", 1400)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 1000})  # a sheet of A4 within its margins
    assert not page.locator(".controls").is_visible()
    assert not page.locator("nav").is_visible()
    assert page.locator("#limits").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.pdf()[:4] == b"%PDF"
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.eval_on_selector_all("details", "all => all.every(part => part.open)")


def test_without_scripts(browser: "Browser", written: dict[str, Path]) -> None:
    """The first map is shown, the page says that no choice is possible, and all maps stand below."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(written["usual"].as_uri())
    assert page.get_by_text("Scripts are switched off here").is_visible()
    assert not page.locator(".controls").is_visible()
    visible = [found for found in page.locator("img.map").all() if found.is_visible()]
    assert [found.get_attribute("data-kind") for found in visible] == ["predicted"]
    assert page.get_by_role("img", name=re.compile("and their difference")).count() == 2
    context.close()
