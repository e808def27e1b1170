"""The state of the prompt page: one flat form, the same in the address (without texts) and in the body of a POST.

Every control of the page is a field or a button of one form, so the page works without JavaScript; `acted` applies the
pressed button. Interventions are written compactly, separated by spaces, positions inclusive as people write them:

    3.17:mean   3.20:zero@4-9   3.5:value=1.5@3,7   3.8:scale=0.5   3.9:clip=0..2   L3H2:bos   !3.17:mean (paused)
"""

import json
import re
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from analysis.types import InputError
from app.errors import validation_message
from app.requests.core import (
    EFFECT_COLUMNS,
    NEURON_PATTERN,
    AnyIntervention,
    BaselineName,
    EffectsRequest,
    HeadInterventionRequest,
    InterventionRequest,
    Order,
    SpanRequest,
    TraceRequest,
)

Request = TypeVar("Request", bound=BaseModel)

METRIC_PATTERN = r"^(entropy|loss|ln_scale|kl_unigram|top1_prob|\d{1,3}\.\d{1,6})$"
TOP_K = 12
ITEM = re.compile(
    r"(?P<off>!?)(?P<target>\d{1,3}\.\d{1,6}|L\d{1,3}H\d{1,4}):(?P<mode>\w+)(=(?P<args>[^@\s]+))?(@(?P<where>[\d,-]+))?"
)
HEAD = re.compile(r"L(\d{1,3})H(\d{1,4})")
# Fields that never stand in an address: texts, and what only a button press needs.
SPENT = ("act", "tick", "neuron", "mode", "value", "min", "max", "where")
BODY_ONLY = {"text", "pin", "restored", *SPENT}


