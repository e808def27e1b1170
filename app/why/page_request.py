"""The state of the Why page: one flat form, the same in an address (without the text) and in the body of a POST."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field

from analysis.types import InputError
from app.core.errors import RefusedFieldsError
from app.core.fields import holding
from app.core.interventions import requested
from app.core.place import AtToken, named_text
from app.why.request import MOST_TOKEN, BaselineText, CircuitRequest, WhyCompareRequest, WhyRequest, WhyTextRequest

# What somebody writes: shown again as it was written, however wrong.
TYPED = ("text", "token", "target", "baseline", "ablate", "along", "patch", "over")
OF_THE_BAR = ("do", "ln", "bos")
"""What is done to the pass: at hand, changed in the bar, and in no address of this page."""
PARTS = 10  # neurons listed singly

FIRST_TEXT = "The old man shook his head and said that he had never seen the like of it. The old man shook his head and"


class Drawing(BaseModel):
    """How an answer is drawn: what of the form is in no request."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    order: Literal["depth", "size"] = Field("depth", description="How the waterfall's parts follow each other.")
    by: Literal["halves", "kind", "component"] = Field("halves", description="What is stacked along the text.")
    lens: Literal["", "entropy", "loss", "kl_final", "top_prob"] = Field(
        "", description="What is drawn of the lens by layer; empty: nothing."
    )

    @property
    def ending(self) -> str:
        """Of an address."""
        changed = self.model_dump(exclude_defaults=True)
        return f"?{urlencode(changed)}" if changed else ""


class WhyState(Drawing, AtToken):
    """Field names are short because they stand in addresses. Numbers arrive as text and may be empty."""

    model: str | None = None
    text: str = FIRST_TEXT
    target: Literal["entropy", "loss", "log_prob"] = "entropy"
    token: str = Field("", max_length=MOST_TOKEN, description="For log_prob: the token, or its id; digits in quotes.")
    baseline: BaselineText = "reference"
    ablate: bool = False
    along: bool = Field(False, description="Whether the split of every token is shown.")
    scale: Literal["own", "frozen"] = Field("own", description="The LN scale that the lens reads with.")
    do: str = Field("", max_length=4000, description="What is done to the pass that is split, compactly.")
    ln: str = Field("", max_length=24, description="Empty: the model's norm; 'median' or a number: a constant scale.")
    bos: Literal["", "yes", "no"] = Field("", description="Prepend BOS; empty: what the model was trained with.")
    vs: str = Field(
        "",
        max_length=11,
        description="Another token of the text to compare it with; or undisturbed, pinned, pinned_end.",
    )
    follow: str = Field("", max_length=16, description="The component that is followed upstream.")
    followed_in: str = Field("", max_length=16, description="Which model it was chosen in; another has none of it.")
    patch: bool = Field(False, description="Whether its edges are checked by patched passes.")
    over: Literal["", "activation", "text"] = Field(
        "",
        description="What of it is followed: its share here, a neuron's activation here, or on average over the text.",
    )
    job: Literal["", "why", "why_text", "circuit"] = Field("", description="Which answer is asked for as a job.")
    table: Literal["parts", "along", "circuit", "compared", "lens"] = Field(
        "parts", description="Which one is given as CSV."
    )

    @classmethod
    def holding(cls, fields: Mapping[str, Any]) -> tuple[Self, RefusedFieldsError | None]:
        """The state of a form or an address as far as it holds, and why the rest does not."""
        given = {name: value for name, value in fields.items() if value != ""}
        state, refused = holding(cls, given)
        if state.followed_in not in ("", named_text(state.model, "")):
            state = state.model_copy(update={"follow": ""})
        return state.placed(state.model, state.text, "vs"), refused

    def drawing(self) -> Drawing:
        return Drawing(order=self.order, by=self.by, lens=self.lens)

    def plain(self) -> Self:
        """The same text, as it is first shown."""
        return type(self)(model=self.model, text=self.text)

    def query(self) -> dict[str, str]:
        """What stands in the address: everything but the text that is not at its default."""
        changed = self.model_dump(
            exclude={"text", "chosen_in", "followed_in", "job", *OF_THE_BAR}, exclude_defaults=True
        )
        return {name: str(value).lower() if value is True else value for name, value in changed.items()}

    def why(self) -> WhyRequest:
        """InputError where the fields make no request."""
        more = {"position": self.pos or None, "neurons": PARTS, "ablate": self.ablate}
        return requested(WhyRequest, **self._split(), **more)

    def whole(self) -> WhyTextRequest:
        return requested(WhyTextRequest, **self._split())

    def compared(self) -> WhyCompareRequest:
        """With the token of `vs` in the same pass, or with this one in the undisturbed pass."""
        split, position = self._split(), self.pos or None
        done = {"other_interventions": split["interventions"], "other_ln_scale": split["ln_scale"]}
        other = {"other_position": position} if self.vs == "undisturbed" else {"other_position": self.vs, **done}
        return requested(WhyCompareRequest, **split, **other, position=position, neurons=PARTS)

    def beside(self, text: str, position: int | None, done: Sequence[str], ln: str) -> WhyCompareRequest:
        """With a token of another text's pass, and what is done there."""
        other = {"other_text": text, "other_position": position, "other_interventions": list(done)}
        other |= {"other_ln_scale": ln or None}
        more = {"position": self.pos or None, "neurons": PARTS}
        return requested(WhyCompareRequest, **self._split(), **other, **more)

    def circuit(self) -> CircuitRequest:
        """Of what is followed: a neuron's activation where a token's log-probability is split, else the share."""
        whole = self.over == "text"
        activation = self.over != "" or self.target == "log_prob"
        more = {"of": "activation" if activation else self.target, "position": None if whole else self.pos or None}
        return requested(
            CircuitRequest,
            **self.prompt,
            component=self.follow,
            baseline=self.baseline,
            check=self.patch,
            average=whole,
            **more,
        )

    @property
    def prompt(self) -> dict[str, Any]:
        """The fields of every request about its text."""
        bos = {"": None, "yes": True, "no": False}[self.bos]
        return {"text": self.text.replace("\r\n", "\n"), "prepend_bos": bos}

    @property
    def disturbed(self) -> bool:
        """Whether something is done to the pass that is split."""
        return bool(self._done or self.ln)

    @property
    def _done(self) -> list[str]:
        return [item for item in self.do.split() if not item.startswith("!")]

    def _token(self) -> dict[str, Any]:
        """For log_prob alone: what stands in its field otherwise waits there. Digits are an id, in quotes a token."""
        if self.target != "log_prob":
            return {}
        if not self.token:
            raise InputError(
                "Which token's log-probability is to be explained?",
                code="token",
                hint="Type the token as it stands in the strip, such as ␣the, or its id, such as 262.",
            )
        if re.fullmatch("[0-9]{1,9}", self.token):
            return {"token_id": int(self.token)}
        return {"token": re.sub('^"(.+)"$', r"\1", self.token)}

    def _split(self) -> dict[str, Any]:
        done = {"interventions": self._done, "ln_scale": self.ln or None}
        return {**self.prompt, "target": self.target, "baseline": self.baseline, **self._token(), **done}
