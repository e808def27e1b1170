"""Who may import whom: the import-linter contracts of pyproject.toml hold."""

import subprocess
import sys
from pathlib import Path


def test_the_rooms_import_only_downwards() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
