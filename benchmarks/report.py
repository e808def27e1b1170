"""Runs every benchmark and writes its tables into docs/performance.md, between the markers that bear its name.

One that fails or takes too long leaves its old tables, and the others go on; the exit code says so in the end.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
NAMES = ("kernels", "click", "trace", "batching", "memory", "atlas", "sweep", "generate", "cuda")
LIMIT = 300
"""Seconds for one benchmark, beside other work."""
LIMITS = {"real": 3600}
"""Of those that take longer: two real models, the larger one converted from its packages first."""


def main() -> None:
    """Name some benchmarks to run only these."""
    results, failed = [], []
    for name in sys.argv[1:] or NAMES:
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        try:
            results.append(run(name))
        except (subprocess.SubprocessError, ValueError) as error:
            print(f"{name} failed: {error}", flush=True)
            failed.append(name)
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
    print(json.dumps({"benchmark": "all", "failed": failed, "results": results}))
    sys.exit(bool(failed))


def run(name: str) -> dict[str, Any]:
    """One benchmark in a process of its own: its JSON line, after its tables were written."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=LIMITS.get(name, LIMIT))
    *shown, last = done.stdout.strip().splitlines() or [""]
    print(done.stdout.strip(), flush=True)
    result: dict[str, Any] = json.loads(last)
    write(name, "\n".join(shown), result)
    return result


def write(name: str, shown: str, result: dict[str, Any]) -> None:
    """Put one benchmark's output in its place. ValueError where there is none."""
    text = DOCUMENT.read_text()
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    where = re.compile(re.escape(opening) + ".*?" + re.escape(closing), re.DOTALL)
    if not where.search(text):
        raise ValueError(f"{DOCUMENT.name} has no markers for {name}")
    source = f"`python -m benchmarks.{name}` on {result['cpu']} ({result['capability']}), torch {result['torch']}."
    DOCUMENT.write_text(where.sub(lambda _: f"{opening}\n{source}\n\n{shown.strip()}\n{closing}", text))


if __name__ == "__main__":
    main()
