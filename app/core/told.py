"""A stored answer told to somebody who was not there: what was asked, what was done to the model, what came of it."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from app.core.chips import Chip, chip
from app.core.escape import visible
from app.core.format import num
from app.core.interventions import write_intervention
from app.core.request import AnyIntervention
from app.core.view import EffectsView, TraceView, View

EFFECT_COLUMNS = {
    "Neuron": "neuron",
    "Activation": "activation",
    "Δ entropy": "d_entropy.total",
    "through the logits": "d_entropy.direct",
    "through the LN scale": "d_entropy.ln_mediated",
    "Δ loss": "d_loss.total",
}
"""Of a table of effects, what a link shows: its words, and the path of each in a row."""


class Shade(View):
    """One token of the strip."""

    text: str
    value: float | None = Field(description="Entropy of the prediction after it, in nats; null where none is shown.")
    selected: bool = False


class Candidate(View):
    """One token that may follow."""

    text: str
    follows: bool
    clean: float | None
    intervened: float | None = None


class Mark(View):
    """What is known of a neuron beside what it does here: a row of the atlas in short."""

    rho: float | None = Field(description="Length of its write direction in the null space over its whole length.")
    labels: list[str] = Field(description="The labels that hold for it.")


class Told(View):
    """What a shared link and file say before the charts. Empty parts are left out of it."""

    caption: str = Field("", description="What holds here, from the answer's own numbers.")
    interventions: list[str] = Field([], description="In words, in the order in which they were applied.")
    strip: list[Shade] = Field([])
    position: int | None = Field(None, description="Of the selected token.")
    at: str = Field("", description="The selected token.")
    candidates: list[Candidate] = Field([])
    about: str = Field("What each last-layer neuron does there, ablated", description="What the table is of.")
    heads: list[str] = Field([], description="Of `rows`.")
    rows: list[list[str | float | None]] = Field([], description="The first of a row is what it is of: a neuron, ...")
    marks: dict[str, Mark] = Field({}, description="Label and rho of the neurons among them.")


class Says(View):
    """What holds at a token, made from the table's numbers: it says less where they say less."""

    token: str
    entropy: float | None
    neuron: str | None = Field(None, description="Of those in the table, whose ablation changes the entropy most.")
    change: float | None = Field(None, description="That change, signed, in nats: ablated minus clean.")
    through: Literal["ln_scale", "logits"] | None = Field(None, description="Where more than half of it comes from.")


def said(effects: EffectsView) -> Says:
    """What holds at the token of a table of effects."""
    told = Says(token=effects.clean.token.text, entropy=effects.clean.entropy)
    rows = [row for row in effects.rows if row.d_entropy.total]
    if not rows:
        return told
    first = max(rows, key=lambda row: abs(row.d_entropy.total or 0.0))
    parts, total = first.d_entropy, first.d_entropy.total
    assert total
    shares = {"ln_scale": parts.ln_mediated, "logits": parts.direct}
    through = next((name for name, part in shares.items() if part is not None and part / total > 0.5), None)
    if through == "ln_scale" and (parts.direct or 0.0) / total > 0.5:
        through = None  # both: neither is most of it
    return told.model_copy(update={"neuron": first.neuron, "change": total, "through": through})


def sentence(of: Says) -> str:
    """The same in one sentence, without marks of a page."""
    text = f"After “{quoted(of.token)}” the entropy is {num(of.entropy, 2)} nats"
    if of.neuron is None or of.change is None:
        return text + "."
    way = "up" if of.change < 0 else "down"
    through = {"ln_scale": ", mostly through the LN scale", "logits": ", mostly through the logits", None: ""}
    return f"{text}; {of.neuron} holds it {way} by {num(abs(of.change), 2)}{through[of.through]}."


def quoted(token: str) -> str:
    """A token within a sentence."""
    return visible(token.strip() or token)


def words(done: Chip) -> str:
    """`3.62 × 4` as somebody says it: "3.62: its activation × 4"."""
    kind = "head" if done.head else "neuron"
    what = done.label if done.head else f"activation {done.label}".replace("activation clip", "activation clipped to")
    return f"{kind} {done.neuron}: {what}".replace("→", "set to")


def in_words(done: Iterable[AnyIntervention], ln_scale: float | str | None = None) -> list[str]:
    """What a request does to the model. ln_scale: the constant that replaces the final norm's own."""
    held = [] if ln_scale is None else [f"the final LN scale held at {_constant(ln_scale)}"]
    return held + [words(chip(write_intervention(each))) for each in done]


def _constant(ln_scale: float | str) -> str:
    return "this prompt's median" if isinstance(ln_scale, str) else num(ln_scale)


def set_to(neurons: Iterable[str], baseline: Any) -> str:
    """A set that is ablated."""
    value = {"mean": "their means", "prompt_mean": "their means over this prompt", "zero": "0"}.get(str(baseline))
    return f"neurons {', '.join(neurons)}: activations set to {value or baseline}"


def strip(trace: TraceView, position: int | None) -> list[Shade]:
    """A run's tokens with the entropies of its clean pass."""
    return [
        Shade(text=token.text, value=value, selected=token.position == position)
        for token, value in zip(trace.tokens, trace.clean.entropy, strict=True)
    ]


def candidates(trace: TraceView, position: int) -> list[Candidate]:
    """What may follow a token, by a run."""
    follows = trace.tokens[position + 1].id if position + 1 < len(trace.tokens) else None
    after = {token.id: token.prob for token in trace.intervened.top[position]} if trace.intervened else {}
    return [
        Candidate(text=token.text, follows=token.id == follows, clean=token.prob, intervened=after.get(token.id))
        for token in trace.clean.top[position]
    ]


def counted(n: int, what: str) -> str:
    """`1 neuron`, `2 neurons`."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are defined."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def table(columns: Mapping[str, str], rows: Iterable[View], about: str = "") -> dict[str, Any]:
    """Rows of a view as `Told` has them. columns: head -> the field, `d_entropy.total` among them."""
    found = [[_read(row.model_dump(), path) for path in columns.values()] for row in rows]
    if not found:
        return {}
    return {"heads": list(columns), "rows": found, **({"about": about} if about else {})}


def _read(row: object, path: str) -> str | float | None:
    for name in path.split("."):
        row = row.get(name) if isinstance(row, dict) else None
    assert row is None or isinstance(row, str | int | float)
    return row


def beside(told: Told, trace: TraceView) -> Told:
    """The same, with the strip and what follows the selected token where its answer has none of it itself."""
    at = told.position
    more: dict[str, Any] = {} if told.strip else {"strip": strip(trace, at)}
    if not told.candidates and at is not None and at < len(trace.tokens):
        more |= {"at": trace.tokens[at].text, "candidates": candidates(trace, at)}
    return told.model_copy(update=more)
