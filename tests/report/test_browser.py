"""The page in a real browser: on a desk, on a phone, on paper, in the dark. `.ci/browser` has all that it takes.

Without Chromium, playwright, pypdf or axe-core (`MIDISTILL_AXE`, the path of its axe.min.js) what needs them is
skipped, unless `MIDISTILL_BROWSER=required`.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess

import pytest
from made_page import Tags

FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
FLAGS += ["disable-component-update", "disable-sync"]
DESK, PHONE, SMALL = (1280, 900), (390, 844), (360, 740)
SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
BESIDE = """names => [...document.querySelectorAll('table')].filter(t => names.includes(t.caption.textContent.trim()))
    .flatMap(t => [...t.querySelectorAll('tbody :is(th, td)')]).map(cell => {
        const box = cell.getBoundingClientRect()
        return {words: cell.textContent.trim(), left: box.left, right: box.right, inner: cell.scrollWidth,
                outer: cell.clientWidth}
    })"""
CELLS = """() => [...document.querySelectorAll('.cell')].map(cell => ({
    fill: getComputedStyle(cell).fill, share: +getComputedStyle(cell).fillOpacity,
    ink: getComputedStyle(cell.nextElementSibling).fill, paper: getComputedStyle(document.body).backgroundColor}))"""
LINES = """() => [...document.querySelectorAll('.line')].map(cell => {
    const words = document.createRange()
    words.selectNodeContents(cell)
    return new Set([...words.getClientRects()].map(box => Math.round(box.top))).size
})"""
KEY = "Each model under its strongest attack"


def lacking(what):
    say = pytest.fail if os.environ.get("MIDISTILL_BROWSER") == "required" else pytest.skip
    say(f"no {what} on this machine: the page is not tested with it")


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return found or lacking("chromium")


def imported(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return lacking(name.split(".")[0])


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    with imported("playwright.sync_api").sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=[f"--{flag}" for flag in FLAGS])
        yield started
        started.close()


@pytest.fixture
def see(browser):
    """``see(page, size, scheme)``: the page opened; what it logs or asks the network for ends the test."""
    opened = []

    def open_page(path, size=DESK, scheme="light"):
        seen = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
        said = []
        seen.on("console", lambda message: said.append(message.text))
        seen.on("pageerror", lambda error: said.append(str(error)))
        seen.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        seen.goto(path.as_uri())
        opened.append((seen, said))
        return seen

    yield open_page
    for seen, said in opened:
        seen.close()
        assert not said


def test_a_real_browser_draws_every_figure_and_logs_no_error(page, tmp_path):
    text = page.read_text()
    # Asks the browser itself, after layout, for the size of every chart.
    probe = (
        "<script>addEventListener('load',()=>{document.title='sizes '+[...document.querySelectorAll('svg')]"
        ".map(s=>{const b=s.getBoundingClientRect();return Math.round(b.width)+'x'+Math.round(b.height)}).join(' ')"
        "+' overflow '+(document.documentElement.scrollWidth>innerWidth)})</script></body>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", probe))
    names = [*FLAGS, "headless", "enable-logging=stderr", "window-size=900,1200"]
    names += [f"user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [chromium(), *(f"--{name}" for name in names), "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = done.stdout.split("<title>")[1].split("</title>")[0]
    sizes, overflow = title.removeprefix("sizes ").split(" overflow ")
    boxes = [tuple(map(int, size.split("x"))) for size in sizes.split()]
    assert len(boxes) == 8
    assert all(width > 200 and height > 100 for width, height in boxes)
    assert overflow == "false"
    assert "CONSOLE" not in done.stderr


@pytest.mark.parametrize("size", [DESK, PHONE, SMALL], ids=lambda size: str(size[0]))
@pytest.mark.parametrize("made", ["page", "three_arms"])
def test_nothing_needs_scrolling_sideways_and_the_key_figures_are_in_view(see, request, made, size):
    seen = see(request.getfixturevalue(made), size)
    assert not seen.evaluate(SIDEWAYS)
    titles = seen.locator("caption").all_text_contents()
    wanted = [KEY, *(title for title in titles if title.startswith("The answers"))]
    cells = seen.evaluate(BESIDE, wanted)
    assert len(cells) >= 3 * 8
    assert all(cell["left"] >= 0 and cell["right"] <= size[0] for cell in cells)
    assert all(cell["inner"] <= cell["outer"] + 1 for cell in cells), "no cell hides a part of its figure"
    for model in ("teacher", "vanilla", "nonorm"):
        assert model in {cell["words"] for cell in cells}


def test_a_stacked_row_says_what_each_figure_is(see, three_arms):
    seen = see(three_arms, PHONE)
    cell = "table.stacked td[data-label='AUROC']"
    label = seen.evaluate(f"getComputedStyle(document.querySelector(\"{cell}\"), '::before').content")
    assert label == '"AUROC"'
    tree = seen.get_by_role("row").all()
    assert len(tree) > 10, "a table that is stacked is still one for a screen reader"


def test_a_masked_text_is_one_line(see, page):
    for size in (DESK, PHONE):
        assert see(page, size).evaluate(LINES) == [1] * 20


def test_what_is_folded_is_on_paper(see, three_arms, tmp_path):
    seen = see(three_arms)
    assert seen.locator("details[open]").count() == 0
    assert seen.locator("details").count() > 5
    seen.pdf(path=tmp_path / "page.pdf", format="A4")
    sheets = imported("pypdf").PdfReader(tmp_path / "page.pdf").pages
    words = " ".join(" ".join(sheet.extract_text() for sheet in sheets).split())
    tags = Tags(three_arms.read_text())
    for title in (
        *("AUROC ± standard error", "Teacher × student, number of texts", "Agreement on which members"),
        *("Tasks", "Versions", "Safer: nonorm leaks less than teacher", "Cohen's kappa"),
    ):
        assert title in words
    digest = re.search(r"[0-9a-f]{64}", tags.words)
    assert digest is not None
    assert digest[0] in words
    assert "2026-01-02" in sheets[0].extract_text()
    for sheet in sheets:
        assert sheet.extract_text().count("[") == sheet.extract_text().count("]"), "no row goes on on the next sheet"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_matrices_can_be_read_at_every_value(see, page, scheme):
    cells = see(page, scheme=scheme).evaluate(CELLS)
    assert len(cells) == 2 * 3 * 4
    for cell in cells:
        fill, ink, paper = (colour_of(cell[name]) for name in ("fill", "ink", "paper"))
        for share in (0.0, cell["share"], 1.0):
            mixed = [share * a + (1 - share) * b for a, b in zip(fill, paper, strict=True)]
            assert contrast(mixed, ink) >= 4.5


@pytest.mark.parametrize("size", [DESK, PHONE], ids=lambda size: str(size[0]))
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, page, three_arms, scheme, size):
    rules = os.environ.get("MIDISTILL_AXE") or lacking("axe-core (MIDISTILL_AXE)")
    for made in (page, three_arms):
        seen = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
        seen.goto(made.as_uri())
        seen.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        seen.add_script_tag(path=rules)
        found = seen.evaluate("axe.run()")["violations"]
        seen.close()
        bad = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
        assert not bad


def colour_of(css):
    return [int(part) for part in re.findall(r"\d+", css)[:3]]


def contrast(one, other):
    """The ratio of WCAG 2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
