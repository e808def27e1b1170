"""What a click on a chart does is said by the trace, never by its customdata: that may hold a model's tokens."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_trace_whose_points_are_links_says_so() -> None:
    """Addresses and button values are written into customdata beside the mark that makes them one."""
    written = re.compile(r"customdata=(?!.*\bmeta\b).*(href|f\"\{root\}/|f\"\w+:\{)")
    links = []
    for path in sorted((ROOT / "app").rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if written.search(line):
                links.append(path.name)
                assert re.search(r"meta=theme\.(OPENS|PRESSES)", lines[number + 1]), f"{path.name}:{number + 1}"
    assert len(links) >= 3, links
