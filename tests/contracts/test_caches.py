"""Nothing is kept of what was computed for a model but in app.core.residency.cache, whose keys name all it depends on.

What looks like a cache elsewhere (a dictionary that starts empty and lives longer than a call, a memoised function, a
folder of the data folder) stands in a table below with the reason why it holds no number of a model.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from analysis import code

ROOT = Path(__file__).parents[2]
SOURCES = [path for room in ("analysis", "app", "nullscope") for path in sorted((ROOT / room).rglob("*.py"))]
MAPPINGS = {"dict", "OrderedDict", "defaultdict", "WeakKeyDictionary", "WeakValueDictionary", "ChainMap", "Counter"}
MEMOISED = {"cache", "lru_cache"}

A_FILE = "of files that ship with the program"
PURE = "a pure function of its arguments, none of them a model"
SHAPES = "compiled forms of tiles: shapes, no weights"
ITSELF = "parts of the model itself, which go with it"
COUNTED = "numbers of events, for /metrics"
TURNS = "what is under way, in line or at work, under the load of the model: gone when it has ended"
PEOPLE = "people and what they may do"
SERVED = "what is loaded: `ModelHost.unload` empties it"

ALLOWED = {
    "version": PURE,
    "chance": PURE,
    "Forms.failures": SHAPES,
    "Forms._made": SHAPES,
    "_code": A_FILE,
    "read": A_FILE,
    "plotly_packed": A_FILE,
    "_processor": "this machine",
    "columns_of": PURE,
    "Plain.sites": ITSELF,
    "_SINKS": "weak: whether a model's first tokens are sinks; goes with the model",
    "Worker.layers": ITSELF,
    "_SPELLINGS": "words for the patterns of fields",
    "Kind.every": "the kinds themselves",
    "Cache._values": "the cache",
    "Cache._open": SERVED,
    "ModelHost.entries": SERVED,
    "Memory.models": SERVED,
    "Shelf.residents": SERVED,
    "Cluster._processes": SERVED,
    "ModelHost.counts": COUNTED,
    "Gate.answers": COUNTED,
    "Stats.finished": COUNTED,
    "Stats.ran": COUNTED,
    "Stats.waited": COUNTED,
    "Atlases._jobs": TURNS,
    "Flights._known": TURNS,
    "FollowedRuns._of": "answers of pages that are coming, under the load of the model",
    "Jobs._open": TURNS,
    "Turns._jobs": TURNS,
    "Turns._people": TURNS,
    "Asked.problems": "of one request",
    "_Hooks._first": "of one text that is being written",
    "_ENGINES": "weak: of the sweeps under way, by weights, dtype and counts; the last of them frees it",
    "Desks._sessions": PEOPLE,
    "Flights._shared": TURNS,
    "Places._taken": TURNS,
    "Shelf.iterators": TURNS,
    "Sweeps._partials": "what a running sweep has so far, under its run, whose manifest names weights and dtype",
    "Speakers._known": "manifests of finished sweeps, under their run: they do not change",
    "Jobs._runners": "functions",
    "Sparing._kinds": "lines of the log",
    "Attempts._under_way": PEOPLE,
    "Texts._arriving": PEOPLE,
    "Buckets._left": PEOPLE,
    "Clean._changes": "of one text, whose circuit is drawn",
    "KeyFile._known": PEOPLE,
    "Example.shown": A_FILE,
    "document": A_FILE,
    "_macros": A_FILE,
    "finding": A_FILE,
    "recorded": A_FILE,
    "shelf": A_FILE,
    "plotly_js": A_FILE,
    "_digest": A_FILE,
    "_environment": A_FILE,
    "_has": A_FILE,
    "_nav": A_FILE,
    "_plotly_body": A_FILE,
    "versions": A_FILE,
}

DATA_FOLDER = {
    "sweeps": "results that were asked for: a run is refused for other weights, dtype, tokenizer or counts",
    "answers": "results that were asked for, with their provenance",
    "corpora": "uploads",
    "reference": "texts that were sent for the means of models, as they came",
    "packages": "models in packages as they were fetched, converted to folders; held to their SHA-256",
    "unigrams": "token counts that the operator had made, with the tokenizer that counted",
    "hub.json": "commits of hub models",
    "nullscope.sqlite": "the database; an answer in it is stored with its provenance and compared when it is opened",
    "users.json": PEOPLE,
}


def kinds_of_the_program() -> set[str]:
    """The names of every `Kind` that the sources define."""
    return {name for name, _, _ in _kinds()}


def _kinds() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(name, modules, where) of every definition; AssertionError for one that is not a constant of its module."""
    for path, tree in _parsed():
        constants = [
            node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Kind":
                where = f"{_name(path)}:{node.lineno}"
                assert node in constants, f"{where}: a kind is a constant of its module"
                name, *modules = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
                yield str(name), tuple(map(str, modules)), where


def _parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def kept(tree: ast.Module) -> Iterator[str]:
    """Names of what outlives a call and can hold values by key: `Class.attribute`, `CONSTANT`, `function`. Frozen
    dataclasses are values."""

    def visit(node: ast.AST, inside: str, in_function: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                if not any(ast.unparse(each).startswith("dataclass(frozen=True") for each in child.decorator_list):
                    yield from visit(child, f"{child.name}.", False)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                if any(_called(decorator) in MEMOISED for decorator in child.decorator_list):
                    yield f"{inside}{child.name}"
                yield from visit(child, inside, True)
            else:
                yield from _assigned(child, inside, in_function)
                yield from visit(child, inside, in_function)

    return visit(tree, "", False)


def _assigned(node: ast.AST, inside: str, in_function: bool) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if value is None:
        return
    if _called(value) in MEMOISED:
        yield f"{inside}{ast.unparse(targets[0])}"
    if not _empty_mapping(value):
        return
    for target in targets:
        if isinstance(target, ast.Attribute):
            yield f"{inside if ast.unparse(target.value) == 'self' else ast.unparse(target.value) + '.'}{target.attr}"
        elif isinstance(target, ast.Name) and not in_function:
            yield f"{inside}{target.id}"


def _called(node: ast.AST) -> str:
    """The last name of what is called, or named: `functools.lru_cache(4)` -> lru_cache."""
    node = node.func if isinstance(node, ast.Call) else node
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _empty_mapping(value: ast.expr) -> bool:
    if isinstance(value, ast.Dict):
        return not value.keys
    if not isinstance(value, ast.Call):
        return False
    if _called(value) in MAPPINGS:
        return not value.args or _called(value) == "defaultdict"
    factory = next((each.value for each in value.keywords if each.arg == "default_factory"), None)
    factory = factory.body if isinstance(factory, ast.Lambda) else factory
    return _called(value) == "field" and factory is not None and _called(factory) in MAPPINGS


def folders() -> dict[str, set[str]]:
    """Names below the data folder -> the modules that spell them."""
    found: dict[str, set[str]] = {}
    for path, tree in _parsed():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.BinOp)
                and isinstance(node.op, ast.Div)
                and isinstance(node.right, ast.Constant)
                and _called(node.left) == "data_dir"
            ):
                found.setdefault(str(node.right.value), set()).add(_name(path))
    return found


