"""What JavaScript prints is what the server would have printed: numbers, shares, tokens."""

import random
import struct
from collections.abc import Callable

import pytest

from app.core import escape, format

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page  # noqa: E402

pytestmark = pytest.mark.browser

VALUES = [0.0, 0.5, 1.5, 2.5, 0.125, 0.0005, 0.001, -0.0625, 99_999.9996, 1e5, -1e5, 1e-300, 1.005, 0.9999, -12.3456]


def numbers() -> list[float]:
    """Edges, ties, and finite doubles of every size."""
    rng = random.Random(0)
    drawn = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(300)]
    return VALUES + [v for v in drawn if v == v and abs(v) < 1e290] + [rng.gauss(0, 10.0**e) for e in range(-7, 7)] * 5


def test_numbers_and_shares_are_printed_as_the_server_prints_them(open_page: Callable[..., Page]) -> None:
    page = open_page("/login")
    values = numbers()
    for digits in range(5):
        printed = page.evaluate("([v, d]) => v.map((x) => window.reading.num(x, d))", [values, digits])
        assert printed == [format.num(value, digits) for value in values]
        shares = page.evaluate("([v, d]) => v.map((x) => window.reading.percent(x, d))", [VALUES, digits])
        assert shares == [format.percent(value, digits) for value in VALUES]
    assert page.evaluate("[reading.num(null), reading.num(undefined), reading.percent(NaN)]") == [format.MISSING] * 3


def test_tokens_are_made_visible_as_the_server_does(open_page: Callable[..., Page]) -> None:
    page = open_page("/login")
    texts = [
        " the",
        "a\nb",
        "\t",
        "\r\n",
        "\u00a0x",
        "\u0000",
        "\u202eabc",
        "\u200b",
        "\ue000",
        "\u2028",
        "é",
        "𝕏",
        "\u3000",
    ]
    assert page.evaluate("(texts) => texts.map((text) => reading.visible(text))", texts) == [
        escape.visible(text) for text in texts
    ]
