"""Two models, or two moments of one training, on matched axes."""

from typing import Any

from pydantic import Field

from app.core.view import Series, View
from app.core.weights_view import NullSpace, Source


class Side(View):
    """The last layer of one model or checkpoint, and rho of every layer."""

    name: str = Field(description="Model key, or key@tokens for a checkpoint.")
    n_layers: int
    d_model: int
    k: int
    knee: int | None
    null_space: NullSpace
    chance: float = Field(description="Largest rho among as many random directions as the layer has neurons.")
    norm: Series
    logit_var: Series
    rho: Series
    labels: dict[str, list[str]] = Field(
        default_factory=dict, description="Of the neurons that carry one; a checkpoint's are not labelled."
    )
    singular_values: list[float]
    rho_by_layer: dict[str, dict[str, float | None]]
    provenance: Source = Field(description="Of the finished model, where the side is a checkpoint of it.")


class Moment(View):
    """One checkpoint: the last layer's tracked neurons and its extremes."""

    tokens: int | None = Field(description="null: the finished model.")
    knee: int | None
    null_space: NullSpace
    above_chance: int = Field(description="Neurons of the last layer with rho above the chance maximum.")
    largest_rho: float | None
    norm_over_median: dict[str, float | None]
    logit_var_over_median: dict[str, float | None]
    rho: dict[str, float | None]


class Training(View):
    """When the neurons that the finished model labels as entropy neurons appeared."""

    model: str
    k: int
    chance: float
    neurons: list[str]
    labels_rest_on: str = Field(description="The weights only, or the sweep beside them.")
    untrained: str | None = Field(description="What the checkpoint before any training says of the null space.")
    moments: list[Moment] = Field(description="By training tokens; the last is the model itself.")


class SidesView(View):
    model: str
    names: list[str] = Field(description="What can stand on either side.")
    state: dict[str, Any]
    sides: list[Side]
    has_checkpoints: bool = Field(description="Whether the left side's model has checkpoints beside it.")
    training: Training | None

    def csv_rows(self) -> list[dict[str, Any]]:
        return [
            {"side": side.name, "neuron": i, "norm": side.norm[i], "logit_var": side.logit_var[i], "rho": side.rho[i]}
            for side in self.sides
            for i in range(len(side.norm))
        ]
