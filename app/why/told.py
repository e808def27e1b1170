"""A prediction taken apart, as a link tells it."""

from app.core.escape import visible
from app.core.told import Told
from app.why.view import WhyView


def told(view: WhyView, _: object = None) -> Told:
    """Its sentence, and the token that it is of."""
    at = visible(view.clean.token.text)
    return Told(caption=f"At token {view.clean.position} “{at}”: {view.sentence}", at=view.clean.token.text)