def test_what_looks_like_a_cache_is_one_of_ours_or_holds_no_numbers_of_a_model() -> None:
    found = {name: _name(path) for path, tree in _parsed() for name in kept(tree)}
    strange = {name: where for name, where in found.items() if name not in ALLOWED}
    assert strange == {}, "keep it in app.core.residency.cache, or say above what it is"
    assert ALLOWED.keys() - found == set(), "it is gone: take it out of the table"


def test_what_lies_in_the_data_folder_is_known() -> None:
    assert folders().keys() == DATA_FOLDER.keys(), (
        "keep it with app.core.residency.cache.Files, or say above what it is"
    )


def test_every_question_is_a_constant_and_names_the_code_that_answers_it() -> None:
    found = list(_kinds())
    assert len({name for name, _, _ in found}) == len(found) >= 10
    for name, modules, where in found:
        assert modules, f"{where}: {name!r} names no module"
        assert all(name in code.closure(*modules) for name in modules)


def test_the_search_finds_what_is_kept() -> None:
    source = """
from functools import cache, lru_cache
import functools
KNOWN: dict[str, int] = {}
TABLE = {"a": 1}
@dataclass(frozen=True, slots=True)
class Value:
    parts: dict = field(default_factory=dict)
class A:
    shared = {}
    seen: dict = field(default_factory=dict)
    counts: dict = field(default_factory=lambda: defaultdict(list))
    def __init__(self, given):
        self._memo = {}
        self._old = OrderedDict()
        self._weak: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self.copied = dict(given)
        local = {}
def f(state):
    state.flights = {}
    local: dict[str, int] = {}
@functools.lru_cache(maxsize=3)
def g(): ...
@cache
def h(): ...
k = lru_cache(print)
"""
    assert list(kept(ast.parse(source))) == [
        "KNOWN", "A.shared", "A.seen", "A.counts", "A._memo", "A._old", "A._weak", "state.flights", "g", "h", "k",
    ]  # fmt: skip