class PinnedRun(BaseModel):
    """The run that every panel draws beside the current one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    text: str
    bos: Literal["", "yes", "no"] = ""
    do: str = ""
    ln: str = ""


class PromptState(BaseModel):
    """What the page shows. Field names are short because they stand in addresses."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    model: str | None = None
    example: str | None = Field(None, max_length=40)
    text: str = ""
    bos: Literal["", "yes", "no"] = Field("", description="Prepend BOS; empty: what the model was trained with.")
    ln: str = Field("", max_length=24, description="Empty: the model's norm; 'median' or a number: a constant scale.")
    pos: int | None = Field(None, ge=0, description="The selected token.")
    to: int | None = Field(None, ge=0, description="Last token of a selected range.")
    do: str = Field("", max_length=4000, description="Interventions, compactly.")
    watch: str = Field("", max_length=400, description="Neurons whose activations are drawn, separated by spaces.")
    metric: str = Field("entropy", pattern=METRIC_PATTERN, description="What colours the strip: a metric, or a neuron.")
    show: Literal["clean", "intervened", "change"] = "clean"
    scale: Literal["prompt", "fixed"] = "prompt"
    baseline: BaselineName | float = "mean"
    by: Literal["entropy", "loss", "kl_unigram"] = Field("entropy", description="Whose change the table splits.")
    sort: str = "d_entropy.total"
    order: Order = "abs_desc"
    at: Literal["all", "token", "range"] = Field("all", description="Where the table's buttons ablate.")
    offset: int = Field(0, ge=0)
    limit: int = Field(25, ge=1, le=1000)
    find: str = Field("", max_length=200, description="Only these neurons of the last layer, separated by spaces.")
    fcol: str = ""
    fmin: float | None = None
    fmax: float | None = None
    pin: str = Field("", description="A PinnedRun as JSON.")
    restored: str = ""
    # The pressed button and the small form that adds a neuron.
    act: str = Field("", max_length=80)
    tick: tuple[str, ...] = ()
    neuron: str = Field("", max_length=20, description="A neuron, or a head written L3H2.")
    mode: Literal["mean", "zero", "value", "scale", "clip", "bos"] = "mean"
    value: float | None = None
    min: float | None = None
    max: float | None = None
    where: str = Field("", max_length=400)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: Any) -> Any:
        """A form sends empty strings for what was left open."""
        field = cls.model_fields[info.field_name]
        return field.get_default() if value == "" else value

    @field_validator("text", mode="before")
    @classmethod
    def _line_ends(cls, value: Any) -> Any:
        """Browsers send CRLF for every line end of a text area; the model was asked about LF."""
        return value.replace("\r\n", "\n") if isinstance(value, str) else value

    @classmethod
    def read(cls, pairs: dict[str, Any]) -> Self:
        """From query or form fields; InputError in place of pydantic's list, so that a page can show it."""
        try:
            return cls.model_validate(pairs)
        except ValidationError as error:
            raise InputError(validation_message(error.errors()), code="invalid_request") from None

    # what to run

    @property
    def prepend_bos(self) -> bool | None:
        return {"": None, "yes": True, "no": False}[self.bos]

    @property
    def ln_scale(self) -> float | str | None:
        """The "no LayerNorm" switch as a request has it; what is neither 'median' nor a number is refused there."""
        try:
            return float(self.ln) if self.ln else None
        except ValueError:
            return self.ln

    @property
    def interventions(self) -> list[tuple[bool, AnyIntervention]]:
        """(active, intervention) as written; InputError names what cannot be read."""
        return [parse_intervention(item) for item in self.do.split()]

    @property
    def watched(self) -> list[str]:
        found = list(dict.fromkeys(self.watch.replace(",", " ").split()))
        for name in found:
            _neuron(name)
        return found

    def trace_request(self) -> TraceRequest:
        return _request(
            TraceRequest,
            text=self.text,
            prepend_bos=self.prepend_bos,
            ln_scale=self.ln_scale,
            interventions=[item for active, item in self.interventions if active],
            neurons=self.watched,
            top_k=TOP_K,
        )

    def effects_request(self, position: int | None) -> EffectsRequest:
        limits = {f"min_{self.fcol}": self.fmin, f"max_{self.fcol}": self.fmax} if self.fcol else {}
        bounds = {name: value for name, value in limits.items() if value is not None}
        return _request(
            EffectsRequest,
            text=self.text,
            prepend_bos=self.prepend_bos,
            ln_scale=self.ln_scale,
            position=position,
            baseline=self.baseline,
            neurons=[_neuron(name) for name in self.find.replace(",", " ").split()] or "all",
            sort=self.sort if self.sort in EFFECT_COLUMNS else "d_entropy.total",
            order=self.order,
            offset=self.offset,
            limit=self.limit,
            **bounds,
        )

    @property
    def pinned(self) -> PinnedRun | None:
        if not self.pin:
            return None
        try:
            return PinnedRun.model_validate_json(self.pin)
        except ValidationError:
            raise InputError("The pinned run cannot be read.", code="invalid_pin", hint="Pin it again.") from None

    def of_pin(self) -> "PromptState | None":
        """The pinned run as a state with this page's watched neurons."""
        pin = self.pinned
        if pin is None:
            return None
        return PromptState(model=pin.model, text=pin.text, bos=pin.bos, do=pin.do, ln=pin.ln, watch=self.watch)

    # buttons

    def acted(self) -> "PromptState":
        """The state after the pressed button (`act`), which is spent by that."""
        verb, _, argument = self.act.partition(":")
        items = self.do.split()
        changes: dict[str, Any] = {}
        match verb:
            case "ablate":
                names = [argument] if argument else list(self.tick)
                changes = self._with([self._ablation(name) for name in names])
            case "add":
                changes = self._with([self._item()])
            case "drop":
                changes = self._without(_index(argument, items))
            case "pause":
                index = _index(argument, items)
                items[index] = items[index][1:] if items[index].startswith("!") else "!" + items[index]
                changes = {"do": " ".join(items)}
            case "sort":
                column, _, order = argument.partition(":")
                changes = {"sort": column, "order": order if order in ("desc", "asc") else "abs_desc", "offset": 0}
            case "by":
                changes = {"by": argument, "sort": f"d_{argument}.total", "order": "abs_desc", "offset": 0}
            case "page":
                changes = {"offset": int(argument) if argument.isdigit() else 0}
            case "filter":
                changes = {"offset": 0}
            case "watch":
                changes = {"watch": " ".join(dict.fromkeys([*self.watched, _neuron(argument)])), "metric": argument}
            case "unwatch":
                changes = {"watch": " ".join(name for name in self.watched if name != argument), "metric": "entropy"}
            case "run":
                changes = {"pos": None, "to": None}
            case "clear":
                changes = {"do": "", "show": "clean"}
            case "pin":
                pinned = PinnedRun(model=self.model, text=self.text, bos=self.bos, do=self.do, ln=self.ln)
                changes = {"pin": pinned.model_dump_json()}
            case "unpin":
                changes = {"pin": ""}
        spent = {name: PromptState.model_fields[name].get_default() for name in SPENT}
        return self.model_copy(update={**spent, **changes})

    def _with(self, new: list[str]) -> dict[str, Any]:
        """A neuron's new item takes the place of an old one at the same positions."""
        places = {_place(item) for item in new}
        old = [item for item in self.do.split() if _place(item) not in places]
        return {"do": " ".join(old + new), "show": "change"} if new else {}

    def _ablation(self, row: str) -> str:
        """A row of the table (`3.17`, or `3.17=0.25` with its baseline value) ablated to the table's baseline."""
        name, _, value = row.partition("=")
        mode = {"mean": "mean", "zero": "zero"}.get(str(self.baseline), f"value={value or self.baseline}")
        span = f"{self.pos}-{self.to}" if self.at == "range" and self.to is not None else self.pos
        where = "" if self.at == "all" or self.pos is None else f"@{span}"
        item = f"{_neuron(name)}:{mode}{where}"
        parse_intervention(item)
        return item

    def _without(self, index: int) -> dict[str, Any]:
        left = [item for i, item in enumerate(self.do.split()) if i != index]
        return {"do": " ".join(left), **({} if left else {"show": "clean"})}

    def _item(self) -> str:
        """The small form as one compact item."""
        name, args = self.neuron.strip(), ""
        if HEAD.fullmatch(name) is None:
            _neuron(name)
        if self.mode in ("value", "scale"):
            if self.value is None:
                raise InputError(f"The mode {self.mode} needs a number.", code="missing_value")
            args = f"={self.value:g}"
        if self.mode == "clip":
            args = f"={'' if self.min is None else f'{self.min:g}'}..{'' if self.max is None else f'{self.max:g}'}"
        where = self.where.replace("–", "-").replace(" ", "")
        item = f"{name}:{self.mode}{args}" + (f"@{where}" if where and where != "all" else "")
        parse_intervention(item)
        return item

    # addresses

    def query(self, **changes: Any) -> str:
        """The state for an address: no texts, no defaults."""
        values = self.model_copy(update=changes).model_dump(exclude=BODY_ONLY, exclude_defaults=True)
        if self.text and not self.example:
            values.pop("example", None)
        return urlencode({name: value for name, value in values.items() if value is not None})

    def fields(self) -> dict[str, str]:
        """The state as form fields: what a hidden input or the browser's history keeps."""
        values = self.model_dump(exclude={"restored", *SPENT})
        return {name: "" if value is None else str(value) for name, value in values.items()}


