"""The state of the prompt page: one flat form, the same in the address (without texts) and in the body of a POST.

Every control of the page is a field or a button of one form, so the page works without JavaScript; `acted` applies the
pressed button. Interventions are written compactly (`app.core.interventions`), separated by spaces.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from analysis.grammar import listed, read_positions, write_number, write_positions
from analysis.types import NEURON, InputError, unread
from app.core.errors import RefusedFieldsError
from app.core.fields import holding
from app.core.grammar import read_neuron, read_target
from app.core.interventions import parse_intervention, place_of, requested
from app.core.request import EFFECT_COLUMNS, AnyIntervention, BaselineValue, EffectsRequest, Number, Order, TraceRequest
from app.core.wording import spelled

METRIC_PATTERN = rf"^(entropy|loss|ln_scale|kl_unigram|top1_prob|{NEURON})$"
METRIC_WORDS = "entropy, loss, ln_scale, kl_unigram, top1_prob, or a neuron, such as 3.17"
TOP_K = 12
# The small form that adds a neuron, and the filter of the neuron table: typed, and not in the state until they hold.
ADD = ("neuron", "mode", "value", "min", "max", "where")
FILTER = ("find", "fcol", "fmin", "fmax")
# Fields that never stand in an address: texts, and what only a button press needs.
SPENT = ("act", "tick", *ADD)
BODY_ONLY = {"text", "pin", "restored", *SPENT}


class PinnedRun(BaseModel):
    """The run that every panel draws beside the current one."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    model: str | None = None
    text: str
    bos: Literal["", "yes", "no"] = ""
    do: str = ""
    ln: str = ""


