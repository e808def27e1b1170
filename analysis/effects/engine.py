"""What is computed once for a model so that every effect afterwards is elementwise work.

Ablating last-layer neuron i moves the logits along m_i = W_Uᵀ w_i (METHODS section 3), a vector that no text changes.
The engine keeps all of them when the memory budget allows and otherwise makes them in blocks when they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from analysis.frequency import Unigram
from analysis.kernels import Backend, BackendName, choose
from analysis.readout import Readout
from analysis.types import CapacityError

Neurons = slice | Tensor
"""Some last-layer neurons: a slice, or indices."""

BLOCK_BYTES = 16 << 20
"""Rows m worked on together: they stay in the last-level cache while several tokens use them."""

SINGLE_BLOCK_BYTES = 128 << 20
"""The same where one token reads every row once: fewer, longer calls."""

FEW_TOKENS = 1024
"""Vocabularies up to this size have their products with W_U in float64."""

WORKING_BYTES = 1 << 30
"""Held at once beside the rows m that are kept, at most: more memory keeps more rows and makes no larger blocks."""

DEFAULT_MEMORY = 2 << 30
"""Bytes an engine may use beside the model, unless told otherwise."""

GROUP = 48
"""Tokens with neighbouring ids of which sums over the vocabulary are known together (`analysis.effects.screen`)."""


def groups_of(x: Float[Tensor, "*rows d_vocab"]) -> Float[Tensor, "*rows group token"]:
    """The last axis in groups of `GROUP`, zeros behind the last token."""
    return pad(x, (0, -x.shape[-1] % GROUP)).reshape(*x.shape[:-1], -1, GROUP)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Engine:
    """A readout made ready for effects. Immutable; one for each resident model.

    rows: every m_i, or None where they do not fit. p_freq, direction: ``W_U`` times the unigram distribution and times
    the frequency direction (d_model,), in float64. row_squares, row_peaks: of the rows kept, sum of squares and largest
    magnitude over each group of tokens. memory_bytes: what rows and working arrays may take together.
    """

    readout: Readout
    unigram: Unigram | None
    backend: Backend
    memory_bytes: int
    rows: Float[Tensor, "d_mlp d_vocab"] | None
    p_freq: Float[Tensor, " d_model"] | None
    direction: Float[Tensor, " d_model"] | None
    row_squares: Float[Tensor, "d_mlp group"] | None = None
    row_peaks: Float[Tensor, "d_mlp group"] | None = None

    @classmethod
    def build(
        cls,
        readout: Readout,
        *,
        unigram: Unigram | None = None,
        memory_bytes: int = DEFAULT_MEMORY,
        backend: BackendName | Backend = "auto",
    ) -> Engine:
        """CapacityError when the budget is too small even for single blocks."""
        readout = _with_float64(readout)
        W_U = readout.W_U
        chosen = choose(backend, device=W_U.device) if isinstance(backend, str) else backend
        needed = 4 * readout.d_vocab * W_U.element_size() * 2
        if memory_bytes < needed:
            raise CapacityError(
                f"Effects need at least {needed:,} bytes beside the model, the budget is {memory_bytes:,}.",
                hint="Raise the memory budget of the effects.",
            )
        with torch.inference_mode():
            engine = cls(readout, unigram, chosen, memory_bytes, None, None, None)
            if unigram is not None:
                engine = replace(
                    engine, p_freq=_project(W_U, unigram.p_freq), direction=_project(W_U, unigram.direction)
                )
            if readout.d_mlp * readout.d_vocab * W_U.element_size() <= memory_bytes // 2:
                rows = engine.vocabulary_rows(slice(None))
                parts = [groups_of(part) for part in torch.split(rows, max(1, engine.rows_per_block(1)))]
                engine = replace(
                    engine,
                    rows=rows,
                    row_squares=torch.cat([torch.linalg.vecdot(part, part) for part in parts]),
                    row_peaks=torch.cat([torch.linalg.vector_norm(part, torch.inf, -1) for part in parts]),
                )
        return engine

    @property
    def bytes(self) -> int:
        """Memory held beside the model's readout."""
        kept = (self.rows, self.row_squares, self.row_peaks)
        return sum(part.numel() * part.element_size() for part in kept if part is not None)

    def directions(self, neurons: Neurons) -> Float[Tensor, "n d_model"]:
        """What the final norm sees of each neuron's unit activation (after the norm behind the MLP, less its scale)."""
        return self.seen(self.readout.W_out[neurons])

    def seen(self, write: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """The same for any write vectors."""
        post_norm = self.readout.post_norm
        return write if post_norm is None else self.readout.centre(post_norm.gain.to(write.dtype) * write)

    def vocabulary_rows(self, neurons: Neurons) -> Float[Tensor, "n d_vocab"]:
        """m of some neurons, kept or computed."""
        if self.rows is not None:
            return self.rows[neurons]
        return self.onto_vocabulary(self.directions(neurons)).to(self.readout.W_U)

    def onto_vocabulary(self, x: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_vocab"]:
        """x W_U in ``product_dtype``."""
        return x.to(self.readout.W_U.device, self.product_dtype) @ self.readout.W_U.to(self.product_dtype)

    @property
    def product_dtype(self) -> torch.dtype:
        """Of products with W_U: the readout's, but float64 where the vocabulary is small.

        The accuracy contract is relative to the largest logit. Among many tokens one is about as large as the terms of
        the products; among few all may cancel, and float32 products would carry the rounding of those terms.
        """
        W_U = self.readout.W_U
        return torch.float64 if W_U.shape[1] <= FEW_TOKENS else W_U.dtype

    def rows_per_block(self, n_positions: int) -> int:
        """Neurons whose rows are worked on together. A single position reads each row once: nothing to keep cached."""
        row_bytes = self.readout.d_vocab * self.readout.W_U.element_size()
        wanted = BLOCK_BYTES if n_positions > 1 else SINGLE_BLOCK_BYTES
        return max(1, min(wanted, self._working_bytes // 4) // row_bytes)

    @property
    def positions_per_chunk(self) -> int:
        """Positions whose vocabulary vectors are held at once: clean logits, one or two bases, probabilities."""
        vectors = 6 if self.readout.post_norm is None else 8
        return max(1, min(256, self._working_bytes // (vectors * self.readout.d_vocab * 8)))

    @property
    def _working_bytes(self) -> int:
        return min(self.memory_bytes - self.bytes, WORKING_BYTES)

    def without_layer_norm(self, scale: float) -> Engine:
        """The "no LayerNorm" switch: the same rows, the final scale a constant for every run (identity 8)."""
        return replace(self, readout=self.readout.with_constant_scale(scale))


def _project(W_U: Float[Tensor, "d_model d_vocab"], vector: Float[Tensor, " d_vocab"]) -> Float[Tensor, " d_model"]:
    """W_U times a vector in float64, a few rows at a time in one buffer: freed ones pile up in the allocator."""
    exact = vector.to(W_U.device, torch.float64)
    buffer = exact.new_empty(min(16, len(W_U)), W_U.shape[1])
    return torch.cat([buffer[: len(rows)].copy_(rows) @ exact for rows in torch.split(W_U, len(buffer))])


def _with_float64(readout: Readout) -> Readout:
    """The readout on a device that has float64: mps has none, so effects are computed on the processor there."""
    if readout.W_U.device.type != "mps":
        return readout
    moved = {name: getattr(readout, name).cpu() for name in ("W_U", "b_U", "W_out", "vocab_mean_W", "vocab_mean_b")}
    post_norm = readout.post_norm and replace(readout.post_norm, gain=readout.post_norm.gain.cpu())
    return replace(readout, **moved, post_norm=post_norm)
