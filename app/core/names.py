"""How models, neurons and heads are named in what is answered; what is asked may be written otherwise (`grammar`)."""

from typing import Annotated

from pydantic import Field

from analysis.types import HEAD, NEURON
from app.core.wording import spelled

MODEL_PATTERN = r"[^/\x00-\x1f]{1,200}"  # a key, which may be the name of any folder
NEURON_PATTERN = f"^{NEURON}$"
NEURON_WORDS = "a neuron as layer.index, such as 3.17"
NeuronName = Annotated[
    str, Field(pattern=spelled(NEURON_PATTERN, NEURON_WORDS), description="layer.index", examples=["11.2378"])
]
HEAD_WORDS = "a head as layer.head, such as 5.1 or L5H1"
HeadName = Annotated[str, Field(pattern=spelled(f"^{HEAD}$", HEAD_WORDS), description="layer.head", examples=["5.1"])]
