"""The null-space page, on the device thread: the spectrum, rho of every neuron, what else lives there, a test walk."""

from collections.abc import Collection

from analysis import nullspace_study
from analysis.nullspace import Spectrum
from app.atlas import answer as answers
from app.atlas import view as views
from app.atlas.request import NullspaceQuery, NullspaceState, WalkRequest
from app.core import to_view as core_to_view
from app.core import weights_rows
from app.core.answer import clean_trace, position_in, prompt_ids, provenance
from app.core.null_space import null_space
from app.core.plain import number, series
from app.core.prices import of_k
from app.core.question import priced
from app.core.residency.atlas_context import AtlasSource
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident
from app.core.sample import sample_prompt

STEPS = 25
SAMPLE_TOKENS = 64
"""Tokens of the sample that the page's own walk takes."""


@priced(lambda on, state, *more: of_k(state))
def page(
    resident: Resident, on: AtlasSource, state: NullspaceState, parts: Collection[str], models: list[str]
) -> views.NullspaceView:
    """The page without what runs the model. `parts`: "others" (heads and embeddings) where the answer shows them."""
    here, model = on.on(resident), resident.model
    query = NullspaceQuery(k=state.k, vocab_centred=state.vocab_centred, layer=state.layer)
    spectrum = answers.spectrum(resident, query, on=on)
    layer = here.layer(state.layer)
    rho = here.rho(layer, spectrum.k, state.vocab_centred)
    chosen, others = here.spectrum(state.vocab_centred), "others" in parts
    return views.NullspaceView(
        model=model.key,
        models=models,
        state=state.model_dump(),
        spectrum=spectrum,
        layer=layer,
        rho=series(rho),
        neurons_above=int((rho > spectrum.chance.maximum).sum()),
        heads=_heads(resident, chosen, spectrum.k, state.vocab_centred) if others else None,
        embeddings=_others(resident, chosen, spectrum.k, state.vocab_centred) if others else {},
    )


def shares(resident: Resident, query: NullspaceQuery, *, on: AtlasSource) -> views.NullspaceShares:
    """The null space's share of neurons, heads and embeddings."""
    here = on.on(resident)
    spectrum = here.spectrum(query.vocab_centred)
    k = spectrum.chosen(query.k)
    layer, chance = here.layer(query.layer), here.chance(k)
    rho = here.rho(layer, k, query.vocab_centred)
    return views.NullspaceShares(
        k=k,
        null_space=null_space(spectrum),
        layer=layer,
        rho=series(rho),
        chance=weights_rows.chance_view(chance),
        neurons_above=int((rho > chance.maximum).sum()),
        heads=_heads(resident, spectrum, k, query.vocab_centred),
        embeddings=_others(resident, spectrum, k, query.vocab_centred),
        provenance=weights_rows.source(resident, k=k),
    )


HEAD_SHARES = Kind("head shares", "analysis.nullspace_study")
OTHER_SHARES = Kind("other shares", "analysis.nullspace_study")


def _heads(resident: Resident, spectrum: Spectrum, k: int, vocab_centred: bool) -> list[list[float | None]]:
    def made() -> list[list[float | None]]:
        shares = nullspace_study.head_shares(resident.model, spectrum, k)
        return [[number(share) for share in heads] for heads in shares]

    return resident.cached(HEAD_SHARES, (k, vocab_centred), made)


def _others(resident: Resident, spectrum: Spectrum, k: int, vocab_centred: bool) -> dict[str, float]:
    return resident.cached(
        OTHER_SHARES, (k, vocab_centred), lambda: nullspace_study.other_shares(resident.model, spectrum, k)
    )


WALK_EXAMPLE = Kind("walk example", "analysis.trace", "analysis.nullspace_study")


@priced()
def example(resident: Resident, on: AtlasSource, vocab_centred: bool) -> views.WalkView:
    """What the page shows where nothing is asked for: `walked_on_sample` as it is by itself, run once for all."""
    asked = NullspaceState(vocab_centred=vocab_centred)
    inputs = (vocab_centred, *_sample_ids(resident))
    return resident.cached(WALK_EXAMPLE, inputs, lambda: walked_on_sample(resident, on, asked))


@priced(2, "run")
def walked_on_sample(resident: Resident, on: AtlasSource, state: NullspaceState) -> views.WalkView:
    """`walked` for the beginning of the model's sample."""
    return walked(resident, state.walk(token_ids=_sample_ids(resident)), on=on)


def _sample_ids(resident: Resident) -> list[int]:
    return (sample_prompt(resident).token_ids or [])[:SAMPLE_TOKENS]


def walked(resident: Resident, request: WalkRequest, *, on: AtlasSource) -> views.WalkView:
    """The walk at one token of a prompt."""
    model, ids = resident.model, prompt_ids(resident, request)
    resident.admit(len(ids))
    position, run = position_in(request, ids), clean_trace(resident, ids)
    spectrum, x = on.on(resident).spectrum(request.vocab_centred), run.last.resid[position]
    tokens = core_to_view.tokens(model, ids)
    walk = nullspace_study.walk(model.readout, spectrum, x, request.direction, reach=request.reach, steps=STEPS)
    return views.WalkView(
        direction=walk.direction,
        singular_value=walk.singular_value,
        token=tokens[position],
        tokens=tokens,
        entropies=series(run.metrics.entropy),
        amount=walk.amount.tolist(),
        ln_scale=series(walk.ln_scale),
        entropy=series(walk.entropy),
        frozen_change=series(walk.frozen_change),
        top1_prob=series(walk.top1_prob),
        provenance=provenance("walk", resident, ids, request),
    )
