"""The story's numbers for the model that is served, on the device's thread; its neurons come from the labels."""

import math
from functools import cache
from pathlib import Path

from analysis import metrics, story
from analysis import trace as tracing
from analysis.registry import BUNDLED_FOLDER
from app.core import to_view, weights_rows
from app.core.answer import fitting, prompt_ids
from app.core.request import PromptRequest
from app.core.residency.atlas_context import AtlasContext, AtlasSource
from app.core.residency.host import ModelHost
from app.core.residency.resident import Resident
from app.prompt.story_view import HeldScale, Scaled, StoryDial, StoryRequest, StoryView, Unread, WalkSeries

TEXT = "It was the best of times, it was the worst of times, it was the"
FACTORS = tuple(round(0.3 + 0.1 * i, 1) for i in range(23))
SCALES = tuple(0.6 * 1.06**i for i in range(29))  # times the scale as it is
VALUES = tuple(0.25 * i for i in range(25))
STEPS = 25
REACH = 3.0  # of the centred stream's length
TOP, POINTS, RANDOM, DRAWN = 5, 60, 20, 96
FILE = BUNDLED_FOLDER / "story.json"


def computed(resident: Resident, request: StoryRequest, *, on: AtlasSource) -> StoryView:
    """Every number of the five steps; `entropy` and `frequency` are None where no neuron carries the label."""
    model, here = resident.model, on.on(resident)
    text = fitting(resident, TEXT, None)
    ids = prompt_ids(resident, PromptRequest(text=text))
    resident.admit(len(ids))
    trace, readout = tracing.trace(model, ids), model.readout
    x = trace.last.resid
    first = 1 if ids[0] == model.bos_id else 0
    tokens = to_view.tokens(model, ids)
    entropy = story.scaled(readout, x[first:], FACTORS)
    spectrum = here.spectrum()
    return StoryView(
        model=model.key,
        text=text,
        scaled=Scaled(
            tokens=tokens[first:], factors=list(FACTORS), entropy=entropy.tolist(), log_vocab=math.log(model.d_vocab)
        ),
        held=_held(resident, trace),
        unread=_unread(resident, here, trace),
        entropy=_dial(resident, here, trace, _carrier(here, "entropy")),
        frequency=_dial(resident, here, trace, _carrier(here, "token-frequency")),
        rests_on=weights_rows.resting_on(here.findings),
        provenance=weights_rows.source(resident, k=spectrum.k),
    )


def _held(resident: Resident, trace: tracing.Trace) -> HeldScale:
    readout, model, x = resident.model.readout, resident.model, trace.last.resid[-1]
    now = float(readout.scale(x))
    scales = [now * factor for factor in SCALES]
    log_probs = story.held(readout, x, scales)
    top = readout.logits(x.unsqueeze(0)).topk(TOP).indices[0]
    probs = log_probs[:, top].exp()
    return HeldScale(
        scales=scales,
        now=now,
        tokens=model.token_texts(top.tolist()),
        probs=probs.tolist(),
        entropy=metrics.entropy(log_probs).tolist(),
        order_stays=bool((probs[:, :-1] >= probs[:, 1:]).all()),
    )


