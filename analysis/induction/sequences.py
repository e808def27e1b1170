"""Texts that repeat themselves (METHODS section 5).

The paper's synthetic set is BOS, 99 tokens of natural text and the same 99 tokens again (length 199). A model with a
shorter context gets a shorter unit; the result says so (`Repeated.length`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from analysis.induction.steps import seeded
from analysis.types import InputError

PAPER_LENGTH = 99
"""Tokens of one copy in the paper's synthetic set."""

SCORE_LENGTH = 100
"""Tokens of one copy where attention heads are scored."""

SHORTEST = 4

Units = Int[Tensor, "row length"]
"""One copy a row, as token ids."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """Rows [BOS] unit (separator unit)*: one unit a row, the same layout in all.

    tokens: (row, pos). first: position of the first copy's first token (1 with BOS, else 0). length: tokens of a copy.
    copies: how many. separator: tokens between two copies. changed: True where a later copy differs from the first.
    sinks: how many first positions means leave out (`analysis.sinks`).
    """

    tokens: Int[Tensor, "row pos"]
    first: int
    length: int
    copies: int
    separator: int
    changed: Bool[Tensor, "row pos"]
    sinks: int = 0

    @property
    def starts(self) -> list[int]:
        """The position at which each copy begins."""
        return [self.first + copy * (self.length + self.separator) for copy in range(self.copies)]

    def copy(self, index: int) -> slice:
        """The positions of one copy, counted from 0."""
        return slice(self.starts[index], self.starts[index] + self.length)

    def averaged(self, index: int) -> slice:
        """The positions of a copy over which means are taken: not the first token where that is a sink."""
        positions = self.copy(index)
        return slice(max(positions.start, self.sinks), positions.stop)

    @property
    def repeats(self) -> list[int]:
        """Positions of every copy after the first."""
        return [position for start in self.starts[1:] for position in range(start, start + self.length)]


def longest_unit(n_ctx: int, *, copies: int, separator: int, bos: bool) -> int:
    """How long a copy may be; InputError where nothing useful fits."""
    length = (n_ctx - bos - (copies - 1) * separator) // copies
    if length < SHORTEST:
        raise InputError(
            f"{copies} copies with a separator of {separator} tokens leave {max(length, 0)} tokens a copy in a context "
            f"of {n_ctx}.",
            code="repeat_too_long",
            hint="Fewer copies or a shorter separator.",
        )
    return length


def one_unit(token_ids: Sequence[int]) -> Units:
    """A single row."""
    return torch.tensor([list(token_ids)])


def natural_units(documents: Sequence[Sequence[int]], *, length: int, n_rows: int, seed: int) -> Units:
    """A seeded choice of ``n_rows`` windows of the documents that do not overlap; fewer where the text gives fewer."""
    windows = [
        document[start : start + length]
        for document in documents
        for start in range(0, len(document) - length + 1, length)
    ]
    if not windows:
        raise InputError(
            f"No document has {length} tokens.", code="text_too_short", hint="Take shorter copies or a longer text."
        )
    chosen = torch.randperm(len(windows), generator=seeded(seed))[:n_rows].tolist()
    return torch.tensor([windows[index] for index in chosen])


def random_units(
    known: Int[Tensor, " n_tokens"], *, excluded: Collection[int], length: int, n_rows: int, seed: int
) -> Units:
    """Uniformly random ids of the ``known``, none of them ``excluded``; all different within a row where the vocabulary
    allows it."""
    allowed = torch.tensor([index for index in known.tolist() if index not in excluded])
    generator = seeded(seed)
    if length > len(allowed):
        return allowed[torch.randint(len(allowed), (n_rows, length), generator=generator)]
    return torch.stack([allowed[torch.randperm(len(allowed), generator=generator)[:length]] for _ in range(n_rows)])


def repeat(units: Units, *, copies: int = 2, bos: int | None, separator: Sequence[int] = ()) -> Repeated:
    """Each unit ``copies`` times, BOS in front where the model has one, the separator between copies."""
    n_rows, length = units.shape
    between = torch.tensor(list(separator), dtype=units.dtype).expand(n_rows, -1)
    parts = [units]
    for _ in range(copies - 1):
        parts += [between, units]
    if bos is not None:
        parts.insert(0, torch.full((n_rows, 1), bos, dtype=units.dtype))
    tokens = torch.cat(parts, dim=1)
    return Repeated(
        tokens, int(bos is not None), length, copies, len(separator), torch.zeros_like(tokens, dtype=torch.bool)
    )


def corrupt(
    repeated: Repeated,
    *,
    known: Int[Tensor, " n_tokens"],
    excluded: Collection[int],
    seed: int,
    count: int = 1,
    offsets: Sequence[int] | None = None,
) -> Repeated:
    """Replace tokens of the second copy by random other ones of the ``known`` ids, in every row.

    offsets: which tokens of the copy, counted from 0; None: ``count`` of them, drawn for each row.
    """
    if offsets is not None and not all(0 <= offset < repeated.length for offset in offsets):
        raise InputError(
            f"A copy has {repeated.length} tokens; to change token {max(offsets, key=abs)} is impossible.",
            code="position_out_of_range",
            hint=f"Tokens of a copy count from 0 to {repeated.length - 1}.",
        )
    if offsets is None and count > repeated.length:
        raise InputError(
            f"A copy has {repeated.length} tokens; {count} of them cannot be changed.", code="position_out_of_range"
        )
    generator = seeded(seed)
    allowed = torch.tensor([index for index in known.tolist() if index not in excluded])
    tokens, changed = repeated.tokens.clone(), repeated.changed.clone()
    for row in range(len(tokens)):
        drawn = torch.randperm(repeated.length, generator=generator)[:count].tolist()
        for offset in drawn if offsets is None else offsets:
            position = repeated.starts[1] + offset
            others = allowed[allowed != tokens[row, position]]
            tokens[row, position] = others[torch.randint(len(others), (1,), generator=generator)].item()
            changed[row, position] = True
    return replace(repeated, tokens=tokens, changed=changed)
