"""Every last-layer neuron ablated at one token: the table behind a click."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.effects.ablation import Condition
from analysis.effects.clean import Clean
from analysis.effects.engine import Engine
from analysis.effects.outcome import Outcome
from analysis.effects.screen import largest
from analysis.effects.stream import Block, blocks, next_tokens, stream
from analysis.trace import LastLayer
from analysis.types import InputError, check_position


@dataclass(frozen=True, slots=True)
class Parts:
    """One metric's change and its parts (METHODS sections 3 and 18), nats, intervened minus clean.

    direct: with the scale of every norm frozen. mlp_norm: what comes through the scale of the norm behind the MLP (LN
    frozen - direct), None where there is no such norm. ln_mediated: through the final norm. The three sum to total.
    frequency_mediated = total - (total with the frequency component frozen), None without token counts.
    """

    total: Float[Tensor, " n"]
    direct: Float[Tensor, " n"]
    ln_only: Float[Tensor, " n"]
    frequency_mediated: Float[Tensor, " n"] | None
    mlp_norm: Float[Tensor, " n"] | None = None

    @classmethod
    def of(cls, changes: Mapping[Condition, Float[Tensor, " n"]]) -> Parts:
        """From the change under each condition."""
        total, ln_frozen = changes["total"], changes["direct"]
        direct = changes.get("frozen", ln_frozen)
        return cls(
            total,
            direct,
            changes["ln_only"],
            total - changes["frequency"] if "frequency" in changes else None,
            ln_frozen - direct if "frozen" in changes else None,
        )

    @property
    def ln_mediated(self) -> Float[Tensor, " n"]:
        ln_frozen = self.direct if self.mlp_norm is None else self.direct + self.mlp_norm
        return self.total - ln_frozen


def conditions_of(engine: Engine) -> tuple[Condition, ...]:
    """What `Parts` are made of."""
    behind: tuple[Condition, ...] = () if engine.readout.post_norm is None else ("frozen",)
    counted: tuple[Condition, ...] = () if engine.unigram is None else ("frequency",)
    return ("total", "direct", *behind, "ln_only", *counted)


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
    check_position(position, len(token_ids))
    if neurons is not None and not len(neurons):
        raise InputError("No neurons were named.", code="no_neurons")
    made = list(
        stream(
            engine,
            last,
            next_tokens(token_ids),
            baseline=baseline,
            positions=[position],
            neurons=neurons,
            conditions=conditions_of(engine),
            ranks=True,
        )
    )
    return _joined(made, position, last.activations[position], baseline, position + 1 < len(token_ids))


def strongest(engine: Engine, last: LastLayer, start: Clean, *, baseline: Float[Tensor, " d_mlp"], n: int) -> Effects:
    """The ``n`` rows of `effects` with the largest change of entropy, in falling order, at the one position of ``last``
    (its clean run is ``start``, with `at_log_p`), without a next token."""
    place = torch.tensor([0])

    def exactly(which: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        made = blocks(engine, last, start, place, which, baseline, ("total",), ranks=False)
        return torch.cat([block.outcomes["total"].d_entropy[0] for block in made])

    which = largest(engine, start, baseline - last.activations[0], min(n, engine.readout.d_mlp), exactly)
    made = list(blocks(engine, last, start, place, which, baseline, conditions_of(engine), ranks=True))
    return _joined(made, 0, last.activations[0], baseline, has_target=False)


def _joined(
    made: list[Block],
    position: int,
    activations: Float[Tensor, " d_mlp"],
    baseline: Float[Tensor, " d_mlp"],
    has_target: bool,
) -> Effects:
    clean, which = made[0].clean, torch.cat([block.neurons for block in made])

    def column(condition: Condition, read: Callable[[Outcome], Tensor | None]) -> Tensor:
        return torch.cat([part[0] for block in made if (part := read(block.outcomes[condition])) is not None])

    def parts(read: Callable[[Outcome], Tensor | None]) -> Parts:
        return Parts.of({condition: column(condition, read) for condition in made[0].outcomes})

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
        ln_scale_after=torch.cat([block.ln_scale_after[0] for block in made]),
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