def _unread(resident: Resident, here: AtlasContext, trace: tracing.Trace) -> Unread:
    readout, spectrum, x = resident.model.readout, here.spectrum(), trace.last.resid[-1]
    far = REACH * float(readout.centre(x).norm())
    amounts = [far * i / (STEPS - 1) for i in range(STEPS)]
    null = spectrum.d_model - spectrum.k
    # The direction that it reads least, but for the one that centring takes away from the stream.
    least = spectrum.d_model - 1 - (spectrum.trivial and spectrum.k > 1)

    towards = readout.centre(x).double().cpu()

    def along(index: int) -> WalkSeries:
        walk = story.walk(readout, x, spectrum.direction(index, towards), float(spectrum.S[index]), amounts)
        return WalkSeries(
            singular_value=walk.singular_value, ln_scale=walk.ln_scale.tolist(), change=walk.change.tolist()
        )

    every = max(1, spectrum.d_model // DRAWN)
    drawn = [*range(0, spectrum.d_model - spectrum.k, every), *range(null, spectrum.d_model)]
    return Unread(
        k=spectrum.k,
        d_model=spectrum.d_model,
        spectrum=[float(spectrum.S[index]) for index in drawn],
        amounts=amounts,
        null=along(least),
        read=along(0),
    )


def _carrier(here: AtlasContext, label: str) -> int | None:
    """The last layer's neuron that carries the label and moves the entropy most in the sweep that speaks; without a
    sweep the one that writes longest."""
    columns = here.neurons(here.model.last_layer, here.spectrum().k)
    carriers = columns.carriers(label)
    other = set(columns.carriers("entropy")) if label != "entropy" else set()
    wanted = [index for index in carriers if index not in other] or carriers

    def size(index: int) -> tuple[float, float]:
        evidence = columns.evidence.get(columns.names[index])
        moved = getattr(evidence, "mean_abs_d_entropy", None)
        by = "norm" if label == "entropy" else "frequency_alignment"
        return (moved or 0.0) if label == "entropy" else 0.0, abs(float(columns.columns[by][index]))

    return max(wanted, key=size, default=None)


def _dial(resident: Resident, here: AtlasContext, trace: tracing.Trace, index: int | None) -> StoryDial | None:
    if index is None:
        return None
    model, unigram = resident.model, resident.unigram
    columns = here.neurons(model.last_layer, here.spectrum().k)
    dial = story.dial(model.readout, trace.last, len(trace) - 1, index, VALUES, unigram=unigram, n_random=RANDOM)
    assert dial.random_entropy is not None
    assert dial.random_ln_scale is not None
    assert dial.random_kept is not None
    drawn: dict[str, object] = {}
    if unigram is not None and dial.kl_unigram is not None:
        order = unigram.counts.argsort(descending=True)
        n = int((unigram.counts > 0).sum())
        ranks = sorted({int(n ** (i / (POINTS - 1))) - 1 for i in range(POINTS)} & set(range(len(order))))
        ids = order[ranks]
        drawn = {
            "kl_unigram": dial.kl_unigram.tolist(),
            "points": model.token_texts(ids.tolist()),
            "frequency": (unigram.log_p[ids] / math.log(10)).tolist(),
            "probability": (dial.log_probs[:, ids.to(dial.log_probs.device)] / math.log(10)).tolist(),
        }
    return StoryDial.model_validate(
        {
            "neuron": columns.names[index],
            "rho": float(columns.columns["rho"][index]),
            "values": list(VALUES),
            "now": dial.now,
            "entropy": dial.entropy.tolist(),
            "ln_scale": dial.ln_scale.tolist(),
            "kept": dial.kept.tolist(),
            "random_entropy": dict(zip(("low", "mean", "high"), story.band(dial.random_entropy).tolist(), strict=True)),
            "random_ln_scale": dict(
                zip(("low", "mean", "high"), story.band(dial.random_ln_scale).tolist(), strict=True)
            ),
            "random_kept": dial.random_kept.double().mean(0).tolist(),
            **drawn,
        }
    )


@cache
def recorded(file: Path = FILE) -> StoryView | None:
    """The bundled model's, computed beforehand. Reads the file, the first time."""
    return StoryView.model_validate_json(file.read_text("utf-8")) if file.is_file() else None


def at_home(host: ModelHost, key: str) -> StoryView | None:
    """The recorded one, where it is of the weights that are here; they count once they are known."""
    found, entry = recorded(), host.entries.get(key)
    if found is None or entry is None or entry.spec.folder != FILE.parent:
        return None
    known = entry.identity
    return found if known is None or known.weights_sha256 == found.provenance.weights_sha256 else None
