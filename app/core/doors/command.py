"""The commands of questions: options from the fields of a request, the answer printed as its table.

    command = command_of(DOSE)     # `nullscope dose TEXT --neuron 3.62 --steps 5`

A field `top_k` is `--top-k`; a list is an option that is repeated; a switch that is on by default gets `--no-...`.
`Typed` on the field says where the shell is another: a short name, another default, another word.
"""

import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import urljoin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from analysis.grammar import read_integer, read_number
from analysis.types import InputError
from app.core.csv import flat_rows
from app.core.question import Question
from app.core.request import PromptRequest, TableRequest
from app.core.shell.output import print_json, print_rows
from app.core.shell.prompt import OF_PROMPT, prompt_body, prompt_parameters
from app.core.shell.session import ApiSession, Refused, as_part, opened, refusing
from app.core.shell.tables import query_string, write_rows
from app.core.typed import Typed

POLL = 0.3
"""Seconds between two looks at a job."""


def command_of(question: Question) -> click.Command:
    """The command. What it prints is `question.prints`'s, else the table by the columns of the view's rows."""
    fields = {name: field for name, field in question.request.model_fields.items() if name not in _apart(question)}
    parameters: list[click.Parameter] = [click.Argument([name]) for name in question.path_names]
    parameters += prompt_parameters() if issubclass(question.request, PromptRequest) else []
    parameters += [_option(name, field) for name, field in fields.items()]
    parameters += _bounds() if issubclass(question.request, TableRequest) else []
    parameters += [
        click.Option(["--model"], help="Key or folder of the model; the server's first by default."),
        click.Option(["--url"], help="Ask a running server instead of loading the model here."),
        click.Option(["--json", "as_json"], is_flag=True, help="The API's JSON instead of a table."),
    ]
    if question.job:
        follow = "As a durable job of the server (--url), and followed: for what takes longer than a request may."
        parameters.append(click.Option(["--as-job"], is_flag=True, help=follow))
    if _has_table(question):
        rows = "Write all rows to this .csv or .parquet file."
        parameters.append(click.Option(["--out"], type=click.Path(dir_okay=False), help=rows))
    if question.permalink:
        keep = "Store the answer, and say the address that it has on a server of this data folder (or at --url)."
        parameters.append(click.Option(["--store"], is_flag=True, help=keep))
    callback = partial(_asked, question, fields)
    return click.Command(question.command or question.name, params=parameters, callback=callback, help=question.says)


def _has_table(question: Question) -> bool:
    return "rows" in question.view.model_fields or hasattr(question.view, "csv_rows")


def _apart(question: Question) -> frozenset[str]:
    return OF_PROMPT if issubclass(question.request, PromptRequest) else frozenset()


def _asked(
    question: Question,
    fields: dict[str, FieldInfo],
    *,
    model: str | None,
    url: str | None,
    as_json: bool,
    out: str | None = None,
    store: bool = False,
    as_job: bool = False,
    **given: Any,
) -> None:
    """Ask and print. A bad request is refused before a model is loaded for it."""
    path = question.path or ""
    for name in question.path_names:
        path = path.replace(f"{{{name}}}", as_part(given[name]))
    with refusing():
        body = {name: _value(field, given[name]) for name, field in fields.items() if _is_given(given[name])}
    if issubclass(question.request, PromptRequest):
        body |= prompt_body(given["text"], given["token_ids"], given["turns"], given["prepend_bos"])
    if issubclass(question.request, TableRequest):
        body |= bounds("min", given["minima"]) | bounds("max", given["maxima"])
    with refusing():
        question.request.model_validate(body)
    if store and out:
        raise Refused("--store keeps one answer, --out every row of a table: give one of them.")
    if as_job and (store or not url):
        raise Refused(
            "--as-job asks a running server, which keeps what a job found: give --url, and no --store."
            " Without a server the answer is waited for here."
        )
    with opened(model, url, before_weights=question.before_weights is not None) as door:
        asking = _followed if as_job else _answer
        ask = partial(asking, door, question, f"/models/{door.quoted}/{path}" + ("?store=true" if store else ""))
        if out:
            rows = _every_row(question, ask, body)
            write_rows(out, rows)
            click.echo(f"{len(rows)} rows written to {out}")
            return
        if question.prints_coming and door.comes and not (as_json or store or as_job):
            question.prints_coming(door.coming(f"/models/{door.quoted}/{path}", body))
            return
        answer = ask(body)
    if as_json:
        print_json(answer)
    elif question.prints:
        question.prints(answer)
    else:
        print_rows(row_of(question), answer["rows"])
    if store:
        click.echo(_stored(url, answer["permalink"]), err=as_json)


def _stored(url: str | None, link: str | None) -> str:
    """Where the answer is to be found again."""
    if link is None:
        return "The answer could not be stored; the server's log says why."
    return f"Stored: {urljoin(url, link) if url else link}"


