"""Vendored files are what their notes say; colours agree between style sheet and charts, and can be read."""

import hashlib
import re
from itertools import product
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.core import theme
from app.core.pages import STATIC, TEMPLATES

CSS = (STATIC / "app.css").read_text("utf-8")
BLOCKS = {
    "light": re.search(r":root \{(.*?)\n\}", CSS, re.DOTALL),
    "media": re.search(r':root:not\(\[data-theme="light"\]\) \{\n(.*?)\n  \}', CSS, re.DOTALL),
    "dark": re.search(r':root\[data-theme="dark"\] \{\n(.*?)\n\}', CSS, re.DOTALL),
}


def tokens(name: str) -> dict[str, str]:
    block = BLOCKS[name]
    assert block is not None
    return dict(re.findall(r"(--[\w-]+): ([^;]+);", block[1]))


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


SHIPPED, OF_TESTS = STATIC / "vendor", Path(__file__).parents[1] / "browser" / "vendor"
VENDORED = (*(SHIPPED / name for name in ("htmx", "plotly", "plotly-cartesian")), OF_TESTS / "axe-core")


@pytest.mark.parametrize("folder", VENDORED, ids=lambda folder: folder.name)
def test_vendored_scripts_are_the_ones_named(folder: Path) -> None:
    note = (folder / "VERSION").read_text()
    script = next(folder.glob("*.min.js"))
    assert hashlib.sha256(script.read_bytes()).hexdigest() in note
    assert (folder / "LICENSE").is_file()


def test_both_ways_into_the_dark_theme_agree() -> None:
    assert tokens("dark") == tokens("media")
    missing = {
        name
        for name in tokens("light")
        if re.match(r"--(sans|voice|mono|radius|body|t-?\d|s\d|hair|snug|round|pill)", name)
    }  # the same in both
    assert set(tokens("light")) - set(tokens("dark")) == missing


def test_charts_know_the_light_colours() -> None:
    light = tokens("light")
    assert {name: light[name] for name in theme.LIGHT} == theme.LIGHT


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_can_be_read(name: str) -> None:
    colours = tokens(name)
    texts = ("--ink", "--soft", "--accent", "--bad", "--down-text", "--up-text", "--logits-text", "--scale-text")
    for text, ground in product(texts, ("--paper", "--card", "--sunk", "--raised")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["--on-accent"], colours["--accent"]) >= 4.5
    assert contrast(colours["--accent"], colours["--accent-soft"]) >= 4.5
    for line in ("--clean", "--intervened", *(f"--series-{i}" for i in range(1, 7))):
        assert contrast(colours[line], colours["--card"]) >= 3


def test_every_named_colour_exists() -> None:
    known = tokens("light")
    used = set(re.findall(r"var\((--[\w-]+)", CSS)) - {"--w", "--tint", "--x", "--y", "--h", "--c", "--from"}
    assert used <= set(known)


def test_static_files_are_cached_by_content(client: TestClient) -> None:
    page = client.get("/models").text
    addresses = set(re.findall(r'"(/static/[^"]+)"', page))
    assert any("plotly" in address for address in addresses)
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/plotly/0.0.0/plotly.min.js").status_code == 404


def test_attributes_are_not_expected_to_inherit() -> None:
    """htmx 4 inherits nothing: an element that asks must name its own target (or be it)."""
    for file in TEMPLATES.rglob("*.html"):
        for tag in re.findall(r"<[a-z]+[^<>]*\shx-(?:get|post)=[^<>]*>", file.read_text("utf-8")):
            assert "hx-target" in tag or "hx-swap" in tag, (file.name, tag)


def rules(sheet: Path) -> str:
    """A style sheet without its comments and, of app.css, without the blocks in which tokens are given."""
    text = re.sub(r"/\*.*?\*/", "", sheet.read_text("utf-8"), flags=re.DOTALL)
    return re.sub(r":root[^{]*\{[^}]*\}", "", text)


SHEETS = sorted(STATIC.glob("*.css"))
BY_HTMX = {"htmx-request"}


def test_every_class_of_the_style_sheets_is_used() -> None:
    """By a template, a script or a module; `run-{{ name }}` uses every class that begins with run-."""
    files = (*TEMPLATES.rglob("*.html"), *STATIC.glob("*.js"), *Path(theme.__file__).parents[1].rglob("*.py"))
    text = "\n".join(path.read_text("utf-8") for path in files)
    words = set(re.findall(r"[\w-]+", text))
    made = tuple(set(re.findall(r"([\w]+-)(?:\{\{|\$\{)", text)))
    for sheet in SHEETS:
        selectors = " ".join(re.findall(r"([^{}]+)\{", rules(sheet)))
        classes = set(re.findall(r"\.(-?[_a-zA-Z][\w-]*)", selectors)) - BY_HTMX
        unused = {name for name in classes - words if not name.startswith(made)}
        assert unused == set(), f"{sheet.name}: take them out"


def test_type_space_corners_and_colour_are_named_once() -> None:
    """Sizes of type, of space and of corners, and colours, are tokens; each token is used."""
    text = " ".join(rules(sheet) for sheet in SHEETS)
    assert re.findall(r"font(?:-size)?:[^;]*?[1-9][\d.]*(?:px|rem)", text) == []
    spaced = r"(?<![\w-])(?:margin|padding|gap|(?:row|column)-gap|border-radius)[a-z-]*:[^;}]*?(?:[2-9]|\d\d)px"
    assert re.findall(spaced, text) == []
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;,\s)])", text) == []
    used = text + "".join(path.read_text("utf-8") for path in (*TEMPLATES.rglob("*.html"), *STATIC.glob("*.js")))
    used += "".join(path.read_text("utf-8") for path in Path(theme.__file__).parents[1].rglob("*.py"))
    assert {name for name in tokens("light") if name not in used} == set()
