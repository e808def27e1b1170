"""The GPT-2 architecture, small, with the last residual dimensions kept out of the unembedding.

Same function as Hugging Face's GPT2LMHeadModel without dropout at evaluation (a test compares their logits); written
here so that the forward pass can be fused, the loss can be computed in chunks, and weights have the layout that the
optimiser wants.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Size of the model; `slots`: that many residual dimensions (the last ones) never reach the logits, an offered null
    space; `tied`: one matrix embeds and unembeds."""

    d_vocab: int = 4096
    n_ctx: int = 256
    n_layers: int = 4
    n_heads: int = 4
    d_model: int = 192
    d_mlp: int = 768
    slots: int = 8
    tied: bool = False
    dropout: float = 0.0


class Block(nn.Module):
    """Pre-norm attention and MLP, as in GPT-2."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.d_model
        self.n_heads, self.dropout = shape.n_heads, shape.dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.attn_out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp_in, self.mlp_out = nn.Linear(d, shape.d_mlp), nn.Linear(shape.d_mlp, d)

    def attend(self, x: Tensor) -> Tensor:
        batch, pos, d = x.shape
        q, k, v = self.qkv(x).view(batch, pos, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.mT).float() * (d // self.n_heads) ** -0.5
        causal = torch.ones(pos, pos, dtype=torch.bool, device=x.device).tril()
        pattern = scores.masked_fill(~causal, float("-inf")).softmax(-1).to(v.dtype)
        return self.attn_out((pattern @ v).transpose(1, 2).reshape(batch, pos, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + F.dropout(self.attend(self.ln_1(x)), self.dropout, self.training)
        hidden = F.gelu(self.mlp_in(self.ln_2(x)), approximate="tanh")
        return x + F.dropout(self.mlp_out(hidden), self.dropout, self.training)


class GPT(nn.Module):
    """Token ids to the normalised last residual stream; `logits` reads it out."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.wte = nn.Embedding(shape.d_vocab, shape.d_model)
        self.wpe = nn.Embedding(shape.n_ctx, shape.d_model)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.ln_f = nn.LayerNorm(shape.d_model)
        self.unembed = self.wte.weight if shape.tied else nn.Parameter(torch.empty(shape.d_vocab, shape.d_model))
        self.initialise()

    def initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
                if name.endswith(("attn_out.weight", "mlp_out.weight")):
                    parameter.data /= (2 * self.shape.n_layers) ** 0.5
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        self.close_slots()

    @torch.no_grad()
    def close_slots(self) -> None:
        """Hold the unembedding of the slot dimensions at zero; called after every step."""
        if self.shape.slots:
            self.unembed[:, -self.shape.slots :] = 0

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        x = F.dropout(x, self.shape.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x)

    def logits(self, tokens: Tensor) -> Tensor:
        return self(tokens) @ self.unembed.T
