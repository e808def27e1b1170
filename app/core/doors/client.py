"""The client's methods, written from the questions: `python -m app.core.doors.client` rewrites nullscope/questions.py.

The file is committed, so that an editor and mypy know every argument; a test compares it with what is written here.
"""

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from app.core.jobs_view import AnswerJob
from app.core.question import Question
from app.core.request import PromptRequest, TableRequest

FILE = Path(__file__).resolve().parents[3] / "nullscope" / "questions.py"
PROMPT = ("text", "token_ids", "turns")
PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
HEAD = '''"""A method for every question, made from app.registry by `make client`. Do not edit."""

from typing import Any, Literal

{imports}
from nullscope.wire import Prompt, Wire, part


class Questions(Wire):
    """What can be asked of a model; the fields are described at /api/v1/openapi.json."""
'''


def written(questions: Iterable[Question]) -> str:
    """The text of nullscope/questions.py."""
    asked = [question for question in questions if question.path is not None]
    views = sorted(
        {(question.view.__module__, question.view.__name__) for question in asked}
        | {(AnswerJob.__module__, AnswerJob.__name__)}
    )
    modules: dict[str, list[str]] = {}
    for module, name in views:
        modules.setdefault(module, []).append(name)
    imports = "\n".join(f"from {module} import {', '.join(names)}" for module, names in modules.items())
    methods = (text for question in asked for text in (_method(question), *(_job(question) if question.job else ())))
    return HEAD.format(imports=imports) + "".join(f"\n{text}" for text in methods)


def _method(question: Question, *, job: bool = False) -> str:
    schema = question.request.model_json_schema()
    on_prompt = issubclass(question.request, PromptRequest)
    fields = {name: spec for name, spec in schema["properties"].items() if not (on_prompt and name in PROMPT)}
    required = set(schema.get("required", ()))
    first = ["self", *(f"{name}: str" for name in question.path_names)]
    first += ["prompt: Prompt"] if on_prompt else []
    ordered = sorted(fields, key=lambda name: name not in required)
    needed = [_parameter(name, fields[name], schema, True) for name in ordered if name in required]
    options = [_parameter(name, fields[name], schema, False) for name in ordered if name not in required]
    bounds = issubclass(question.request, TableRequest)
    stores = question.permalink and not job
    options += ["store: bool = False"] if stores else []
    star = [*needed, *(["*"] if options else []), *options, *(["**bounds: float"] if bounds else [])]
    given = "".join(f'"{name}": {name}, ' for name in ordered) + ("**bounds" if bounds else "")
    path = re.sub(r"{(\w+)}", r"{part(\1)}", question.path or "") + ("/jobs" if job else "")
    quoted = f'f"{path}"' if "{" in path else f'"{path}"'
    view = f"AnswerJob[{question.view.__name__}]" if job else question.view.__name__
    ask = f"{view}, {quoted}, " + ("prompt, " if on_prompt else "")
    call = "_ask_prompt" if on_prompt else "_ask_get" if question.method == "GET" else "_ask_post"
    name = f"start_{question.name}" if job else question.name
    says = f"As a job: `follow` it, then ask for `{question.name}_job`." if job else question.says
    return (
        f"    def {name}({', '.join([*first, *star])}) -> {view}:\n"
        f'        """{_wrapped(says)}"""\n'
        f"        return self.{call}({ask}{{{given}}}{', store=store' if stores else ''})\n"
    )


def _job(question: Question) -> Iterator[str]:
    """The question as a durable job: started with its own arguments, asked for, ended."""
    yield _method(question, job=True)
    view, path = f"AnswerJob[{question.view.__name__}]", f"{{self.path}}/{question.path}/jobs/{{part(name)}}"
    for name, says, call in (
        (f"{question.name}_job", "How far it is, and its result once it has finished.", f'_get({view}, f"{path}")'),
        (f"cancel_{question.name}", "Stop it after the step that it is at.", f'_post({view}, f"{path}/cancel", {{}})'),
    ):
        yield f'    def {name}(self, name: str) -> {view}:\n        """{says}"""\n        return self.{call}\n'


def _wrapped(says: str) -> str:
    """Its first line, as the lines of a docstring."""
    return ("\n" + 8 * " ").join(textwrap.wrap(says.partition("\n")[0], 105))


def _parameter(name: str, spec: Mapping[str, Any], whole: Mapping[str, Any], required: bool) -> str:
    kind = " | ".join(dict.fromkeys(_kinds(spec, whole)))
    return f"{name}: {kind}" if required else f"{name}: {kind} = {_default(spec.get('default'))}"


def _default(value: Any) -> str:
    return "()" if value == [] else repr(value)


def _kinds(spec: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    """Python's words for a JSON schema."""
    if "$ref" in spec:
        found = whole["$defs"][spec["$ref"].rsplit("/", 1)[-1]]
        yield from ("dict[str, Any]",) if found.get("type") == "object" else _kinds(found, whole)
    elif "anyOf" in spec or "oneOf" in spec:
        for part in spec.get("anyOf") or spec["oneOf"]:
            yield from _kinds(part, whole)
    elif "enum" in spec:
        yield f"Literal[{', '.join(json.dumps(word) for word in spec['enum'])}]"
    elif "const" in spec:
        yield f"Literal[{json.dumps(spec['const'])}]"
    elif spec.get("type") == "array":
        inner = " | ".join(dict.fromkeys(_kinds(spec.get("items", {}), whole)))
        yield f"list[{inner}] | tuple[()]" if spec.get("default") == [] else f"list[{inner}]"
    elif spec.get("type") in PLAIN:
        yield PLAIN[spec["type"]]
    else:
        yield "dict[str, Any]" if spec.get("type") == "object" else "Any"


def formatted(text: str) -> str:
    """As `make format` leaves it."""
    name = ["--stdin-filename", str(FILE)]
    for words in (["check", "--fix", "--quiet", *name, "-"], ["format", *name, "-"]):
        command = [sys.executable, "-m", "ruff", *words]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout or text
    return text


if __name__ == "__main__":
    from app.registry import QUESTIONS

    FILE.write_text(formatted(written(QUESTIONS.values())), encoding="utf-8")
