"""The readout: the map from the last residual stream to the logits, folded once and then pure arithmetic.

Everything the paper computes is a function of this map (arXiv 2406.16254, section 2; METHODS section 1):

1. the final norm's bias goes into ``b_U`` (``b_U + W_U_rawᵀ beta``), then its gain into ``W_U``
   (``diag(gamma) W_U_raw``); ``b_U`` is then in general not zero;
2. LayerNorm only: ``W_U`` and everything that writes to the residual stream are centred over d_model, so the all-ones
   direction is an exact null direction of ``W_U``;
3. ``W_U`` and ``b_U`` are centred over the vocabulary (softmax does not see it) unless the logits are capped;

    xc = x - mean(x) (LayerNorm) or x (RMSNorm);  s = sqrt(mean(xc²) + eps);  z = W_Uᵀ (xc / s) + b_U.

Post-norm architectures (Gemma 2/3, OLMo 2) normalise the MLP's output before it joins the residual stream, and Gemma 2
caps the logits, ``z -> cap tanh(z / cap)``. Both are part of the readout here; ``W_out`` then stays raw, since the
write direction depends on the activations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import linear

from analysis.types import InputError


@dataclass(frozen=True, slots=True)
class PostNorm:
    """The RMS norm between the last MLP and the residual stream: ``gain * u / sqrt(mean(u²) + eps)``."""

    gain: Float[Tensor, " d_model"]
    eps: float

    def scale(self, u: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        return (u.square().mean(-1) + self.eps).sqrt()

    def __call__(self, u: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.gain * u / self.scale(u).unsqueeze(-1)


@dataclass(frozen=True, slots=True)
class Readout:
    """The folded last layer. Immutable; float32 or wider whatever the model's dtype.

    W_U: (d_model, d_vocab), folded, centred as the flags say. b_U: (d_vocab,). W_out: (d_mlp, d_model), each row the
    write direction of a last-layer neuron (centred over d_model for LayerNorm; raw for post-norm models).
    vocab_mean_W, vocab_mean_b: what centring over the vocabulary took away. known: the ids that the tokenizer
    knows, ascending; the others are padding, behind them or between them. fixed_scale: the "no LayerNorm" switch, a
    constant in place of s.
    """

    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, " d_vocab"]
    W_out: Float[Tensor, "d_mlp d_model"]
    eps: float
    centred: bool
    vocab_centred: bool
    vocab_mean_W: Float[Tensor, " d_model"]
    vocab_mean_b: Float[Tensor, ""]
    known: Int[Tensor, " n_tokens"]
    soft_cap: float | None = None
    post_norm: PostNorm | None = None
    fixed_scale: float | None = None

    @property
    def d_model(self) -> int:
        return self.W_U.shape[0]

    @property
    def d_vocab(self) -> int:
        return self.W_U.shape[1]

    @property
    def d_mlp(self) -> int:
        return self.W_out.shape[0]

    @property
    def n_tokens(self) -> int:
        return len(self.known)

    def of_known(self, values: Shaped[Tensor, "*rows d_vocab"]) -> Shaped[Tensor, "*rows n_tokens"]:
        """The last axis without padding; a view where all padding lies behind the known ids."""
        if int(self.known[-1]) == self.n_tokens - 1:
            return values[..., : self.n_tokens]
        return values.index_select(-1, self.known.to(values.device))

    def centre(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """xc: centred over d_model for LayerNorm, itself for RMSNorm."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """The LN scale s of each residual vector (what ``ln_final.hook_scale`` shows)."""
        if self.fixed_scale is not None:
            return torch.full(x.shape[:-1], self.fixed_scale, dtype=x.dtype, device=x.device)
        return (self.centre(x).square().mean(-1) + self.eps).sqrt()

    def cap(self, z: Float[Tensor, "*batch d_vocab"]) -> Float[Tensor, "*batch d_vocab"]:
        """The logit soft cap, where the architecture has one."""
        return z if self.soft_cap is None else self.soft_cap * torch.tanh(z / self.soft_cap)

    def logits(
        self, x: Float[Tensor, "*batch d_model"], *, scale: Float[Tensor, "*batch"] | None = None, capped: bool = True
    ) -> Float[Tensor, "*batch d_vocab"]:
        """Logits of residual vectors; with ``scale`` the LN scale is frozen to the given values. Not ``capped``: those
        before the soft cap."""
        s = self.scale(x) if scale is None else scale
        z = linear(self.centre(x) / s.unsqueeze(-1), self.W_U.T, self.b_U)
        return self.cap(z) if capped else z

    def log_probs(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        return self.logits(x).log_softmax(-1)

    def write(
        self,
        resid: Float[Tensor, "pos d_model"],
        mlp_out: Float[Tensor, "pos d_model"] | None,
        delta: Float[Tensor, "pos n"],
        rows: Float[Tensor, "n d_model"],
    ) -> Float[Tensor, "pos d_model"]:
        """The residual stream after last-layer activations changed by ``delta`` (their write rows being ``rows``).

        Post-norm models need ``mlp_out``, the MLP's output before its norm.
        """
        change = delta @ rows
        if self.post_norm is None:
            return resid + change
        if mlp_out is None:
            raise InputError("A post-norm readout needs the MLP's output before its norm.")
        return resid + self.post_norm(mlp_out + change) - self.post_norm(mlp_out)

    def with_constant_scale(self, scale: float) -> Readout:
        """The "no LayerNorm" switch: s is ``scale`` everywhere, so total and direct effects coincide (identity 8)."""
        if not scale > 0:
            raise InputError(f"A constant LN scale must be positive, not {scale}.")
        return replace(self, fixed_scale=scale)

    def uncentred(self) -> Readout:
        """The same map without centring over the vocabulary; probabilities are unchanged."""
        if not self.vocab_centred:
            return self
        return replace(
            self,
            W_U=self.W_U + self.vocab_mean_W[:, None],
            b_U=self.b_U + self.vocab_mean_b,
            vocab_centred=False,
            vocab_mean_W=torch.zeros_like(self.vocab_mean_W),
            vocab_mean_b=torch.zeros_like(self.vocab_mean_b),
        )


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What loading verified, with the figures (METHODS section 1).

    logits_error: largest difference of log-probabilities between the Readout and the model's own. write_error: largest
    difference, relative to the largest entry, between the Readout's residual stream after changing last-layer
    activations and a real hooked pass. rounding: what the model's own logits lose to its dtype, which no tolerance can
    be below: eps times the largest logit (0.06 nats for a logit of 16 in bfloat16).
    """

    logits_error: float
    write_error: float
    tolerance: float
    rounding: float = 0.0

    @property
    def holds(self) -> bool:
        return self.logits_error <= max(self.tolerance, self.rounding) and self.write_error <= self.tolerance


