"""Rules of the house that a linter does not know (DESIGN sections 3 and 6). Each names the only place for a thing."""

import ast
import re
from collections import Counter
from pathlib import Path

import hypothesis
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
    # (Notebooks and copied code run elsewhere.)
    writers = ("app/lab/notebook.py", "app/lab/cells.py", "app/core/code.py")
    assert not places(r"os\.environ|getenv|os\.putenv", SOURCES, "app/core/settings.py", *writers)


def test_what_is_written_is_there_whole_or_not_at_all() -> None:
    """By `analysis.files`, which says in one way that the disk is full. Elsewhere: names that it gave or that only the
    writer knows, locks, the client's source, and compiled kernels, whose every failure leaves eager ones."""
    writing = r"\.write_(text|bytes)\(|os\.(replace|rename|fdopen)\(|copyfile|open\([^)]*[\"'][wax][b+]?[\"']"
    own = ("app/core/access/keys.py", "app/core/locks.py", "app/core/store/transfer.py", "app/core/shell/tables.py")
    rest = ("analysis/corpus.py", "analysis/kernels", "app/core/doors/client.py")
    assert not places(writing, SOURCES, "analysis/files.py", *rest, *own)


def test_digits_are_the_ten_of_ascii() -> None:
    """`²` is a digit to str.isdigit and none to int; `٣` is one to both, and would be a second name of the neuron 3."""
    assert not places(r"\\d|\.is(digit|decimal|numeric)\(", SOURCES)


def test_a_sign_in_a_sentence_is_a_minus() -> None:
    """By `analysis.grammar.printed`. (Plotly's own texts, `%{y:+.3f}`, print a minus; copied code is no sentence.)"""
    signed = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FormattedValue) and node.format_spec and "+" in ast.unparse(node.format_spec)
    ]
    assert not signed
    assert not places(r"%[+]|format\(.*-.*−", TEMPLATES)
    assert not places(r"replace\(.-., .−", SOURCES)


def test_only_pages_knows_the_headers_of_htmx() -> None:
    assert not places(r"[\"']HX-", SOURCES, "app/core/pages.py")


def test_the_library_neither_prints_nor_draws() -> None:
    library = [path for path in SOURCES if path.is_relative_to(ROOT / "analysis")]
    assert not places(r"^\s*print\(|tqdm|plotly|matplotlib", library)


def test_only_the_caller_runs_something_on_a_device_for_somebody() -> None:
    """There the role is looked at and the price taken. (Jobs and the house's own work have their own thread.)"""
    own = (
        "app/core/residency",
        "app/core/jobs",
        "app/sweep/store.py",
        "app/core/answer_jobs.py",
        "app/operate/examples.py",
    )
    assert not places(r"host\.(run|steps|slices|submit)\(", SOURCES, "app/core/caller.py", "app/core/run.py", *own)


def test_sql_lives_in_the_database_and_the_jobs_only() -> None:
    assert not places(
        r"^\s*(from|import) (sqlalchemy|alembic)", SOURCES, "app/core/store", "app/core/jobs", "app/core/migrations"
    )


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


def test_a_template_is_read_without_scrolling_sideways() -> None:
    long = [
        f"{path.relative_to(ROOT).as_posix()}:{number}"
        for path in TEMPLATES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert long == []


NO_NAMES = {"found", "here", "shown", "kept"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_name_says_what_the_thing_is(path: Path) -> None:
    """Modules, what they define, and what they import as: these words say what happened to a thing, not what it is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    defined = {node.name for node in tree.body if isinstance(node, definitions)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    aliases = {name.asname for node in imports for name in node.names}
    assert not NO_NAMES & {path.stem, *path.stem.split("_"), *defined, *aliases}


def test_no_example_is_timed() -> None:
    """What Hypothesis measures on a busy machine says nothing about the program."""
    assert hypothesis.settings().deadline is None
    assert hypothesis.HealthCheck.too_slow in hypothesis.settings().suppress_health_check


def _asks_at_once(loop: ast.While) -> bool:
    calls = [node for node in ast.walk(loop) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    names = {call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}
    first = [ast.unparse(call.args[0]) for call in calls if call.args and call.func.attr in ("get", "post")]  # type: ignore[attr-defined]
    return any("/" in address for address in first) and not names & {"sleep", "wait", "join"}


def test_who_waits_for_a_server_leaves_it_the_processor() -> None:
    """A loop that asks again at once takes half of two processors from what it waits for: `tests.app.served.until`.
    (The people of the soak test ask all the time, and wait for nothing.)"""
    loops = [
        f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.parent.name != "soak"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.While) and _asks_at_once(node)
    ]
    assert loops == []


def _defined(tree: ast.Module) -> set[str]:
    """What a module defines for others or itself; a decorated function was handed to what decorates it."""
    names = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
             if isinstance(target, ast.Name)}  # fmt: skip
    for node in tree.body:
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and not node.decorator_list):
            names.add(node.name)
    return {name for name in names if not name.startswith("__")}


def test_what_is_defined_is_used() -> None:
    """By the program or what measures it; what tests alone use is no part of the program."""
    rooms = ("analysis", "app", "nullscope", "training", "benchmarks", "templates")
    files = [path for room in rooms for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".html")]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    words = Counter(word for text in texts.values() for word in re.findall(r"\w+", text))
    modules = {path: ast.parse(texts[path]) for path in SOURCES if "migrations" not in path.parts}
    unused = {
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path, tree in modules.items()
        for name in _defined(tree)
        if words[name] == 1
    }
    assert sorted(unused) == []
