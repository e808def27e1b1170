"""A prompt page, or a run alone, as it is told to somebody who opens a link or a file."""

from app.core.chips import Chip, chip
from app.core.format import num
from app.core.interventions import write_intervention
from app.core.request import TraceRequest
from app.core.told import Candidate, Shade, Told
from app.core.view import TraceView
from app.prompt.view import PromptView, Says

COLUMNS = {
    "Neuron": "neuron",
    "Activation": "activation",
    "Δ entropy": "d_entropy.total",
    "through the logits": "d_entropy.direct",
    "through the LN scale": "d_entropy.ln_mediated",
    "Δ loss": "d_loss.total",
}


def of_page(view: PromptView, _: object = None) -> Told:
    """Strip, distribution and neurons of a page, and what holds at the selected token."""
    here, table = view.selected, view.effects
    return Told(
        caption=sentence(view.says) if view.says else "",
        interventions=[words(each) for each in view.chips if each.active and not each.problem],
        strip=_strip(view.trace, here.position if here else None) if view.trace else [],
        at=here.token.text if here else "",
        candidates=[
            Candidate(text=row.text, follows=row.is_next, clean=row.clean, intervened=row.intervened)
            for row in (here.rows if here else ())
        ],
        heads=list(COLUMNS) if table else [],
        rows=[[_read(row.model_dump(), path) for path in COLUMNS.values()] for row in (table.rows if table else ())],
    )


def of_trace(view: TraceView, asked: TraceRequest) -> Told:
    """The strip of a run, and what was done in it."""
    done = [words(chip(write_intervention(each))) for each in asked.interventions]
    return Told(interventions=done, strip=_strip(view, None))


def sentence(said: Says) -> str:
    """What holds at the selected token, in one sentence without marks of a page."""
    text = f"After “{said.token.strip() or said.token}” the entropy is {num(said.entropy, 2)} nats"
    if said.neuron is None or said.change is None:
        return text + "."
    way = "up" if said.change < 0 else "down"
    through = {"ln_scale": ", mostly through the LN scale", "logits": ", mostly through the logits", None: ""}
    return f"{text}; {said.neuron} holds it {way} by {num(abs(said.change), 2)}{through[said.through]}."


def words(done: Chip) -> str:
    """`3.62 × 4` as somebody says it: "3.62: its activation × 4"."""
    kind = "head" if done.head else "neuron"
    what = done.label if done.head else f"activation {done.label}".replace("activation clip", "activation clipped to")
    return f"{kind} {done.neuron}: {what}".replace("→", "set to")


def _strip(trace: TraceView, position: int | None) -> list[Shade]:
    return [
        Shade(text=token.text, value=value, selected=token.position == position)
        for token, value in zip(trace.tokens, trace.clean.entropy, strict=True)
    ]


def _read(row: object, path: str) -> str | float | None:
    for name in path.split("."):
        row = row.get(name) if isinstance(row, dict) else None
    assert row is None or isinstance(row, str | int | float)
    return row
