"""How models, neurons and heads are named in what is answered; what is asked may be written otherwise (`grammar`)."""

from typing import Annotated

from pydantic import Field

from analysis.types import HEAD, NEURON

MODEL_PATTERN = r"[^/\x00-\x1f]{1,200}"  # a key, which may be the name of any folder
NEURON_PATTERN = f"^{NEURON}$"
NeuronName = Annotated[str, Field(pattern=NEURON_PATTERN, description="layer.index", examples=["11.2378"])]
HeadName = Annotated[str, Field(pattern=f"^{HEAD}$", description="layer.head", examples=["5.1"])]
