"""The token-frequency page, on the device thread."""

import torch

from analysis import trace as tracing
from analysis.frequency import Unigram
from analysis.trace import Trace
from analysis.types import InputError, Intervention, NeuronId
from app.answers.atlas import Footing, Ground, sampled
from app.answers.core import prompt_ids, provenance
from app.answers.neuron import sample_rows
from app.present import atlas as atlas_shown
from app.present import core as shown
from app.present.plain import number, series
from app.requests.atlas import FrequencyQuery, FrequencyRequest, FrequencyState
from app.requests.core import PromptRequest
from app.residency.resident import Resident
from app.views import atlas as views

RANKS = 400
LISTED = 12
SAMPLE_TOKENS = 160
"""Tokens of the sample that the page takes where the reader gives no text."""


def page(resident: Resident, on: Footing, state: FrequencyState, models: list[str]) -> views.FrequencyPageView:
    unigram, found = resident.unigram, summary(resident, on, FrequencyQuery())
    run = None if unigram is None else _page_run(resident, state)
    neuron = state.neuron or (str(found.rows[0]["neuron"]) if found.rows else None)
    return views.FrequencyPageView(
        model=resident.model.key,
        models=models,
        state=state.model_dump() | {"neuron": neuron},
        summary=found,
        prompt=None if run is None else _prompt(resident, run),
        shift=None if run is None or unigram is None or neuron is None else _shift(resident, run, unigram, neuron),
    )


def summary(resident: Resident, on: Footing, query: FrequencyQuery) -> views.FrequencyView:
    """Token counts, how the neurons align with them, and what the bias alone predicts."""
    here, unigram = on(resident), resident.unigram
    table = here.atlas.table
    layers, last = range(resident.model.n_layers), resident.model.last_layer
    controls = here.atlas.controls.frequency_alignment
    return views.FrequencyView(
        source=None if unigram is None else unigram.source,
        n_counted=None if unigram is None else int(unigram.counts.sum()),
        entropy=None if unigram is None else unigram.entropy,
        alignment_quantiles={str(layer): atlas_shown.quantiles(table.frequency_alignment[layer]) for layer in layers},
        controls=atlas_shown.quantiles(controls),
        b_U=_b_U(resident),
        ranks=[] if unigram is None else _ranks(unigram),
        alignment={"neurons": series(table.frequency_alignment[last]), "controls": series(controls)},
        rows=[] if unigram is None else _most_aligned(here),
        bias=[] if unigram is None else _bias(resident, unigram),
        provenance=atlas_shown.source(resident),
    )


def _b_U(resident: Resident) -> dict[str, float | None]:
    """softmax(b_U): what the model predicts for a residual stream of zero."""
    b_U = resident.model.readout.cap(resident.model.readout.b_U).double().cpu()
    log_p = b_U.log_softmax(0)
    entropy = float(-(log_p.exp() * log_p).sum())
    unigram = resident.unigram
    if unigram is None:
        return {"entropy": entropy, "kl_unigram": None, "correlation": None, "cosine": None}
    centred = b_U - b_U.mean()
    cosine = (centred @ unigram.direction) / centred.norm() if float(centred.norm()) > 0 else float("nan")
    together = torch.corrcoef(torch.stack([log_p, unigram.log_p]))[0, 1]
    return {
        "entropy": entropy,
        "kl_unigram": float((unigram.p_freq * (unigram.log_p - log_p)).sum()),
        "correlation": number(together),
        "cosine": number(cosine),
    }


def on_prompt(resident: Resident, on: Footing, request: FrequencyRequest) -> views.FrequencyOnPrompt:
    """KL(P_freq ‖ P) over a prompt, and what one neuron does to it there."""
    unigram = resident.unigram
    if unigram is None:
        raise InputError(
            f"{resident.key} has no token counts.",
            code="no_counts",
            hint="Count a text with `nullscope count`, or serve a file of counts with --counts.",
        )
    run = _run(resident, prompt_ids(resident, request))
    neuron = request.neuron or str(_most_aligned(on(resident))[0]["neuron"])
    return views.FrequencyOnPrompt(
        prompt=_prompt(resident, run),
        shift=_shift(resident, run, unigram, neuron),
        provenance=provenance(
            "frequency", resident, list(run.token_ids), request, "zero" if resident.means is None else "mean"
        ),
    )


