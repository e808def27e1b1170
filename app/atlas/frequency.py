"""The token-frequency page, on the device thread."""

from analysis import token_frequency
from analysis.frequency import Unigram
from analysis.neuron_columns import quantiles
from analysis.token_frequency import BiasPrediction
from analysis.trace import Trace
from analysis.types import InputError, NeuronId
from app.atlas import view as views
from app.atlas.request import FrequencyQuery, FrequencyRequest, FrequencyState
from app.core import to_view, weights_rows
from app.core.answer import clean_trace, position_in, prompt_ids, provenance
from app.core.plain import number, series
from app.core.question import priced
from app.core.residency.atlas_context import AtlasContext, AtlasSource
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.core.sample import SCATTERED_TOKENS, sample_prompt

RANKS = 400
LISTED = 12
SAMPLE_TOKENS = 160
"""Tokens of the sample that the page takes where the reader gives no text."""


@priced()
def page(resident: Resident, on: AtlasSource, state: FrequencyState, models: list[str]) -> views.FrequencyPageView:
    """The page without what runs the model."""
    found = summary(resident, FrequencyQuery(), on=on)
    neuron = state.neuron or (str(found.rows[0]["neuron"]) if found.rows else None)
    return views.FrequencyPageView(
        model=resident.model.key, models=models, state=state.model_dump() | {"neuron": neuron}, summary=found
    )


def summary(resident: Resident, query: FrequencyQuery, *, on: AtlasSource) -> views.FrequencyView:
    """Token counts, how the neurons align with them, and what the bias alone predicts."""
    here, unigram = on.on(resident), resident.unigram
    table = here.atlas.table
    layers, last = range(resident.model.n_layers), resident.model.last_layer
    controls = here.atlas.controls.frequency_alignment
    bias = token_frequency.bias_prediction(resident.model.readout, unigram)
    return views.FrequencyView(
        source=None if unigram is None else unigram.source,
        n_counted=None if unigram is None else int(unigram.counts.sum()),
        entropy=None if unigram is None else unigram.entropy,
        alignment_quantiles={str(layer): quantiles(table.frequency_alignment[layer]) for layer in layers},
        controls=quantiles(controls),
        b_U=_bias_numbers(bias),
        ranks=[] if unigram is None else token_frequency.by_rank(unigram, RANKS),
        alignment={"neurons": series(table.frequency_alignment[last]), "controls": series(controls)},
        rows=[] if unigram is None else _most_aligned(here),
        bias=[] if unigram is None else _scatter(resident, unigram, bias),
        provenance=weights_rows.source(resident),
    )


def _bias_numbers(bias: BiasPrediction) -> dict[str, float | None]:
    numbers = {name: getattr(bias, name) for name in ("entropy", "kl_unigram", "correlation", "cosine")}
    return {name: None if value is None else number(value) for name, value in numbers.items()}


FREQUENCY_EXAMPLE = Kind("frequency example", "analysis.trace", "analysis.token_frequency")


@priced()
def example(resident: Resident, on: AtlasSource) -> views.FrequencyOnPrompt:
    """What the page shows where nothing is asked for: `on_sample` of the most aligned neuron, run once for all."""
    inputs = (resident.counts_sha256, resident.means_sha256, *_sample_ids(resident))
    return resident.cached(FREQUENCY_EXAMPLE, inputs, lambda: on_sample(resident, on, FrequencyState()))


@priced(4, "run")
def on_sample(resident: Resident, on: AtlasSource, state: FrequencyState) -> views.FrequencyOnPrompt:
    """`on_prompt` for the beginning of the model's sample."""
    return on_prompt(resident, state.asked(token_ids=_sample_ids(resident)), on=on)


def _sample_ids(resident: Resident) -> list[int]:
    return (sample_prompt(resident).token_ids or [])[:SAMPLE_TOKENS]


