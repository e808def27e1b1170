"""Requests about one neuron."""

from pydantic import Field

from app.core.place import AtToken
from app.core.request import Strict, Text
from app.core.weights_request import K, PageQuery, SweepChoice


class NeuronQuery(Strict):
    k: K = None
    sweep: SweepChoice = None


class NeuronState(PageQuery, NeuronQuery, AtToken):
    text: Text = Field("", description="A text to watch the neuron on; empty: the bundled sample.")
    at: str = Field(
        "", max_length=8, description="Where what drives it is followed back: a position of the text, or all."
    )
    patch: bool = Field(False, description="Whether every edge of that is checked by a patched pass.")
