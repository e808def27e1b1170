"""Which two sides to compare."""

from pydantic import Field

from app.core.request import Strict
from app.core.weights_request import K, PageQuery
from app.core.wording import spelled

SIDE = r"^[^/@\x00-\x1f]{1,200}(@[0-9]{1,15})?$"
SIDE_WORDS = "a model, or model@tokens for a checkpoint of its training"


class Sides(Strict):
    """Two sides, each a model, or `model@tokens` for a checkpoint of its training."""

    a: str | None = Field(None, pattern=spelled(SIDE, SIDE_WORDS), description="null: the server's first model.")
    b: str | None = Field(None, pattern=spelled(SIDE, SIDE_WORDS), description="null: the next thing there is.")
    k: K = None


SIDE_WORDS = "a model, or model@tokens for a checkpoint of its training"


class SidesQuery(Sides):
    training: bool = Field(False, description="The entropy neurons of side a through its checkpoints, too.")


class CompareState(PageQuery, Sides):
    """The compare page."""
