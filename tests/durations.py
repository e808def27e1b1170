"""What each file of tests costs in processor time: written down by a run, and what order and `--within` go by.

    NULLSCOPE_TEST_SECONDS=/tmp/seconds make test    a line a test; then
    python -m tests.durations /tmp/seconds           writes tests/durations.json anew

Processor time, of this process and those that it waited for, since the clock says more about what else runs.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("durations.json")
TO = "NULLSCOPE_TEST_SECONDS"
ROOT = FILE.parent.parent


@cache
def recorded() -> Mapping[str, float]:
    """Seconds of each file of tests, named from the root; a file that is new has none."""
    seconds: dict[str, float] = json.loads(FILE.read_text("utf-8"))
    return seconds


def within(budget: float, seconds: Mapping[str, float]) -> frozenset[str]:
    """The files that a budget does not pay for: it pays for the cheapest first."""
    spent, left_out = 0.0, set[str]()
    for name, cost in sorted(seconds.items(), key=lambda item: item[::-1]):
        spent += cost
        if spent > budget:
            left_out.add(name)
    return frozenset(left_out)


def summed(lines: Iterator[str]) -> dict[str, float]:
    """A file's seconds from a line a test, as `Recorder` writes them."""
    total = defaultdict[str, float](float)
    for line in lines:
        cost, _, test = line.rstrip("\n").partition("\t")
        total[test.split("::")[0]] += float(cost)
    return {name: round(total[name], 1) for name in sorted(total)}


class Recorder:
    """Appends to a file, so that the processes of one run share it."""

    def __init__(self, to: Path) -> None:
        self.to = to

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = sum(os.times()[:4])
        try:
            return (yield)
        finally:
            with self.to.open("a", encoding="utf-8") as out:
                out.write(f"{sum(os.times()[:4]) - before:.3f}\t{item.nodeid}\n")


if __name__ == "__main__":
    with Path(sys.argv[1]).open(encoding="utf-8") as measured:
        FILE.write_text(json.dumps(summed(measured), indent=1) + "\n", "utf-8")
