"""The installed packages against known advisories: `make audit`.

Exit 0 only when every package was looked up and none has an advisory; 1 with findings; 2 where something could not be
looked up. pip-audit alone passes over what it does not find, which without a network is everything.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

OURS = "nullscope"
Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def requirements() -> Iterator[str]:
    """`name==version` of each installed package but our own, without the label of a build (torch's +cpu)."""
    found = {d.metadata["Name"].lower(): d.version.partition("+")[0] for d in distributions()}
    return (f"{name}=={version}" for name, version in sorted(found.items()) if name != OURS)


def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def verdict(packages: Sequence[dict[str, Any]]) -> tuple[int, list[str]]:
    """(exit code, lines to print) for what pip-audit says of each package."""
    found = [(package, flaw) for package in packages for flaw in package.get("vulns") or ()]
    unknown = [package["name"] for package in packages if "vulns" not in package]
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'nothing'}"
        for package, flaw in found
    ]
    if unknown or not packages:
        named = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        lines.append(f"{len(unknown)} of {len(packages)} packages could not be looked up ({named}).")
        lines.append("Nothing is known about them: the audit needs the network, and PyPI's advisories.")
    if not lines:
        lines = [f"{len(packages)} packages, no known advisory."]
    return 1 if found else 2 if unknown or not packages else 0, lines


def audit(names: Sequence[str], run: Run = run) -> tuple[int, list[str]]:
    """The verdict on these packages, and on a pip-audit that gives no answer."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join(names), encoding="utf-8")
        options = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off")
        done = run((sys.executable, "-m", "pip_audit", "--requirement", str(file), *options))
    try:
        return verdict(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return 2, [f"Nothing was checked: {reason}", "The audit needs the network, and PyPI's advisories."]


if __name__ == "__main__":
    code, said = audit(list(requirements()))
    print("\n".join(said))
    sys.exit(code)