def fold(
    *,
    W_U: Float[Tensor, "d_model d_vocab"],
    b_U: Float[Tensor, " d_vocab"] | None,
    W_out: Float[Tensor, "d_mlp d_model"],
    gain: Float[Tensor, " d_model"],
    bias: Float[Tensor, " d_model"] | None,
    eps: float,
    layer_norm: bool,
    known: Int[Tensor, " n_tokens"] | None = None,
    soft_cap: float | None = None,
    post_norm: PostNorm | None = None,
    centre_vocab: bool = True,
) -> Readout:
    """Fold raw weights into a Readout. Pure: the arguments are left as they are.

    gain is what multiplies the normalised vector: gamma, or 1 + gamma where the architecture stores an offset. known:
    ids of the tokenizer; None: all of them.
    """
    b = torch.zeros_like(W_U[0]) if b_U is None else b_U.clone()
    if bias is not None:
        b = b + bias @ W_U
    folded = gain[:, None] * W_U
    if layer_norm:
        folded = folded - folded.mean(0, keepdim=True)
    centre_vocab = centre_vocab and soft_cap is None
    mean_W, mean_b = folded.mean(1), b.mean()
    if centre_vocab:
        folded, b = folded - mean_W[:, None], b - mean_b
    else:
        mean_W, mean_b = torch.zeros_like(mean_W), torch.zeros_like(mean_b)
    centre_out = layer_norm and post_norm is None
    return Readout(
        W_U=folded.contiguous(),
        b_U=b,
        W_out=(W_out - W_out.mean(-1, keepdim=True) if centre_out else W_out).contiguous(),
        eps=eps,
        centred=layer_norm,
        vocab_centred=centre_vocab,
        vocab_mean_W=mean_W,
        vocab_mean_b=mean_b,
        known=torch.arange(W_U.shape[1]) if known is None else known,
        soft_cap=soft_cap,
        post_norm=post_norm,
    )
