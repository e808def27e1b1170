"""The most probable next token, clean and with sets of last-layer neurons ablated: how sure, and whether it is right.

A set moves the residual stream by ``delta @ rows``, so its logits are the clean ones with a few vocabulary vectors
added, one a neuron, and another scale:

    z = (W_Uᵀ x + sum_i delta_i W_Uᵀ w_i) / s' + b_U

W_Uᵀ x is computed once for all sets, W_Uᵀ w_i once for all tokens. Behind a post-norm g u / s(u) of the MLP's output u
the same holds with g w_i / s(u') in place of w_i, and W_Uᵀ (g u) (1 / s(u') - 1 / s(u)) beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from analysis.corpus import kept_positions
from analysis.metrics import CACHE_ELEMENTS, positions_per_chunk, wide
from analysis.model import Model
from analysis.readout import Readout
from analysis.types import TokenFilter

THROUGH_BYTES = 1 << 28
"""What the sets' vocabulary vectors may take; the logits of sets beyond it are computed from their residual streams."""


@dataclass(frozen=True, slots=True)
class NeuronSet:
    """Last-layer neurons ablated together, each to its own value. Empty: the clean model. rows: directions (n, d_model)
    that take the changes in place of the neurons' own (`analysis.controls`)."""

    name: str
    indices: tuple[int, ...]
    values: tuple[float, ...]
    rows: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Per kept token: confidence, whether the prediction was right, Brier score, loss, entropy."""

    confidence: ndarray
    correct: ndarray
    brier: ndarray
    loss: ndarray
    entropy: ndarray


class Predictions:
    """Of a model under some sets, a row of token ids at a time; float32 or wider."""

    def __init__(self, model: Model, sets: Sequence[NeuronSet], *, through_bytes: int = THROUGH_BYTES) -> None:
        self.model, self.sets = model, list(sets)
        readout = model.readout
        self._rows = [readout.W_out[list(each.indices)] if each.rows is None else each.rows for each in sets]
        last = f"blocks.{model.last_layer}"
        self._names = [f"{last}.hook_resid_post", f"{last}.mlp.hook_post"]
        self._names += [] if readout.post_norm is None else [f"{last}.mlp.hook_out"]
        self._through: list[Tensor | None] = []
        for rows in self._rows:
            through_bytes -= len(rows) * readout.d_vocab * readout.W_U.element_size()
            self._through.append(_through(readout, rows) if through_bytes >= 0 else None)

    @torch.inference_mode()
    def of_row(self, row: Sequence[int], token_filter: TokenFilter) -> list[Tokens]:
        """The kept tokens of a row under every set, in the order of the sets."""
        model = self.model
        ids = model.tokens(row)
        captured = model.run(ids, capture=self._names)
        kept = torch.from_numpy(kept_positions(list(row), token_filter, model.excluded_ids)).to(model.device)
        resid, activations, *out = (wide(captured[name][0])[kept] for name in self._names)
        targets = ids[0][kept + 1]
        # Made beforehand: small results kept one by one between large blocks that come and go leave the heap in pieces
        # of which none is large enough for the next block (gigabytes, with 30 sets and a vocabulary of 49,152).
        found = resid.new_empty(len(self.sets), len(fields(Tokens)), len(kept))
        for at in torch.split(torch.arange(len(kept)), positions_per_chunk(model.readout.d_vocab)):
            clean = _Clean.of(model.readout, resid[at], out[0][at] if out else None)
            for place in range(len(self.sets)):
                self._measure(clean, activations[at], targets[at], place, found[place, :, int(at[0]) : int(at[-1]) + 1])
        return [Tokens(*part) for part in found.double().cpu().numpy()]

    def _measure(
        self,
        clean: _Clean,
        activations: Float[Tensor, "pos d_mlp"],
        targets: Int[Tensor, " pos"],
        place: int,
        into: Float[Tensor, "field pos"],
    ) -> None:
        """The fields of `Tokens`: one pass over the logits, a few rows in cache at a time."""
        each, rows, through = self.sets[place], self._rows[place], self._through[place]
        readout = self.model.readout
        delta = activations.new_tensor(each.values) - activations[:, list(each.indices)]
        moved = readout.write(clean.resid, clean.out, delta, rows) if each.indices else clean.resid
        scale, inner = readout.scale(moved)[:, None], clean.inner(readout, delta, rows)
        for at in torch.split(torch.arange(len(targets)), max(1, CACHE_ELEMENTS // readout.d_vocab)):
            here = slice(int(at[0]), int(at[-1]) + 1)
            if through is None:
                z = readout.logits(moved[here])
            else:
                z = clean.base[here] / scale[here]
                if inner is not None and clean.normed is not None:
                    z.addcmul_(clean.normed[here], (1 / inner[here] - 1 / clean.scale[here]) / scale[here])
                by = delta[here] / (scale[here] if inner is None else scale[here] * inner[here])
                z = readout.cap(z.addmm_(by, through).add_(readout.b_U))
            for field, values in zip(into, _reduced(z, targets[here]), strict=True):
                field[here] = values


@dataclass(frozen=True, slots=True)
class _Clean:
    """Some positions before any set: their streams through W_U. Of a post-norm model also what the norm was given, its
    scale, and gain times it through W_U."""

    resid: Float[Tensor, "pos d_model"]
    out: Float[Tensor, "pos d_model"] | None
    base: Float[Tensor, "pos d_vocab"]
    scale: Tensor
    normed: Float[Tensor, "pos d_vocab"] | None

    @classmethod
    def of(cls, readout: Readout, resid: Tensor, out: Tensor | None) -> _Clean:
        base = readout.centre(resid) @ readout.W_U
        if readout.post_norm is None or out is None:
            return cls(resid, out, base, base.new_ones(len(base), 1), None)
        norm = readout.post_norm
        return cls(resid, out, base, norm.scale(out)[:, None], readout.centre(norm.gain * out) @ readout.W_U)

    def inner(self, readout: Readout, delta: Tensor, rows: Tensor) -> Float[Tensor, "pos 1"] | None:
        """The post-norm's scale after a change."""
        if readout.post_norm is None or self.out is None:
            return None
        return readout.post_norm.scale(self.out + delta @ rows)[:, None]


def _through(readout: Readout, rows: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_vocab"]:
    """What the logits change by along each of some directions, before the scales."""
    return readout.centre(rows if readout.post_norm is None else readout.post_norm.gain * rows) @ readout.W_U


def _reduced(z: Float[Tensor, "pos d_vocab"], target: Int[Tensor, " pos"]) -> tuple[Tensor, ...]:
    """With z shifted by its maximum, e = exp z and Z = sum e:  H = log Z - sum e z / Z,  Brier = sum e² / Z² - 2 P + 1.

    A token is right where none is more probable: its rank is 0. Changes ``z``.
    """
    top = z.amax(-1, keepdim=True)
    z = z.sub_(top)
    z_target = z.gather(1, target[:, None])[:, 0]
    e = z.exp()
    Z = e.sum(-1)
    brier = torch.linalg.vecdot(e, e) / Z**2 - 2 * z_target.exp() / Z + 1
    H = Z.log() - torch.linalg.vecdot(e, z) / Z
    return 1 / Z, z_target == 0, brier, Z.log() - z_target, H
