"""The state of the page on which the model writes: one flat form."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.core.errors import RefusedFieldsError
from app.core.fields import holding
from app.core.interventions import requested
from app.generate.request import GenerateRequest

# What somebody writes: shown again as it was written, however wrong.
TYPED = ("text", "n", "temperature", "top_k", "top_p", "seed", "stop", "turned")
FIRST_TEXT = "The old man shook his head and said that"


class WriteState(BaseModel):
    """Field names are short because they stand in addresses. Numbers arrive as text and may be empty."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = None
    text: str = FIRST_TEXT
    ids: str = Field(
        "",
        pattern=r"^([0-9]{1,9}(,[0-9]{1,9})*)?$",
        description="Token ids with commas: the text so far, in place of the text.",
    )
    n: int = Field(40, ge=1, le=2048, description="Tokens to write.")
    temperature: float = Field(0.8, ge=0, le=100)
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int = Field(0, ge=0, lt=2**63)
    stop: str = Field("", max_length=200, description="A text before which it ends.")
    turned: str = Field("", max_length=2000, description="Interventions, with spaces between.")

    @classmethod
    def holding(cls, fields: Mapping[str, Any]) -> tuple[Self, RefusedFieldsError | None]:
        """The state of a form or an address as far as it holds, and why the rest does not."""
        return holding(cls, {name: value for name, value in fields.items() if value != ""})

    def plain(self) -> Self:
        """The same text, as it is first shown."""
        return type(self)(model=self.model, text=self.text)

    def query(self) -> dict[str, str]:
        """What stands in the address: everything but the text that is not at its default."""
        changed = self.model_dump(exclude={"text", "ids"}, exclude_defaults=True)
        return {name: str(value) for name, value in changed.items()}

    def asked(self, *, top_neurons: int = 3) -> GenerateRequest:
        """InputError for what cannot be. top_neurons: 0 where the reference means are not there yet."""
        ids = {"token_ids": [int(item) for item in self.ids.split(",")]} if self.ids else {"text": self.text}
        return requested(
            GenerateRequest,
            **ids,
            max_new_tokens=self.n,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
            stop=[self.stop] if self.stop else [],
            interventions=self.turned.split(),
            top_neurons=top_neurons,
            alternatives=8,
        )
