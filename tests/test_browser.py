"""The report's page in a real browser: at three widths, light and dark, no message, no broken image, nothing too small.

Needs Chromium with its driver on the path and the package selenium (requirements-dev.txt); skipped where they are not.
"""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from lstm_studies.reporting import browser, report
from lstm_studies.reporting.studies import STUDIES

WIDTHS = (360, 1024, 1600)
RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"

# Of every visible text: the size in px and the contrast of WCAG 2 with what is behind it.
TEXTS = """
const channel = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
const over = (top, bottom) => top.slice(0, 3).map((c, i) => c * top[3] + bottom[i] * (1 - top[3])).concat(1);
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
  return layers.reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
  if (!text || ["SCRIPT", "STYLE"].includes(element.tagName) || !element.checkVisibility()) continue;
  const style = getComputedStyle(element), size = parseFloat(style.fontSize), ground = behind(element);
  const [light, dark] = [luminance(over(parse(style.color), ground)), luminance(ground)].sort((a, b) => b - a);
  const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
  found.push({ text: text.slice(0, 60), size, contrast: (light + 0.05) / (dark + 0.05), needed: large ? 3 : 4.5 });
}
return found;
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A browser with an empty profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install -r requirements-dev.txt")
    from selenium.webdriver.chrome.service import Service

    chromedriver = shutil.which("chromedriver")
    if chromedriver is None:
        pytest.skip("needs Chromium and its driver on the path: apt-get install chromium chromium-driver")
    try:
        path = browser.find_browser()
    except browser.BrowserError as error:
        pytest.skip(str(error))
    options = webdriver.ChromeOptions()
    options.binary_location = path
    for flag in browser.flags(tmp_path_factory.mktemp("profile")):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of the published results, with a study that is missing."""
    results = {}
    for study in STUDIES:
        folder = RESULTS / study.script / study.name
        if (folder / "metrics.json").exists():
            results[study] = {"best": report.Result(report.read_json(folder / "metrics.json"), 1.0, folder)}
    (first, *_) = results
    results[first] = {"best": report.Failure("train-images not at hand; from https://example.org.", unavailable=True)}
    return report.write_report(results, "full", tmp_path_factory.mktemp("page"))


@contextmanager
def shown(driver, page, width, theme="light", height=900):
    """The page in a window of this width; afterwards the console must be empty."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": theme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(page.as_uri())
    yield
    assert driver.get_log("browser") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_can_be_read(driver, page, width, theme):
    with shown(driver, page, width, theme):
        driver.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        images = driver.execute_script("return [...document.images].map((i) => [i.alt, i.complete, i.naturalWidth])")
        assert len(images) > 20 and all(complete and size for alt, complete, size in images if alt)
        wide = "const root = document.documentElement; return [innerWidth, root.scrollWidth, root.clientWidth]"
        inner, scroll, client = driver.execute_script(wide)
        assert inner == width and scroll <= client
        texts = driver.execute_script(TEXTS)
        assert len(texts) > 500
        assert [text for text in texts if text["size"] < 11] == []
        assert [text for text in texts if text["contrast"] < text["needed"]] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_entry_of_the_contents_leads_to_its_place(driver, page, width):
    with shown(driver, page, width):
        links = driver.execute_script("return [...document.querySelectorAll('nav a')].map((a) => a.hash)")
        assert len(links) > 20
        for hash in links:
            driver.execute_script("document.querySelector(`nav a[href='${arguments[0]}']`).click()", hash)
            top, bottom = driver.execute_script(
                "const place = document.querySelector(location.hash).getBoundingClientRect();"
                "const nav = document.querySelector('nav').getBoundingClientRect();"
                "return [place.top, nav.width < innerWidth ? 0 : nav.bottom]"
            )
            end = driver.execute_script("return innerHeight + scrollY >= document.documentElement.scrollHeight - 1")
            assert end or -1 <= top - bottom < 60 or hash == "#top", hash
        assert driver.execute_script("return document.querySelector('nav').getBoundingClientRect().top") == 0


def test_the_contents_say_where_the_reader_is(driver, page):
    with shown(driver, page, 1600):
        driver.execute_script("document.querySelector('#lstm_ae_mnist-classify').scrollIntoView()")
        here = "return [...document.querySelectorAll('nav a.here')].map((a) => a.hash)"
        driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        assert set(driver.execute_script(here)) == {"#lstm_ae_mnist", "#lstm_ae_mnist-classify"}


def test_tables_sort_by_a_click(driver, page):
    with shown(driver, page, 1024):
        column = (
            "const table = document.querySelector('#lstm_ae_mnist-reconstruct table');"
            "table.querySelectorAll('thead button')[1].click();"
            "return [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[1].textContent))"
        )
        up, down = driver.execute_script(column), driver.execute_script(column)
        assert len(up) == 10 and up == sorted(up) and down == up[::-1]


def test_a_figure_opens_large(driver, page):
    with shown(driver, page, 1600):
        driver.execute_script("document.querySelector('article figure .zoom').click()")
        size = "const d = document.querySelector('dialog'); return [d.open, d.querySelector('img').clientWidth]"
        opened, width = driver.execute_script(size)
        small = driver.execute_script("return document.querySelector('article figure img').clientWidth")
        assert opened and width > small
        driver.execute_script("document.querySelector('dialog button').click()")
        assert not driver.execute_script(size)[0]


def test_the_pdf(page, driver, tmp_path):
    path = browser.print_pdf(page, tmp_path / "report.pdf")
    assert path.read_bytes().startswith(b"%PDF") and path.stat().st_size > 100_000


@pytest.mark.parametrize("width", WIDTHS)
def test_screenshots(driver, page, width, request):
    """With --screenshots=FOLDER the first screen and a study are kept there."""
    folder = request.config.getoption("--screenshots")
    if not folder:
        pytest.skip("only with --screenshots=FOLDER")
    with shown(driver, RESULTS / "report" / "index.html", width, height=1000):
        driver.save_screenshot(str(folder / f"first_screen_{width}.png"))
        driver.execute_script("document.querySelector('#adv_alstm').scrollIntoView()")
        driver.save_screenshot(str(folder / f"chapter_{width}.png"))