def _answer(door: ApiSession, question: Question, path: str, body: dict[str, Any]) -> Any:
    return door.post(path, body) if question.method == "POST" else door.get(path + query_string(body))


def _followed(door: ApiSession, question: Question, path: str, body: dict[str, Any]) -> Any:
    """The answer of a durable job; how far it is goes to standard error. Interrupted, it goes on without us."""
    job = door.post(f"{path}/jobs", body)
    click.echo(f"job {job['id']}", err=True)
    told = ""
    while job["state"] not in ("finished", "failed", "cancelled"):
        time.sleep(POLL)
        job = door.get(f"{path}/jobs/{job['id']}")
        share = "" if job["progress"] is None else f" {job['progress']:.0%}"
        if (now := f"{job['stage'] or job['state']}{share}") != told:
            click.echo(now, err=True)
            told = now
    if job["state"] != "finished":
        raise Refused(job["message"] or f"The job {job['id']} was {job['state']}.")
    return job["result"]


def _every_row(question: Question, ask: Callable[[dict[str, Any]], Any], body: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer's table as flat rows, all pages of it."""
    rows: list[dict[str, Any]] = []
    paged = issubclass(question.request, TableRequest)
    while True:
        answer = ask(body | {"offset": len(rows), "limit": 1000} if paged else body)
        rows += flat_rows(question.view.model_validate(answer))
        if not paged or not answer["rows"] or len(rows) >= answer["total"]:
            return rows


def row_of(question: Question) -> type[BaseModel]:
    """The model of the rows of its view; TypeError where it has none."""
    kinds = get_args(question.view.model_fields["rows"].annotation) if "rows" in question.view.model_fields else ()
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    raise TypeError(f"{question.view.__name__} has no rows of a model; give the question {question.name} `shown`.")


def bounds(end: str, specs: tuple[str, ...]) -> dict[str, Any]:
    """`column=number`, repeated, as `min_column` or `max_column`."""
    parts = [spec.partition("=") for spec in specs]
    for name, equals, _ in parts:
        if not equals:
            raise Refused(f"--{end} wants COLUMN=X, not {name[:40]!r}.")
    return {f"{end}_{name}": number for name, _, number in parts}


def _bounds() -> list[click.Parameter]:
    return [
        click.Option(["--min", "minima"], multiple=True, metavar="COLUMN=X", help="Keep rows with at least X."),
        click.Option(["--max", "maxima"], multiple=True, metavar="COLUMN=X", help="Keep rows with at most X."),
    ]


def _typed(field: FieldInfo) -> Typed:
    return next((item for item in field.metadata if isinstance(item, Typed)), Typed())


def _option(name: str, field: FieldInfo) -> click.Option:
    typed, kinds = _typed(field), set(_kinds(field.annotation))
    names = [*(typed.names or (f"--{name.replace('_', '-')}",)), name]
    more: dict[str, Any] = {"help": typed.help or field.description, "metavar": typed.metavar}
    more["default"] = field.default if typed.default is None and _plain(field.default) else typed.default
    more["show_default"] = more["default"] is not None
    if kinds == {bool}:
        names = names if typed.names else [f"--{name.replace('_', '-')}/--no-{name.replace('_', '-')}", name]
        return click.Option(names, **(more | {"is_flag": True, "default": False} if typed.off else more))
    if list in kinds:
        return click.Option(
            names, **more | {"multiple": True, "default": None, "show_default": False, "required": field.is_required()}
        )
    if kinds == {int} or kinds == {float} or kinds == {int, float}:
        more["type"] = NUMBER if float in kinds else INTEGER
    elif words := _words(field.annotation):
        more["type"] = click.Choice(words) if kinds == {str} else None
    return click.Option(names, required=field.is_required(), **more)


class Written(click.ParamType[Any]):
    """A number as the API reads it, refused with the same words."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self.read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.read(value) if isinstance(value, str) else value
        except InputError as error:
            self.fail(error.told, param, ctx)


INTEGER, NUMBER = Written("integer", read_integer), Written("float", read_number)


def _plain(default: Any) -> bool:
    return isinstance(default, str | int | float) and default != ""


def _is_given(value: Any) -> bool:
    return value is not None and value != ()


def _value(field: FieldInfo, given: Any) -> Any:
    if _typed(field).off:
        return not given
    return list(given) if isinstance(given, tuple) else given


def _kinds(annotation: Any) -> Iterator[type]:
    """The plain types that an annotation lets in, None aside; the words of a Literal are str."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    elif origin is Literal:
        yield str
    elif origin is not None and hasattr(annotation, "__metadata__"):
        yield from _kinds(get_args(annotation)[0])
    elif origin is list:
        yield list
    elif isinstance(annotation, type) and annotation is not type(None):
        yield annotation


def _words(annotation: Any) -> list[str]:
    parts = [annotation] if get_origin(annotation) is Literal else list(get_args(annotation))
    return [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
