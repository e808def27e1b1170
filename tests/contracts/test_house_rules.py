"""Rules of the house that a linter does not know (DESIGN sections 3 and 6). Each names the only place for a thing."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for room in ("analysis", "app") for path in sorted((ROOT / room).rglob("*.py"))]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


def places(pattern: str, files: list[Path], *allowed: str) -> list[str]:
    """Lines that match outside of the allowed paths (prefixes below the root)."""
    found = []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(allowed):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [
                f"{name}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if re.search(pattern, line)
            ]
    return found


def test_only_settings_reads_the_environment() -> None:
    # (app/exports and app/present/code.py write code that runs elsewhere.)
    writers = ("app/exports/", "app/present/code.py")
    assert not places(r"os\.environ|getenv|os\.putenv", SOURCES, "app/settings.py", *writers)


def test_only_pages_knows_the_headers_of_htmx() -> None:
    assert not places(r"[\"']HX-", SOURCES, "app/pages.py")


def test_the_library_neither_prints_nor_draws() -> None:
    library = [path for path in SOURCES if path.is_relative_to(ROOT / "analysis")]
    assert not places(r"^\s*print\(|tqdm|plotly|matplotlib", library)


def test_sql_lives_in_the_database_and_the_jobs_only() -> None:
    assert not places(r"^\s*(from|import) (sqlalchemy|alembic)", SOURCES, "app/db", "app/jobs", "app/migrations")


def test_nothing_is_loaded_from_elsewhere() -> None:
    scripts = [path for path in (ROOT / "static").rglob("*.js") if "vendor" not in path.parts]
    assert not places(r"(src|href)=[\"'](https?:)?//", TEMPLATES)
    assert not places(r"fetch\([\"']https?:|import\([\"']https?:|@import url\(", scripts)


def test_no_remote_code_and_no_pickle() -> None:
    assert not places(r"trust_remote_code\s*=\s*True|torch\.load\(|allow_pickle\s*=\s*True|pickle\.loads?\(", SOURCES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 400
    if text.strip():
        assert text.lstrip().startswith(('"""', "#")), "no module docstring"
