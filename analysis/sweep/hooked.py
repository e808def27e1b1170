"""Effects of neurons of earlier layers: a real forward pass with the neuron ablated at every position of the row.

The final residual stream of that pass goes through the readout once as it is (total), once with the clean LN scale
(direct) and once with the frequency component put back; the formulas are those of METHODS sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.effects import Condition, Outcome
from analysis.frequency import Unigram, freeze_frequency
from analysis.metrics import wide
from analysis.model import Model
from analysis.readout import Readout

BATCH = 4
"""Neurons in one forward pass, a row of the batch each."""


def ablated_streams(
    model: Model, row: Sequence[int], layer: int, which: Sequence[int], baseline: Float[Tensor, "pos n"]
) -> Iterator[tuple[int, Float[Tensor, "pos d_model"]]]:
    """(place in ``which``, last residual stream with that neuron ablated) for each neuron of an earlier layer."""
    post, resid = f"blocks.{layer}.mlp.hook_post", f"blocks.{model.last_layer}.hook_resid_post"
    tokens = model.tokens(row)
    for start in range(0, len(which), BATCH):
        places = list(range(start, min(start + BATCH, len(which))))

        def ablate(activations: Tensor, places: list[int] = places) -> Tensor:
            edited = activations.clone()
            for in_batch, place in enumerate(places):
                edited[in_batch, :, which[place]] = baseline[:, place].to(edited)
            return edited

        captured = model.run(tokens.expand(len(places), -1), capture=[resid], hooks=[(post, ablate)])
        yield from zip(places, wide(captured[resid]), strict=True)


def outcomes(
    readout: Readout,
    unigram: Unigram | None,
    clean: Float[Tensor, "pos d_model"],
    changed: Float[Tensor, "pos d_model"],
    targets: Int[Tensor, " pos"],
) -> dict[Condition, Outcome]:
    """What replacing the last residual stream does at each position; arrays are (pos, 1)."""
    chunk = metrics.positions_per_chunk(readout.d_vocab)
    parts = [
        _outcomes(readout, unigram, *(x[start : start + chunk] for x in (clean, changed, targets)))
        for start in range(0, len(targets), chunk)
    ]
    return {condition: _joined([part[condition] for part in parts]) for condition in parts[0]}


def _outcomes(
    readout: Readout, unigram: Unigram | None, clean: Tensor, changed: Tensor, targets: Tensor
) -> dict[Condition, Outcome]:
    z = readout.logits(clean)
    total = readout.logits(changed)
    logits: dict[Condition, Tensor] = {
        "total": total, "direct": readout.logits(changed, scale=readout.scale(clean))
    }  # fmt: skip
    if unigram is not None:
        logits["frequency"] = freeze_frequency(z, total, unigram.direction.to(z))
    return {condition: _outcome(z, moved, targets, unigram) for condition, moved in logits.items()}


def _outcome(z: Tensor, moved: Tensor, targets: Tensor, unigram: Unigram | None) -> Outcome:
    before, after = z.double().log_softmax(-1), moved.double().log_softmax(-1)
    change = (
        metrics.kl(unigram.log_p.to(after), after) - metrics.kl(unigram.log_p.to(after), before) if unigram else None
    )
    rank = 1 / (1 + metrics.rank(moved, targets).double()) - 1 / (1 + metrics.rank(z, targets).double())
    return Outcome(
        d_entropy=(metrics.entropy(after) - metrics.entropy(before))[:, None],
        d_loss=(metrics.loss(after, targets) - metrics.loss(before, targets))[:, None],
        kl=metrics.kl(before, after)[:, None],
        d_kl_unigram=None if change is None else change[:, None],
        top1_changes=(moved.argmax(-1) != z.argmax(-1))[:, None],
        d_reciprocal_rank=rank[:, None],
    )


def _joined(parts: list[Outcome]) -> Outcome:
    def join(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else torch.cat(found)

    return Outcome(**{name: join(name) for name in Outcome.__slots__})  # type: ignore[arg-type]
