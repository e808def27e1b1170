"""No code that comes with a model is ever run: every call that could is told so, in word and in the notebooks' text."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("analysis", "app", "nullscope", "training", "benchmarks", "tests")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LOADERS = {"from_pretrained", "from_config", "boot_transformers", "pipeline"}
OTHERS = {"ScriptDirectory.from_config"}  # of alembic, not of transformers


def careless(source: str) -> list[str]:
    """Mentions of a loader that are not calls with ``trust_remote_code=False`` written out; also in texts of code."""
    tree = ast.parse(source)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = []
    for node in ast.walk(tree):
        name = getattr(node, "attr", None) or getattr(node, "id", None)
        if name in LOADERS and isinstance(node, ast.Attribute | ast.Name):
            call = calls.get(id(node))
            if ast.unparse(node) not in OTHERS and (call is None or not _refuses(call)):
                found.append(f"line {node.lineno}: {ast.unparse(call or node)}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ".from_pretrained(" in node.value:
            found += [f"text in line {node.lineno}, {place}" for place in careless(node.value)]
    return found


def _refuses(call: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    value = given.get("trust_remote_code")
    return isinstance(value, ast.Constant) and value.value is False


def test_every_call_that_loads_refuses_remote_code() -> None:
    assert len(SOURCES) > 200
    others = [path for path in SOURCES if path.name != Path(__file__).name]  # not the examples below
    found = {path.relative_to(ROOT).as_posix(): careless(path.read_text(encoding="utf-8")) for path in others}
    assert not {name: places for name, places in found.items() if places}


@pytest.mark.parametrize(
    "source",
    [
        "AutoTokenizer.from_pretrained(folder)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=True)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)",
        "AutoModelForCausalLM.from_config(config, **options)",
        "load = AutoConfig.from_pretrained",
        "pipeline('text-generation', model)",
        "CODE = 'model = AutoModel.from_pretrained(MODEL)'",
    ],
)
def test_a_careless_call_is_found(source: str) -> None:
    assert careless(source)


def test_a_careful_call_is_not() -> None:
    assert not careless("AutoTokenizer.from_pretrained(folder, trust_remote_code=False)")