def parse_intervention(item: str) -> tuple[bool, AnyIntervention]:
    """(active, intervention) from its compact form."""
    match = ITEM.fullmatch(item)
    if match is None:
        raise InputError(
            f"{item[:60]!r} is not an intervention.",
            code="invalid_intervention",
            hint="For example 3.17:mean, 3.20:zero@4-9, 3.5:value=1.5, 3.8:scale=0.5, 3.9:clip=0..2, L3H2:bos.",
        )
    head = HEAD.fullmatch(match["target"])
    target = {"neuron": match["target"]} if head is None else {"head": f"{int(head[1])}.{int(head[2])}"}
    options: dict[str, Any] = {**target, "mode": match["mode"]}
    try:
        if match["mode"] == "clip":
            low, _, high = (match["args"] or "").partition("..")
            options |= {"min": float(low) if low else None, "max": float(high) if high else None}
        elif match["args"] is not None:
            options["value"] = float(match["args"])
        if match["where"]:
            options["positions"] = _positions(match["where"])
    except ValueError:
        raise InputError(f"{item[:60]!r} has a number that cannot be read.", code="invalid_intervention") from None
    found: AnyIntervention = (
        _request(InterventionRequest, **options) if head is None else _request(HeadInterventionRequest, **options)
    )
    return not match["off"], found


def write_intervention(item: AnyIntervention) -> str:
    """The compact form of an intervention; `parse_intervention` reads it back."""
    args = ""
    if isinstance(item, HeadInterventionRequest):
        pass
    elif item.mode == "clip":
        args = f"={'' if item.min is None else repr(item.min)}..{'' if item.max is None else repr(item.max)}"
    elif item.value is not None:
        args = f"={item.value!r}"
    where = ""
    if isinstance(item.positions, SpanRequest):
        where = f"@{item.positions.start}-{item.positions.stop - 1}"
    elif item.positions is not None:
        where = "@" + ",".join(map(str, item.positions))
    return f"{target_name(item)}:{item.mode}{args}{where}"


def target_name(item: AnyIntervention) -> str:
    """`3.17` for a neuron, `L3H2` for a head."""
    return "L{}H{}".format(*item.head.split(".")) if isinstance(item, HeadInterventionRequest) else item.neuron


def _positions(where: str) -> list[int] | dict[str, int]:
    """`4-9` (inclusive) or `3,7`; half-open in the request."""
    start, dash, stop = where.partition("-")
    if dash:
        return {"start": int(start), "stop": int(stop) + 1}
    return [int(part) for part in where.split(",") if part]


def _place(item: str) -> str:
    """The neuron and the positions of a compact item, whatever happens there."""
    return item.lstrip("!").partition(":")[0] + "@" + item.partition("@")[2]


def _neuron(name: str) -> str:
    if re.fullmatch(NEURON_PATTERN, name) is None:
        hint = "Write layer.index, for example 3.17."
        raise InputError(f"{name[:40]!r} is not a neuron.", code="invalid_neuron", hint=hint)
    return name


def _index(argument: str, items: list[str]) -> int:
    if not argument.isdigit() or int(argument) >= len(items):
        raise InputError("There is no such intervention.", code="invalid_request")
    return int(argument)


def _request(kind: type[Request], **values: Any) -> Request:
    try:
        return kind.model_validate(json.loads(json.dumps(values, default=lambda model: model.model_dump())))
    except ValidationError as error:
        raise InputError(validation_message(error.errors()), code="invalid_request") from None
