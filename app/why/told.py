"""A prediction taken apart, as a link tells it."""

from app.core import told
from app.core.told import Told, quoted
from app.why.request import CircuitRequest, WhyCompareRequest, WhyRequest, WhyTextRequest
from app.why.view import CircuitView, EdgeView, WhyCompareView, WhyTextView, WhyView, largest

PARTS = {"Component": "component", "Share": "total", "through the logits": "direct", "through the LN scale": "ln_scale"}
FIRST = 12  # rows that a link shows; the whole table stands below


def of_why(view: WhyView, asked: WhyRequest) -> Told:
    """Its sentence, the token that it is of, and its largest parts."""
    parts = sorted(largest(view.parts, FIRST), key=lambda part: -abs(part.total))
    return Told(
        caption=f"At token {view.clean.position} “{quoted(view.clean.token.text)}”: {view.sentence}",
        interventions=told.in_words(asked.interventions, asked.ln_scale),
        position=view.clean.position,
        **told.table(PARTS, parts, "What made it so, in nats"),
    )


def of_text(view: WhyTextView, asked: WhyTextRequest) -> Told:
    return Told(caption=view.sentence, interventions=told.in_words(asked.interventions, asked.ln_scale))


def of_compared(view: WhyCompareView, _: WhyCompareRequest) -> Told:
    parts = sorted(largest(view.parts, FIRST), key=lambda part: -abs(part.total))
    here, there = (quoted(where.token.text) for where in (view.here, view.there))
    return Told(
        caption=f"After “{here}” beside after “{there}”: {view.sentence}",
        position=view.here.position,
        **told.table(PARTS, parts, "What makes the difference, in nats"),
    )


def of_circuit(view: CircuitView, _: CircuitRequest) -> Told:
    def token(at: int | None) -> str:
        return "" if at is None else f"{at} “{quoted(view.tokens[at].text)}”"

    def ends(edge: EdgeView) -> list[str]:
        source, target = view.nodes[edge.source], view.nodes[edge.target]
        into = target.component + (f", reading {token(target.source)}" if target.source is not None else "")
        return [source.component, token(source.position), token(source.source), into]

    rows = [[*ends(edge), edge.share, edge.patched] for edge in view.edges[:FIRST]]
    return Told(
        caption=view.sentence,
        position=view.position,
        about="The largest edges",
        heads=["From", "at", "reading", "into", "brings", "by a patched pass"] if rows else [],
        rows=rows,
    )