class PromptState(BaseModel):
    """What the page shows. Field names are short because they stand in addresses."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, defer_build=True)

    model: str | None = None
    example: str | None = Field(None, max_length=40)
    text: str = ""
    bos: Literal["", "yes", "no"] = Field("", description="Prepend BOS; empty: what the model was trained with.")
    ln: str = Field("", max_length=24, description="Empty: the model's norm; 'median' or a number: a constant scale.")
    pos: int | None = Field(None, ge=0, description="The selected token.")
    to: int | None = Field(None, ge=0, description="Last token of a selected range.")
    do: str = Field("", max_length=4000, description="Interventions, compactly.")
    watch: str = Field("", max_length=400, description="Neurons whose activations are drawn, separated by spaces.")
    metric: str = Field(
        "entropy",
        pattern=spelled(METRIC_PATTERN, METRIC_WORDS),
        description="What colours the strip: a metric, or a neuron.",
    )
    show: Literal["clean", "intervened", "change"] = "clean"
    scale: Literal["prompt", "fixed"] = "prompt"
    baseline: BaselineValue = "mean"
    by: Literal["entropy", "loss", "kl_unigram"] = Field("entropy", description="Whose change the table splits.")
    sort: str = "d_entropy.total"
    order: Order = "abs_desc"
    at: Literal["all", "token", "range"] = Field("all", description="Where the table's buttons ablate.")
    offset: int = Field(0, ge=0)
    limit: int = Field(25, ge=1, le=1000)
    find: str = Field("", max_length=200, description="Only these neurons of the last layer, separated by spaces.")
    fcol: str = ""
    fmin: Number | None = None
    fmax: Number | None = None
    pin: str = Field("", description="A PinnedRun as JSON.")
    restored: str = ""
    # The pressed button and the small form that adds a neuron.
    act: str = Field("", max_length=80)
    tick: tuple[str, ...] = ()
    neuron: str = Field("", max_length=20, description="A neuron, or a head written L3H2.")
    mode: Literal["mean", "zero", "value", "scale", "clip", "bos"] = "mean"
    value: Number | None = None
    min: Number | None = None
    max: Number | None = None
    where: str = Field("", max_length=400)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any, info: Any) -> Any:
        """A form sends empty strings for what was left open."""
        field = cls.model_fields[info.field_name]
        return field.get_default() if value == "" else value

    @field_validator("sort")
    @classmethod
    def _known_column(cls, value: str) -> str:
        if value not in EFFECT_COLUMNS:
            raise ValueError(f"no column {value[:40]!r}; there are: {', '.join(EFFECT_COLUMNS)}")
        return value

    @field_validator("text", mode="before")
    @classmethod
    def _line_ends(cls, value: Any) -> Any:
        """Browsers send CRLF for every line end of a text area; the model was asked about LF."""
        return value.replace("\r\n", "\n") if isinstance(value, str) else value

    @classmethod
    def read(cls, pairs: Mapping[str, Any]) -> Self:
        """From query or form fields; InputError in place of pydantic's list, so that a page can show it."""
        state, refused = cls.holding(pairs)
        if refused is not None:
            raise refused
        return state

    @classmethod
    def holding(cls, pairs: Mapping[str, Any]) -> tuple[Self, RefusedFieldsError | None]:
        """What of the fields holds, and why the rest does not. What the pressed button does not use is not looked at:
        half a neuron in one box must not keep another button from working."""
        used = ADD if pairs.get("act") == "add" else ()
        return holding(cls, {name: value for name, value in pairs.items() if name not in ADD or name in used})

    # what to run

    @property
    def prepend_bos(self) -> bool | None:
        return {"": None, "yes": True, "no": False}[self.bos]

    @property
    def ln_scale(self) -> str | None:
        """The "no LayerNorm" switch; what is neither 'median' nor a number is refused by the request."""
        return self.ln or None

    @property
    def items(self) -> list[str]:
        """The interventions, each as it is written."""
        return self.do.split()

    @property
    def interventions(self) -> list[tuple[bool, AnyIntervention]]:
        """(active, intervention) as written; InputError names what cannot be read."""
        return [parse_intervention(item) for item in self.items]

    @property
    def watched(self) -> list[str]:
        """The names in the box, each once; whether there are such neurons is seen when they are asked for."""
        return listed(self.watch)

    def trace_request(self) -> TraceRequest:
        return requested(
            TraceRequest,
            text=self.text,
            prepend_bos=self.prepend_bos,
            ln_scale=self.ln_scale,
            interventions=self.items,
            neurons=self.watched,
            top_k=TOP_K,
        )

    def effects_request(self, position: int | None) -> EffectsRequest:
        limits = {f"min_{self.fcol}": self.fmin, f"max_{self.fcol}": self.fmax} if self.fcol else {}
        bounds = {name: value for name, value in limits.items() if value is not None}
        return requested(
            EffectsRequest,
            text=self.text,
            prepend_bos=self.prepend_bos,
            ln_scale=self.ln_scale,
            position=position,
            baseline=self.baseline,
            neurons=listed(self.find) or "all",
            sort=self.sort,
            order=self.order,
            offset=self.offset,
            limit=self.limit,
            **bounds,
        )

    def unfiltered(self) -> "PromptState":
        """The whole neuron table."""
        return self._with_defaults((*FILTER, "offset"))

    def unpressed(self) -> "PromptState":
        """As if no button had been pressed."""
        return self._with_defaults(SPENT)

    def _with_defaults(self, names: tuple[str, ...]) -> "PromptState":
        return self.model_copy(update={name: PromptState.model_fields[name].get_default() for name in names})

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
        return PromptState.read({**pin.model_dump(), "watch": self.watch})

    # buttons

    def acted(self) -> "PromptState":
        """The state after the pressed button (`act`), which is spent by that; InputError leaves all as it was."""
        verb, _, argument = self.act.partition(":")
        items = self.items
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
                changes = {"offset": _count(argument)}
            case "filter":
                changes = {"offset": 0}
            case "watch":
                changes = {"watch": " ".join(dict.fromkeys([*self.watched, read_neuron(argument)])), "metric": argument}
            case "unwatch":
                changes = {"watch": " ".join(name for name in self.watched if name != argument), "metric": "entropy"}
            case "run" | "chat":
                changes = {"pos": None, "to": None}
            case "clear":
                changes = {"do": "", "show": "clean"}
            case "pin":
                pinned = PinnedRun(model=self.model, text=self.text, bos=self.bos, do=self.do, ln=self.ln)
                changes = {"pin": pinned.model_dump_json()}
            case "unpin":
                changes = {"pin": ""}
        return PromptState.read({**self.unpressed().model_dump(exclude=set(SPENT)), **changes})

    def _with(self, new: list[str]) -> dict[str, Any]:
        """A neuron's new item takes the place of an old one at the same positions."""
        places = {place_of(item) for item in new}
        old = [item for item in self.items if place_of(item) not in places]
        return {"do": " ".join(old + new), "show": "change"} if new else {}

    def _ablation(self, row: str) -> str:
        """A row of the table (`3.17`, or `3.17=0.25` with its baseline value) ablated to the table's baseline."""
        name, _, value = row.partition("=")
        mode = {"mean": "mean", "zero": "zero"}.get(str(self.baseline), f"value={value or self.baseline}")
        span = f"{self.pos}-{self.to}" if self.at == "range" and self.to is not None else self.pos
        where = "" if self.at == "all" or self.pos is None else f"@{span}"
        item = f"{read_neuron(name)}:{mode}{where}"
        parse_intervention(item)
        return item

    def _without(self, index: int) -> dict[str, Any]:
        left = [item for i, item in enumerate(self.items) if i != index]
        return {"do": " ".join(left), **({} if left else {"show": "clean"})}

    def _item(self) -> str:
        """The small form as one compact item."""
        name, args = self.neuron.strip(), ""
        read_target(name)
        if self.mode in ("value", "scale"):
            if self.value is None:
                raise InputError(f"The mode {self.mode} needs a number.", code="missing_value", hint="Write it beside.")
            args = f"={write_number(self.value)}"
        if self.mode == "clip":
            args = "=" + "..".join("" if end is None else write_number(end) for end in (self.min, self.max))
        where = write_positions(read_positions(self.where)) if self.where else "all"
        item = f"{name}:{self.mode}{args}" + (f"@{where}" if where != "all" else "")
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


def _index(argument: str, items: list[str]) -> int:
    if (index := _count(argument)) >= len(items):
        raise InputError("There is no such intervention.", code="invalid_request", hint="It may be gone already.")
    return index


def _count(argument: str) -> int:
    """A number that a button of the page carries. Not every digit of Unicode is one that a number can be read from."""
    if not re.fullmatch(r"[0-9]{1,9}", argument):
        raise InputError(unread(argument, "a number"), code="invalid_request", hint="Use the page's own buttons.")
    return int(argument)
