"""What questions and pages about the weights have in common: the null space's dimension, the sweep that speaks."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from app.core.request import PageFormat, Strict
from app.core.wording import spelled

K = Annotated[
    int | None, Field(ge=1, description="Dimension of the null space; null: the knee's, else 1 % of d_model.")
]


SweepChoice = Annotated[
    str | None,
    Field(
        pattern=spelled(r"^[A-Za-z0-9._-]{1,120}$", "the name of a sweep, or none"),
        description="The finished sweep whose evidence counts; `none`: no sweep; null: the largest that fits.",
    ),
]


class PageQuery(Strict):
    """What every page of the atlas understands."""

    model: str | None = None
    format: PageFormat = "html"

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """A form sends its empty fields too; they mean the default."""
        return {key: value for key, value in given.items() if value != ""} if isinstance(given, dict) else given
