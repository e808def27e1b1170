"""A prompt page, or a run alone, as it is told to somebody who opens a link or a file."""

from app.core import told
from app.core.format import num
from app.core.request import TraceRequest
from app.core.told import Candidate, Told
from app.core.view import TraceView
from app.prompt.view import PromptView


def of_page(view: PromptView, _: object = None) -> Told:
    """Strip, distribution and neurons of a page, and what holds at the selected token."""
    here, table = view.selected, view.effects
    return Told(
        caption=told.sentence(view.says) if view.says else "",
        interventions=[told.words(each) for each in view.chips if each.active and not each.problem],
        strip=told.strip(view.trace, here.position if here else None) if view.trace else [],
        position=here.position if here else None,
        at=here.token.text if here else "",
        candidates=[
            Candidate(text=row.text, follows=row.is_next, clean=row.clean, intervened=row.intervened)
            for row in (here.rows if here else ())
        ],
        **told.table(told.EFFECT_COLUMNS, table.rows if table else ()),
    )


def of_trace(view: TraceView, asked: TraceRequest) -> Told:
    """The strip of a run, what was done in it, and what came of it."""
    done = told.in_words(asked.interventions, asked.ln_scale)
    return Told(caption=_change(view), interventions=done, strip=told.strip(view, None))


def _change(view: TraceView) -> str:
    """The mean entropy of a run, and of the one beside it."""
    clean = told.mean(view.clean.entropy)
    if clean is None:
        return ""
    text = f"Over {len(view.tokens)} tokens the mean entropy is {num(clean, 2)} nats"
    after = told.mean(view.intervened.entropy) if view.intervened else None
    return f"{text}, {num(after, 2)} with what was changed." if after is not None else f"{text}."
