"""Why is the model unsure here: the entropy of one prediction split over everything that wrote to the stream, exactly.

The last stream x is the sum of its components c, the baseline stream x0 of their means c0 over a text. Integrated
gradients (Sundararajan et al. 2017) along the straight line between them,

    IG_c = (c - c0) · ∫₀¹ ∇F(x0 + a (x - x0)) da,      sum over c of IG_c = F(x) - F(x0)      (completeness)

for F the entropy of the next token, the loss, or a token's log-probability. With g = dF/dz and z the logits,

    ∇F = (1/s) C W_U g   (direct: the LN scale held)   -   (g·(z - b_U)) xc / (d s²)   (through the LN scale),

C centring over d_model where the norm does: so every share is the sum of a direct part and one through the scale, and
what lies in the null space of W_U has no direct part. dH/dz_v = -p_v (log p_v + H). Where logits are capped, g is that
of the logits before the cap. Gauss-Legendre nodes, doubled until completeness holds. g·(z - b_U) is (W_U g)·xc / s, a
sum over d_model: so the parts of one node cancel along xc to the last digit, however long the stream is. x is the sum
of the components in float64, which the model's own stream is within its rounding. A path integral is no ablation:
`ablations` has the mean ablation of each component by a real pass, to stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import metrics
from analysis.components import Component, MeanWrites, rows_at_once, writes
from analysis.effects.clean import exact
from analysis.model import Hook, Model
from analysis.readout import Readout
from analysis.types import InputError
from analysis.written import Written, read

FEWEST, MOST = 16, 512
"""Nodes of the integral: where it begins, and where it is given up (the error is told either way)."""

COMPLETE = 1e-4
"""Nats: the nodes are doubled until the shares sum to the difference that well."""

ROWS = 256  # streams read out at once
PART = 1 << 13  # tokens of W_U widened at once
STEP = 32  # positions taken apart at once: a moment's work, which takes turns with others'


@dataclass(frozen=True, slots=True)
class Target:
    """What is taken apart: ``entropy``, ``loss`` (of the next token), or the log-probability of ``token_id``."""

    kind: str = "entropy"
    token_id: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("entropy", "loss", "log_prob") or (self.kind == "log_prob") != (self.token_id is not None):
            raise InputError(
                "The target is entropy, loss, or log_prob with a token_id.",
                code="target",
                hint='For example "entropy".',
            )


@dataclass(frozen=True, slots=True)
class Split:
    """One position taken apart, in nats, float64.

    value: F(x). baseline: F(x0). direct, through: one number a component; their sum over components is value - baseline
    up to ``error``. neuron_direct, neuron_through: the last MLP's own share split over its neurons. nodes: of the
    integral. gradient: its mean along the path, which a component's write is multiplied by.
    """

    position: int
    components: tuple[Component, ...]
    value: float
    baseline: float
    direct: Float[Tensor, " component"]
    through: Float[Tensor, " component"]
    neuron_direct: Float[Tensor, " d_mlp"]
    neuron_through: Float[Tensor, " d_mlp"]
    error: float
    nodes: int
    gradient: Float[Tensor, " d_model"]

    @property
    def total(self) -> Float[Tensor, " component"]:
        return self.direct + self.through

    @property
    def neuron_total(self) -> Float[Tensor, " d_mlp"]:
        return self.neuron_direct + self.neuron_through


@torch.inference_mode()
def value_at(model: Model, stream: Float[Tensor, " d_model"], target: Target, token_id: int | None) -> float:
    """F at a stream: of a baseline, without any integral. token_id: the one that F speaks of, None for entropy."""
    followed = torch.tensor([token_id or 0], device=model.device)
    return float(_values(model.readout, stream[None], target, followed)[0])


@torch.inference_mode()
def decompose(
    model: Model,
    text: Written | Sequence[int],
    positions: Sequence[int],
    *,
    baseline: MeanWrites | None = None,
    target: Target | None = None,
    complete: float = COMPLETE,
    readout: Readout | None = None,
) -> Iterator[Split]:
    """Each of ``positions``, in their order, without another pass where ``text`` has been `read`.

    baseline: means over a reference text; None takes the means over this prompt. complete: the completeness error in
    nats that is aimed at; whatever is reached is in the result. readout: another than the model's own, such as one
    whose LN scale is held: then nothing acts through it.
    """
    target, readout = target or Target(), readout or model.readout
    run = text if isinstance(text, Written) else read(model, text)
    check(model, run.token_ids, positions, target)
    means = baseline or run.means
    rows = exact(model.write_rows(model.last_layer))
    followed = _targets(run.token_ids, positions, target, model.device)
    step = min(STEP, metrics.positions_per_chunk(readout.d_vocab))
    for start in range(0, len(positions), step):
        at = list(positions[start : start + step])
        with torch.inference_mode():  # a generator's caller may have left the block
            part = {name: value[at] for name, value in run.terms.items()}
            wrote = writes(model, part, positions=means.positions)
            integral = _integrate(readout, wrote.sum(0), means.stream, target, followed[start : start + step], complete)
            halves = torch.stack([integral.direct, integral.through], -1)
            shares = torch.einsum("cpd,pdh->pch", wrote - means.writes[:, None], halves)
            neurons = (part["neurons"] - means.neurons)[..., None] * (rows @ halves)
        for i, position in enumerate(at):
            value, base = float(integral.value[i]), float(integral.baseline[i])
            yield Split(
                position=position,
                components=means.components,
                value=value,
                baseline=base,
                direct=shares[i, :, 0],
                through=shares[i, :, 1],
                neuron_direct=neurons[i, :, 0],
                neuron_through=neurons[i, :, 1],
                error=float(shares[i].sum()) - (value - base),
                nodes=int(integral.nodes[i]),
                gradient=halves[i].sum(-1),
            )


@torch.inference_mode()
def ablations(
    model: Model,
    text: Written | Sequence[int],
    position: int,
    means: MeanWrites,
    *,
    target: Target | None = None,
    neurons: Sequence[int] = (),
    readout: Readout | None = None,
    hooks: Sequence[Hook] = (),
) -> Iterator[tuple[Component | int, float]]:
    """F(clean) - F(ablated) of every component and of last-layer ``neurons`` (by index), each by real passes.

    A component's write at ``position`` alone is replaced by its mean there, and all that follows runs anew, so what
    later components make of it is in the number (a share of `decompose` holds the component's own write only). Signed
    like a share: above zero, the component raises F here. The biases have none. hooks: those of the interventions that
    ``text`` was read under, which every pass is run under too. readout: as in `decompose`.
    """
    target, readout = target or Target(), readout or model.readout
    run = text if isinstance(text, Written) else read(model, text)
    token_ids = run.token_ids
    check(model, token_ids, [position], target)
    tokens = token_ids if hooks else token_ids[: position + 1]  # an intervention may be behind the position
    aim = _Aim(readout, target, _targets(token_ids, [position], target, model.device), position)
    at = {name: value[position] for name, value in run.terms.items()}
    change = means.writes - writes(model, at, positions=means.positions)
    site = f"blocks.{model.last_layer}.hook_mlp_out"
    plan: list[tuple[Component | int, str, Tensor]] = [
        (component, component.site, delta)
        for component, delta in zip(means.components, change, strict=True)
        if component.kind != "biases"
    ]
    rows = exact(model.write_rows(model.last_layer))
    plan += [(i, site, (means.neurons[i] - at["neurons"][i]) * rows[i]) for i in neurons]
    clean = _ablated(model, tokens, [], aim, hooks)[0]
    batch = rows_at_once(len(tokens))
    for start in range(0, len(plan), batch):
        part = plan[start : start + batch]
        with torch.inference_mode():
            values = _ablated(model, tokens, [(where, delta) for _, where, delta in part], aim, hooks)
        for (which, _, _), value in zip(part, values, strict=True):
            yield which, clean - value


@dataclass(frozen=True, slots=True)
class _Aim:
    """What is measured behind a pass: F at ``position``. followed: the token that it speaks of."""

    readout: Readout
    target: Target
    followed: Int[Tensor, " 1"]
    position: int


def _ablated(
    model: Model,
    tokens: Sequence[int],
    plan: Sequence[tuple[str, Float[Tensor, " d_model"]]],
    aim: _Aim,
    hooks: Sequence[Hook],
) -> list[float]:
    """F, one row of the batch an entry of ``plan`` (one row as it is without any)."""
    size = max(1, len(plan))

    def adds(row: int, delta: Tensor) -> Callable[[Tensor], Tensor]:
        def hook(value: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
            new = value.clone()
            new[row, aim.position] += delta.to(value)
            return new

        return hook

    last = f"blocks.{model.last_layer}.hook_resid_post"
    more = [(where, adds(row, delta)) for row, (where, delta) in enumerate(plan)]
    run = model.run(model.tokens(tokens).expand(size, -1), capture=[last], hooks=[*hooks, *more])
    values = _values(aim.readout, exact(run[last][:, aim.position]), aim.target, aim.followed.expand(size))
    return [float(value) for value in values]


@dataclass(frozen=True, slots=True)
class _Integral:
    """The mean gradients along the path, in two parts, and F at both ends."""

    direct: Float[Tensor, "pos d_model"]
    through: Float[Tensor, "pos d_model"]
    value: Float[Tensor, " pos"]
    baseline: Float[Tensor, " pos"]
    nodes: Int[Tensor, " pos"]


def _integrate(
    readout: Readout,
    x: Float[Tensor, "pos d_model"],
    x0: Float[Tensor, " d_model"],
    target: Target,
    followed: Int[Tensor, " pos"],
    complete: float,
) -> _Integral:
    """Nodes are doubled for the positions alone at which the sum does not hold yet. Where doubling once did not help,
    it is the rounding of a sum over the vocabulary that stands in the way: these go on in float64."""
    start = x0.expand_as(x)
    value = _values(readout, x, target, followed)
    baseline = _values(readout, start, target, followed)
    direct, through = torch.zeros_like(x), torch.zeros_like(x)
    nodes = torch.zeros(len(x), dtype=torch.long)
    left, count, narrow = torch.arange(len(x)), FEWEST, readout.W_U.dtype != torch.float64
    while len(left) and count <= MOST:
        in_float64 = not narrow and readout.W_U.dtype != torch.float64
        direct[left], through[left] = mean_gradient(
            readout, x[left], start[left], target, followed[left], count, in_float64=in_float64
        )
        nodes[left] = count
        sums = ((direct + through) * (x - start)).sum(-1)
        wrong = (sums - (value - baseline)).abs() >= complete
        left = left[wrong[left].cpu()]
        narrow, count = (False, count) if narrow and count > FEWEST else (narrow, 2 * count)
    return _Integral(direct, through, value, baseline, nodes)


def mean_gradient(
    readout: Readout,
    x: Float[Tensor, "pos d_model"],
    x0: Float[Tensor, "pos d_model"],
    target: Target,
    followed: Int[Tensor, " pos"],
    count: int,
    *,
    in_float64: bool = False,
) -> tuple[Float[Tensor, "pos d_model"], Float[Tensor, "pos d_model"]]:
    """∫ of the two parts of the gradient by ``count`` Gauss-Legendre nodes. Sums over d_model are in float64, those
    over the vocabulary in the readout's dtype or, ``in_float64``, in that too (a part of W_U widened at a time)."""
    nodes, weights = (torch.as_tensor(each).to(x) / 2 for each in np.polynomial.legendre.leggauss(count))
    direct, through = torch.zeros_like(x), torch.zeros_like(x)
    few = max(1, min(ROWS, metrics.positions_per_chunk(readout.d_vocab)) // len(x))
    for a, weight in zip(torch.split(nodes + 0.5, few), torch.split(weights, few), strict=True):
        xa = (x0 + a[:, None, None] * (x - x0)).flatten(0, 1)
        s = readout.scale(xa)[:, None]
        back = readout.centre(_back(readout, xa, target, followed.repeat(len(a)), in_float64=in_float64)) / s
        direct += torch.einsum("n,npd->pd", weight, back.reshape(len(a), *x.shape))
        if readout.fixed_scale is None:
            xc = readout.centre(xa)
            along = (back * xc).sum(-1, keepdim=True) * xc / (readout.d_model * s.square())
            through -= torch.einsum("n,npd->pd", weight, along.reshape(len(a), *x.shape))
    return direct, through


def _back(
    readout: Readout,
    x: Float[Tensor, "row d_model"],
    target: Target,
    followed: Int[Tensor, " row"],
    *,
    in_float64: bool,
) -> Float[Tensor, "row d_model"]:
    """W_U g, float64."""
    if not in_float64:
        z = readout.logits(_in(readout, x), capped=False)
        return exact(_slopes(readout, z, target, followed) @ readout.W_U.T)
    y = readout.centre(x) / readout.scale(x)[:, None]
    parts = torch.split(readout.W_U, PART, -1)
    z = torch.cat([y @ exact(part) for part in parts], -1) + exact(readout.b_U)
    back = torch.zeros_like(x)
    for g, part in zip(torch.split(_slopes(readout, z, target, followed), PART, -1), parts, strict=True):
        back += g @ exact(part).T
    return back


def _slopes(
    readout: Readout, z: Float[Tensor, "pos d_vocab"], target: Target, followed: Int[Tensor, " pos"]
) -> Float[Tensor, "pos d_vocab"]:
    """dF/dz from the logits before the cap, in their place; a few rows at a time, which stay in a core's cache."""
    few = max(1, metrics.CACHE_ELEMENTS // z.shape[-1])
    for rows, ids in zip(torch.split(z, few), torch.split(followed.to(z.device), few), strict=True):
        capped = readout.cap(rows)
        flat = None if readout.soft_cap is None else 1 - (capped / readout.soft_cap).square()
        log_p = torch.log_softmax(capped, -1)
        torch.exp(log_p, out=rows)
        if target.kind == "entropy":
            minus = torch.linalg.vecdot(rows, log_p)[:, None]
            rows.mul_(minus - log_p)
        else:
            sign = 1.0 if target.kind == "loss" else -1.0
            rows.mul_(sign).scatter_add_(-1, ids[:, None], torch.full_like(rows[:, :1], -sign))
        if flat is not None:
            rows.mul_(flat)
    return z


def _values(
    readout: Readout, x: Float[Tensor, "pos d_model"], target: Target, followed: Int[Tensor, " pos"]
) -> Float[Tensor, " pos"]:
    """F, float64."""
    few = max(1, metrics.CACHE_ELEMENTS // readout.d_vocab)
    parts = []
    for z, ids in zip(torch.split(readout.logits(_in(readout, x)), few), torch.split(followed, few), strict=True):
        log_p = exact(z).log_softmax(-1)
        if target.kind == "entropy":
            parts.append(metrics.entropy(log_p))
        else:
            parts.append(metrics.loss(log_p, ids.to(log_p.device)) * (1.0 if target.kind == "loss" else -1.0))
    return torch.cat(parts)


def _in(readout: Readout, x: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"]:
    """In the dtype that the vocabulary is worked in."""
    return x.to(readout.W_U)


def _targets(
    token_ids: Sequence[int], positions: Sequence[int], target: Target, device: torch.device
) -> Int[Tensor, " pos"]:
    """The token that F speaks of at each position (a placeholder for entropy)."""
    if target.kind == "loss":
        chosen = [token_ids[position + 1] for position in positions]
    else:
        chosen = [target.token_id or 0 for _ in positions]
    return torch.tensor(chosen, device=device)


def check(
    model: Model, token_ids: Sequence[int], positions: Sequence[int], target: Target, *, where: str = "the text"
) -> None:
    """InputError for what cannot be taken apart. where: the text, as the message names it."""
    length = len(token_ids) - (target.kind == "loss")
    if length < 1:
        raise InputError("The only token has no next token.", code="no_next_token", hint="Give a longer prompt.")
    for position in positions:
        if not 0 <= position < length:
            if position == length and target.kind == "loss":
                raise InputError(
                    f"Token {position} is the last one: it has no next token, so the prediction there has no loss.",
                    code="no_next_token",
                    hint=f"Choose a token from 0 to {length - 1}, or explain its entropy.",
                )
            raise InputError(
                f"Position {position} is not in {where}.",
                code="position_out_of_range",
                hint=f"Positions run from 0 to {length - 1}.",
            )
    if target.token_id is not None and not 0 <= target.token_id < model.readout.d_vocab:
        raise InputError(
            f"Token id {target.token_id} is outside the vocabulary.",
            code="unknown_token",
            hint=f"Ids run from 0 to {model.readout.d_vocab - 1}.",
        )