def on_prompt(resident: Resident, request: FrequencyRequest, *, on: AtlasSource) -> views.FrequencyOnPrompt:
    """KL(P_freq ‖ P) over a prompt, and what one neuron does to it there."""
    unigram = resident.unigram
    if unigram is None:
        raise InputError(
            f"{resident.key} has no token counts.",
            code="no_counts",
            hint="Count a text with `nullscope count`, or serve a file of counts with --counts.",
        )
    run = _run(resident, prompt_ids(resident, request))
    neuron = request.neuron or str(_most_aligned(on.on(resident))[0]["neuron"])
    at = None if request.position is None else position_in(request, run.token_ids)
    return views.FrequencyOnPrompt(
        prompt=_prompt(resident, run),
        shift=_shift(resident, run, unigram, neuron, at),
        provenance=provenance(
            "frequency", resident, list(run.token_ids), request, "zero" if resident.means is None else "mean"
        ),
    )


def _run(resident: Resident, ids: list[int]) -> Trace:
    resident.admit(len(ids), rows=2)
    return clean_trace(resident, ids)


def _most_aligned(here: AtlasContext) -> list[dict[str, object]]:
    """Of the last layer, either sign: name, alignment, norm, label, tokens at both ends."""
    last, table = here.model.last_layer, here.atlas.table
    found = here.neurons(last, here.atlas.spectrum.k)
    alignment = table.frequency_alignment[last].nan_to_num()
    carriers = set(found.carriers("token-frequency"))
    order = alignment.argsort(descending=True).tolist()
    picked = order[:LISTED] + order[::-1][:LISTED][::-1]
    return [
        {
            "neuron": f"{last}.{index}",
            "alignment": number(alignment[index]),
            "norm": number(table.norm[last, index]),
            "label": index in carriers,
            "raised": here.model.token_texts(table.raised[last, index].tolist()),
            "lowered": here.model.token_texts(table.lowered[last, index].tolist()),
        }
        for index in dict.fromkeys(picked)
    ]


def _scatter(resident: Resident, unigram: Unigram, bias: BiasPrediction) -> list[tuple[float, float]]:
    """log p_freq against log softmax(b_U), for a sample of tokens."""
    which = token_frequency.spread(resident.model.known, SCATTERED_TOKENS)
    return list(zip(unigram.log_p[which].tolist(), bias.log_p[which].tolist(), strict=True))


def _prompt(resident: Resident, run: Trace) -> views.PromptFrequency:
    metrics = run.metrics
    assert metrics.kl_unigram is not None
    skip = 1 if run.token_ids[0] == resident.model.bos_id else 0
    together = token_frequency.entropy_correlation(run, skip=skip)
    return views.PromptFrequency(
        tokens=to_view.tokens(resident.model, list(run.token_ids)),
        entropy=series(metrics.entropy),
        kl_unigram=series(metrics.kl_unigram),
        correlation=None if together is None else number(together),
    )


def _shift(resident: Resident, run: Trace, unigram: Unigram, name: str, at: int | None) -> views.TokenShift:
    """Ablate the neuron at a token, by default where it stands out most, and look at every token's log-probability."""
    model, means = resident.model, resident.means
    neuron = model.check_neuron(NeuronId.parse(name))
    if neuron.layer != model.last_layer:
        raise InputError(
            f"Neuron {neuron} is not in the last layer.",
            code="not_last_layer",
            hint=f"Effects are exact for layer {model.last_layer}.",
        )
    base = 0.0 if means is None else float(means[neuron.layer, neuron.index])
    shift = token_frequency.shift(model, run, unigram, neuron, base, at)
    which = token_frequency.spread(model.known, SCATTERED_TOKENS)
    return views.TokenShift(
        neuron=name,
        token=to_view.tokens(model, list(run.token_ids))[shift.position],
        log_p_freq=unigram.log_p[which].tolist(),
        change=shift.change[which].tolist(),
        slope=number(shift.slope),
        d_kl_unigram=number(shift.d_kl_unigram),
    )
