"""What attention heads look at when a text repeats: induction scores and patterns (METHODS section 5).

On [BOS, r_1..r_n, r_1..r_n] of random ids, the mean attention from a query in the second copy to one key:

    induction   the token after the query's first occurrence (key = query - n + 1): what would come next
    duplicate   the query's first occurrence itself (key = query - n)
    previous    the token before (key = query - 1)
    first       position 0: the head does nothing
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.attention import check_head
from analysis.induction.sequences import SCORE_LENGTH, Repeated, longest_unit, random_units, repeat
from analysis.induction.steps import batches
from analysis.metrics import wide
from analysis.model import Model
from analysis.progress import Steps
from analysis.types import HeadId, InputError

INDUCTION_THRESHOLD = 0.7
KINDS = ("induction", "duplicate", "previous", "first")


@dataclass(frozen=True, slots=True)
class HeadScores:
    """Mean attention of each head from the repeat to one kind of key; one (layer, head) tensor for each of KINDS."""

    scores: dict[str, Float[Tensor, "layer head"]]
    length: int
    n_rows: int

    def induction_heads(self, threshold: float = INDUCTION_THRESHOLD) -> list[HeadId]:
        """Heads whose induction score is above the threshold, best first."""
        found = self.scores["induction"]
        above = [HeadId(*index) for index in (found > threshold).nonzero().tolist()]
        return sorted(above, key=lambda head: -float(found[head.layer, head.head]))


def score_rows(model: Model, *, n_rows: int = 8, seed: int = 0, length: int | None = None) -> Repeated:
    """Random ids twice, BOS in front: the rows heads are scored on. Shorter than the paper's where the context is."""
    bos = model.bos_id
    longest = longest_unit(model.n_ctx, copies=2, separator=0, bos=bos is not None)
    units = random_units(
        model.known,
        excluded=model.excluded_ids,
        length=min(length or SCORE_LENGTH, longest),
        n_rows=n_rows,
        seed=seed,
    )
    return repeat(units, bos=bos)


def head_scores(model: Model, repeated: Repeated) -> Steps[HeadScores]:
    """Score every head on rows that repeat once without separator."""
    if repeated.copies != 2 or repeated.separator:
        raise InputError("Heads are scored on two copies without separator.")
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    queries = torch.tensor(repeated.repeats)
    keys = {
        "induction": queries - repeated.length + 1,
        "duplicate": queries - repeated.length,
        "previous": queries - 1,
        "first": torch.zeros_like(queries),
    }
    total = {kind: torch.zeros(model.n_layers, model.n_heads, dtype=torch.float64) for kind in KINDS}
    tokens = repeated.tokens.to(model.device)
    for rows, progress in batches(model, tokens, "attention patterns"):
        captured = model.run(tokens[rows], capture=names)
        for layer, name in enumerate(names):
            pattern = wide(captured[name])
            for kind, key in keys.items():
                seen = pattern[:, :, queries, key].double().mean(-1).sum(0).cpu()
                total[kind] = total[kind].index_add(0, torch.tensor([layer]), seen[None])
        yield progress
    return HeadScores({kind: sums / len(tokens) for kind, sums in total.items()}, repeated.length, len(tokens))


def pattern(model: Model, tokens: Int[Tensor, " pos"], head: HeadId) -> Float[Tensor, "query key"]:
    """The attention pattern of one head on one text."""
    check_head(model, head)
    name = f"blocks.{head.layer}.attn.hook_pattern"
    captured = model.run(tokens[None].to(model.device), capture=[name])
    return wide(captured[name])[0, head.head]
