"""One neuron by its weights, on the device thread."""

from analysis import nullspace, token_frequency, weights
from analysis.published import KNOWN
from analysis.types import NeuronId
from app.core import weights_rows
from app.core.null_space import null_space
from app.core.plain import number, series
from app.core.residency.atlas_context import AtlasSource
from app.core.residency.resident import Resident
from app.core.sample import SCATTERED_TOKENS
from app.neuron import view as views
from app.neuron.request import NeuronQuery
from app.neuron.summary import summary

NEAREST = 10


EFFECTS_SHOWN = 20


BINS = 60


def neuron(resident: Resident, query: NeuronQuery, *, neuron: str, on: AtlasSource) -> views.NeuronView:
    """Everything that the weights say about one neuron."""
    here, model = on.on(resident), resident.model
    which = model.check_neuron(NeuronId.parse(neuron))
    spectrum = here.atlas.spectrum
    k = spectrum.chosen(query.k)
    found = here.neurons(which.layer, k)
    row = model.write_rows(which.layer)[which.index]
    effect = weights.logit_effect(row, model.readout).double().cpu()
    of_known = model.readout.of_known(effect)
    edges, counts = weights.histogram(of_known, BINS)
    order = model.known[of_known.argsort(descending=True)]
    highest, lowest = order[:EFFECTS_SHOWN], order.flip(0)[:EFFECTS_SHOWN]
    around = [which.index - 1, which.index + 1]
    previous, following = (f"{which.layer}.{i}" if 0 <= i < model.d_mlp else None for i in around)
    view = views.NeuronView(
        neuron=str(which),
        layer=which.layer,
        index=which.index,
        n_layers=model.n_layers,
        d_mlp=model.d_mlp,
        previous=previous,
        next=following,
        weights=weights_rows.row(model, here.atlas, found, which.index),
        percentiles=found.below(which.index),
        known=KNOWN.get(model.key, {}).get(str(which)),
        k=k,
        knee=spectrum.knee,
        null_space=null_space(spectrum),
        chance=weights_rows.chance_view(here.chance(k)),
        singular_values=spectrum.S.tolist(),
        null_space_cosines=[value or 0.0 for value in series(nullspace.cosines(row, spectrum))],
        raised=weights_rows.effect_tokens(model, highest.tolist(), effect[highest].tolist()),
        lowered=weights_rows.effect_tokens(model, lowest.tolist(), effect[lowest].tolist()),
        effect_histogram=views.Histogram(edges=edges, counts=counts),
        effect_by_frequency=_by_frequency(resident, effect.tolist()),
        nearest_out=_nearest(model.write_rows(which.layer), which),
        nearest_in=_nearest(model.W_in(which.layer).T, which),
        evidence=weights_rows.evidence_source(here.findings),
        provenance=weights_rows.source(resident, k=k),
    )
    return view.model_copy(update={"sentence": summary(view)})


def _by_frequency(resident: Resident, effect: list[float]) -> list[tuple[float, float]] | None:
    if resident.unigram is None:
        return None
    ids = token_frequency.spread(resident.model.known, SCATTERED_TOKENS).tolist()
    logs = token_frequency.log_counts(resident.unigram).tolist()
    return [(logs[index], effect[index]) for index in ids]


def _nearest(rows: weights.Rows, which: NeuronId) -> list[views.Neighbour]:
    nearest = weights.nearest(rows, which.index, NEAREST)
    return [views.Neighbour(neuron=f"{which.layer}.{index}", cosine=number(cosine)) for index, cosine in nearest]