def _page_run(resident: Resident, state: FrequencyState) -> Trace:
    """On the reader's text, else on the beginning of the model's sample."""
    if state.text:
        return _run(resident, prompt_ids(resident, PromptRequest(text=state.text)))
    rows = sample_rows(resident)
    return _run(resident, (rows[0] if rows else [resident.model.bos_id or 0])[:SAMPLE_TOKENS])


def _run(resident: Resident, ids: list[int]) -> Trace:
    resident.admit(len(ids), rows=2)
    return tracing.trace(resident.model, ids, unigram=resident.unigram)


def _ranks(unigram: Unigram) -> list[tuple[int, float]]:
    """Probabilities by rank, at ranks evenly spaced on a log scale."""
    p = unigram.p_freq.sort(descending=True).values
    places = sorted({round(10 ** (x * torch.tensor(float(len(p))).log10().item() / RANKS)) for x in range(RANKS + 1)})
    return [(rank, float(p[rank - 1])) for rank in places if 1 <= rank <= len(p)]


def _most_aligned(here: Ground) -> list[dict[str, object]]:
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


def _bias(resident: Resident, unigram: Unigram) -> list[tuple[float, float]]:
    """log p_freq against log softmax(b_U), for a sample of tokens."""
    readout = resident.model.readout
    log_p = readout.cap(readout.b_U).double().cpu().log_softmax(0)
    which = sampled(resident.model.n_tokens)
    return list(zip(unigram.log_p[which].tolist(), log_p[which].tolist(), strict=True))


def _prompt(resident: Resident, run: Trace) -> views.PromptFrequency:
    found = run.metrics
    assert found.kl_unigram is not None
    skip = 1 if run.token_ids[0] == resident.model.bos_id else 0
    both = torch.stack([found.entropy, found.kl_unigram])[:, skip:]
    return views.PromptFrequency(
        tokens=shown.tokens(resident.model, list(run.token_ids)),
        entropy=series(found.entropy),
        kl_unigram=series(found.kl_unigram),
        correlation=number(torch.corrcoef(both)[0, 1]) if both.shape[1] > 2 else None,
    )


def _shift(resident: Resident, run: Trace, unigram: Unigram, name: str) -> views.TokenShift:
    """Ablate the neuron at the token where it stands out most, and look at every token's log-probability."""
    model, readout = resident.model, resident.model.readout
    neuron = model.check_neuron(NeuronId.parse(name))
    if neuron.layer != model.last_layer:
        raise InputError(
            f"Neuron {neuron} is not in the last layer.",
            code="not_last_layer",
            hint=f"Effects are exact for layer {model.last_layer}.",
        )
    means = resident.means
    activation = run.last.activations[:, neuron.index]
    base = 0.0 if means is None else float(means[neuron.layer, neuron.index])
    at = int((activation - base).abs()[1:].argmax()) + 1 if len(run) > 1 else 0
    ablate = Intervention(neuron, "value", base, positions=(at,))
    held = tracing.intervene(model, run, [ablate], unigram=unigram)
    before, after = (readout.log_probs(x.last.resid[at]).double().cpu() for x in (run, held))
    change, v = after - before, unigram.log_p - unigram.log_p.mean()
    which = sampled(model.n_tokens)
    kl = [x.metrics.kl_unigram for x in (run, held)]
    return views.TokenShift(
        neuron=name,
        token=shown.tokens(model, list(run.token_ids))[at],
        log_p_freq=unigram.log_p[which].tolist(),
        change=change[which].tolist(),
        slope=number((change - change.mean()) @ v / (v @ v)),
        d_kl_unigram=None if kl[0] is None or kl[1] is None else number(kl[1][at] - kl[0][at]),
    )
