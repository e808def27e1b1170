"""Runs every benchmark and writes its tables into docs/performance.md, between the markers that bear its name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
NAMES = ("kernels", "click", "trace", "batching", "memory", "sweep", "cuda")


def main() -> None:
    """Name some benchmarks to run only these."""
    results = []
    for name in sys.argv[1:] or NAMES:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True, check=True
        )
        *shown, last = done.stdout.strip().splitlines()
        print("\n".join(shown), flush=True)
        result = json.loads(last)
        results.append(result)
        write(name, "\n".join(shown), result)
    print(json.dumps({"benchmark": "all", "results": results}))


def write(name: str, shown: str, result: dict[str, object]) -> None:
    """Put one benchmark's output in its place."""
    text = DOCUMENT.read_text()
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    where = re.compile(re.escape(opening) + ".*?" + re.escape(closing), re.DOTALL)
    if not where.search(text):
        raise SystemExit(f"{DOCUMENT.name} has no markers for {name}.")
    source = f"`python -m benchmarks.{name}` on {result['cpu']} ({result['capability']}), torch {result['torch']}."
    DOCUMENT.write_text(where.sub(lambda _: f"{opening}\n{source}\n\n{shown.strip()}\n{closing}", text))


if __name__ == "__main__":
    main()
