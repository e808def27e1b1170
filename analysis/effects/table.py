"""Every last-layer neuron ablated at one token: the table behind a click."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.effects.ablation import Condition
from analysis.effects.engine import Engine
from analysis.effects.outcome import Outcome
from analysis.effects.stream import Block, next_tokens, stream
from analysis.trace import LastLayer
from analysis.types import InputError


@dataclass(frozen=True, slots=True)
class Parts:
    """One metric's change and its parts (METHODS section 3), nats, intervened minus clean.

    ln_mediated = total - direct; frequency_mediated = total - (total with the frequency component frozen), None without
    token counts.
    """

    total: Float[Tensor, " n"]
    direct: Float[Tensor, " n"]
    ln_only: Float[Tensor, " n"]
    frequency_mediated: Float[Tensor, " n"] | None

    @property
    def ln_mediated(self) -> Float[Tensor, " n"]:
        return self.total - self.direct


@dataclass(frozen=True, slots=True)
class CleanToken:
    """The clean run at the token. loss, rank: None at the last token; kl_unigram: None without counts."""

    entropy: float
    loss: float | None
    kl_unigram: float | None
    top1: int
    ln_scale: float


@dataclass(frozen=True, slots=True)
class Effects:
    """One row a neuron, aligned arrays. ``neurons`` are indices in the last layer.

    d_loss and d_reciprocal_rank are None at the last token of a text, d_kl_unigram without token counts.
    kl: KL(P ‖ P'), of the total effect.
    """

    position: int
    neurons: Int[Tensor, " n"]
    activation: Float[Tensor, " n"]
    baseline: Float[Tensor, " n"]
    d_entropy: Parts
    d_loss: Parts | None
    d_kl_unigram: Parts | None
    kl: Float[Tensor, " n"]
    ln_scale_before: float
    ln_scale_after: Float[Tensor, " n"]
    top1_changes: Bool[Tensor, " n"]
    d_reciprocal_rank: Float[Tensor, " n"] | None
    clean: CleanToken

    @property
    def delta(self) -> Float[Tensor, " n"]:
        """How far each activation is moved."""
        return self.baseline - self.activation


def effects(
    engine: Engine,
    last: LastLayer,
    token_ids: Sequence[int],
    position: int,
    *,
    baseline: Float[Tensor, " d_mlp"],
    neurons: Sequence[int] | None = None,
) -> Effects:
    """The exact effect of ablating each neuron (default: all of the last layer) at one token, measured there."""
    if not 0 <= position < len(token_ids):
        raise InputError(
            f"Position {position} is not in the text.",
            code="position_out_of_range",
            hint=f"Positions run from 0 to {len(token_ids) - 1}.",
        )
    if neurons is not None and not len(neurons):
        raise InputError("No neurons were named.", code="no_neurons")
    conditions: tuple[Condition, ...] = ("total", "direct", "ln_only")
    if engine.unigram is not None:
        conditions = (*conditions, "frequency")
    blocks = list(
        stream(
            engine,
            last,
            next_tokens(token_ids),
            baseline=baseline,
            positions=[position],
            neurons=neurons,
            conditions=conditions,
            ranks=True,
        )
    )
    return _joined(blocks, position, last.activations[position], baseline, position + 1 < len(token_ids))


def _joined(
    blocks: list[Block],
    position: int,
    activations: Float[Tensor, " d_mlp"],
    baseline: Float[Tensor, " d_mlp"],
    has_target: bool,
) -> Effects:
    clean, which = blocks[0].clean, torch.cat([block.neurons for block in blocks])

    def column(condition: Condition, read: Callable[[Outcome], Tensor | None]) -> Tensor:
        return torch.cat([part[0] for block in blocks if (part := read(block.outcomes[condition])) is not None])

    def parts(read: Callable[[Outcome], Tensor | None]) -> Parts:
        total = column("total", read)
        frozen = column("frequency", read) if "frequency" in blocks[0].outcomes else None
        mediated = None if frozen is None else total - frozen
        return Parts(total, column("direct", read), column("ln_only", read), mediated)

    return Effects(
        position=position,
        neurons=which,
        activation=activations[which],
        baseline=baseline[which],
        d_entropy=parts(lambda outcome: outcome.d_entropy),
        d_loss=parts(lambda outcome: outcome.d_loss) if has_target else None,
        d_kl_unigram=None if clean.kl_unigram is None else parts(lambda outcome: outcome.d_kl_unigram),
        kl=column("total", lambda outcome: outcome.kl),
        ln_scale_before=float(clean.s[0]),
        ln_scale_after=torch.cat([block.ln_scale_after[0] for block in blocks]),
        top1_changes=column("total", lambda outcome: outcome.top1_changes),
        d_reciprocal_rank=column("total", lambda outcome: outcome.d_reciprocal_rank) if has_target else None,
        clean=CleanToken(
            entropy=float(clean.entropy[0]),
            loss=float(clean.loss[0]) if has_target else None,
            kl_unigram=None if clean.kl_unigram is None else float(clean.kl_unigram[0]),
            top1=int(clean.top1[0]),
            ln_scale=float(clean.s[0]),
        ),
    )


def warm_up(engine: Engine) -> None:
    """Show the backend the tiles that tables and sweeps will bring: a compiled one starts compiling, and returns."""
    readout = engine.readout
    n = min(readout.d_mlp, engine.rows_per_block(1))
    resid = torch.linspace(-1, 1, readout.d_model).to(readout.W_U)[None]
    mlp_out = None if readout.post_norm is None else resid
    with torch.inference_mode():
        nothing = torch.zeros(1, readout.d_mlp).to(resid)
        last = LastLayer(resid, nothing, mlp_out)
        effects(engine, last, [0, 0], 0, baseline=nothing[0] + 0.1, neurons=range(n))
