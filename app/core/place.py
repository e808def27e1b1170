"""The token of a text that a page is about, chosen from a strip: its position, and in which text it was chosen."""

import hashlib
from typing import Self

from pydantic import BaseModel, Field


def named_text(model: str | None, text: str) -> str:
    """Names a model and a text without showing them: 16 hex digits."""
    return hashlib.sha256(f"{model}\n{text}".replace("\r\n", "\n").encode()).hexdigest()[:16]


class AtToken(BaseModel):
    """Fields of a form whose strip sends `pos`. A position means nothing in another text: see `placed`."""

    pos: str = Field("", max_length=8, description="The chosen token, by its position; empty: what the page takes.")
    chosen_in: str = Field("", max_length=16, description="Which model and text it was chosen in; another has none.")

    def placed(self, model: str | None, text: str, *others: str) -> Self:
        """Without the position, and the fields named in `others`, where it was chosen in another text."""
        if self.chosen_in in ("", named_text(model, text)):
            return self
        return self.model_copy(update=dict.fromkeys(("pos", *others), ""))
