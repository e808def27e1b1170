"""Do the chosen heads drive the chosen neurons? Ablated alone and together, against random heads (figure 5c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from analysis.attention import check_head
from analysis.induction.head_ablation import Local, ablated_at, clean_at, head_means, random_heads
from analysis.induction.measure import Measured
from analysis.induction.steps import part_of
from analysis.model import Model
from analysis.progress import Steps
from analysis.types import HeadId, HeadMode, InputError, NeuronId

Role = Literal["one", "all", "random_one", "random_all"]
N_RANDOM = 5


@dataclass(frozen=True, slots=True)
class Group:
    """Some heads ablated together. role: one of the chosen, all of them, or a random baseline of either size."""

    role: Role
    heads: tuple[HeadId, ...]
    found: Local


@dataclass(frozen=True, slots=True)
class HeadStudy:
    """clean and every group, read at the same queries of the same rows."""

    mode: HeadMode
    queries: tuple[int, ...]
    clean: Local
    groups: tuple[Group, ...]

    def change(self, group: Group, neuron: NeuronId) -> Float[Tensor, "row query"]:
        """Ablated minus clean activation."""
        return group.found.activations[neuron] - self.clean.activations[neuron]


def study_heads(
    model: Model,
    measured: Measured,
    queries: Sequence[int],
    heads: Sequence[HeadId],
    *,
    mode: HeadMode = "bos",
    n_random: int = N_RANDOM,
    seed: int = 0,
) -> Steps[HeadStudy]:
    """Each head, all together, and as many random heads and sets as asked for; neurons: ``measured.watched``."""
    neurons = tuple(measured.watched)
    planned = plan(model, heads, n_random=n_random, seed=seed)
    tokens: Int[Tensor, "row pos"] = measured.tokens.cpu()
    means = None
    if mode == "mean":
        layers = [head.layer for _, group in planned for head in group]
        means = yield from head_means(model, tokens, layers)
    groups = []
    for index, (role, group) in enumerate(planned):
        ablated = ablated_at(
            model, tokens, queries, group, neurons=neurons, mode=mode, means=means, stage="heads taken out"
        )
        found = yield from part_of(ablated, index, len(planned))
        groups.append(Group(role, group, found))
    return HeadStudy(mode, tuple(queries), clean_at(measured, queries), tuple(groups))


def plan(model: Model, heads: Sequence[HeadId], *, n_random: int, seed: int) -> list[tuple[Role, tuple[HeadId, ...]]]:
    """Which heads are ablated together, in what role."""
    chosen = sorted({check_head(model, head) for head in heads})
    if not chosen:
        raise InputError("No head is chosen.", code="no_heads", hint="Choose one on the map, for example 2.1.")
    groups: list[tuple[Role, tuple[HeadId, ...]]] = [("one", (head,)) for head in chosen]
    if n_random == 0:
        return groups if len(chosen) == 1 else [*groups, ("all", tuple(chosen))]
    singles = random_heads(model, chosen, size=1, n_sets=n_random, seed=seed)
    if len(chosen) == 1:
        return groups + [("random_one", drawn) for drawn in singles]
    groups.append(("all", tuple(chosen)))
    together = random_heads(model, chosen, size=len(chosen), n_sets=n_random, seed=seed + 1)
    return groups + [("random_one", drawn) for drawn in singles] + [("random_all", drawn) for drawn in together]
