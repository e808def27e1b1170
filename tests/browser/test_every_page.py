"""What holds of every page: axe-core finds no serious fault, nothing is wider than the screen, and every explanation
opens inside it, a sentence first, a formula second, with its section of the methods.

Each page is loaded once, and looked at on a desk in the light and on a phone in the dark. Charts are not drawn here
(they have tests of their own): of a chart, people who cannot see it have its name, its table and its CSV.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, expect  # noqa: E402

pytestmark = pytest.mark.browser

Open = Callable[..., Page]
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
FAULTS = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)} ${node.failureSummary}`));
}"""

PAGES = (
    "/",
    "/tour",
    "/why",
    "/write",
    *(f"/effects?panel={panel}" for panel in ("heatmap", "joint", "dose", "ledger", "lens")),
    "/atlas",
    "/m/demo/n/3.62",
    "/nullspace",
    "/frequency",
    "/compare",
    "/sweeps",
    "/sweeps/bundled-demo",
    "/sweeps/bundled-demo/figures",
    "/sweeps/bundled-demo/neurons/3.62",
    "/sweeps/bundled-demo/calibration",
    "/sweeps/compare?a=bundled-demo&b=bundled-demo",
    "/induction",
    "/lab",
    "/jobs",
    "/models",
    "/selfcheck",
    "/docs",
    "/docs/methods",
    "/docs/glossary",
)
POPS = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const wrong = [];
  for (const mark of document.querySelectorAll("details.define")) {
    if (!mark.checkVisibility()) continue;
    mark.scrollIntoView({ block: "nearest" });
    await frame();
    mark.open = true;
    await frame();
    const pop = mark.querySelector(".pop"), { left, top, right, bottom, height } = pop.getBoundingClientRect();
    const named = `${mark.parentElement.textContent.trim().slice(0, 60)} ${[left, top, right, bottom].map(Math.round)}`;
    const { clientWidth, clientHeight } = document.documentElement;
    if (!height || left < 0 || top < 0 || right > clientWidth || bottom > clientHeight) wrong.push(`outside: ${named}`);
    const formula = pop.querySelector(".formula"), said = pop.querySelector("p");
    if (!said.textContent.trim() || said === formula) wrong.push(`no sentence first: ${named}`);
    if (formula && !pop.querySelector('a[href*="/docs/methods#"]')) wrong.push(`no section of the methods: ${named}`);
    mark.open = false;
  }
  return wrong;
}"""
# Of every form: words do not touch the edge of their field, and a filter's names stand above their fields, on one line.
FIELDS = """() => {
  const wrong = [], words = "input:not([type=checkbox], [type=radio], [type=range], [type=hidden]), select, textarea";
  for (const field of document.querySelectorAll(words)) {
    const { paddingLeft, paddingRight } = getComputedStyle(field);
    if (Math.min(parseFloat(paddingLeft), parseFloat(paddingRight)) < 4) wrong.push(`no padding: ${field.outerHTML}`);
  }
  for (const label of document.querySelectorAll(".filter > label")) {
    const field = label.querySelector("input, select");
    if (!field.checkVisibility()) continue;
    const said = document.createRange(), text = [...label.childNodes].find(({ data }) => data?.trim());
    said.selectNode(text);
    const [of, at] = [said, field].map((each) => each.getBoundingClientRect());
    const beside = Math.abs((of.top + of.bottom) - (at.top + at.bottom)) / 2 < 3;
    if (field.matches("[type=checkbox], [type=radio]") ? !beside : of.bottom > at.top)
      wrong.push(`${text.data.trim()}: ${[of.top, of.bottom, at.top, at.bottom].map(Math.round)}`);
  }
  return wrong;
}"""
# The frozen column of a table that scrolls leaves the others room.
FROZEN = """() => [...document.querySelectorAll(".scroll tr > :first-child")].filter((cell) =>
  cell.checkVisibility() && !cell.matches("[colspan]") &&
  cell.closest(".scroll").scrollWidth > cell.closest(".scroll").clientWidth + 1 &&
  cell.getBoundingClientRect().width > Math.max(0.65 * cell.closest(".scroll").clientWidth, 200))
  .map((cell) => cell.textContent.trim())"""
# All that our scripts call of plotly.js: a page that follows its run draws a chart, and throws it away for the next.
UNDRAWN = """window.Plotly = { relayout() {}, restyle() {}, purge() {}, addTraces() {},
  async react(element, data, layout) {
    const _fullLayout = new Proxy({}, { get: () => ({ _length: 400 }) });
    Object.assign(element, { data, layout, _fullLayout, _fullData: [], on() {} });
  },
};"""


def settled(page: Page) -> None:
    """What the page asks for by itself has come, as far as it can be seen."""
    expect(page.locator("h1", has_text="Atlas of")).to_have_count(0)  # the page that waits for the weights, and goes on
    expect(page.locator(".htmx-request")).to_have_count(0)
    expect(page.locator("[hx-trigger^=load]:not(.progress)")).to_have_count(0)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_can_be_read_by_everybody(open_page: Open, path: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not in tests/browser/vendor")
    page = open_page(path, viewport={"width": 1400, "height": 900}, color_scheme="light", before=UNDRAWN)
    settled(page)
    page.evaluate(AXE.read_text("utf-8"))
    assert page.evaluate(FAULTS) == []
    assert page.evaluate(POPS) == []
    assert page.evaluate(FIELDS) == []
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate(FAULTS) == []
    assert page.evaluate(POPS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(FROZEN) == []
