"""Muon for the matrices of the blocks, AdamW for everything else and for the last MLP; once settling, MatrixAdam for
the last MLP's output weights.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): momentum whose update is replaced by the
nearest matrix with orthonormal rows or columns, found by five Newton-Schulz iterations. It reaches a given loss in
about half the tokens here, but it pulls all neurons of a matrix to one norm; the last MLP, whose norms are the subject
of this project, is left to AdamW.
"""

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from training.model import GPT
from training.recipe import Rates, Recipe


@torch.no_grad()
def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Nearest (semi-)orthogonal matrix of each matrix in a batch, roughly: singular values land in about 0.7 to 1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay. `parts` splits a matrix by rows (3 for q, k,
    v)."""

    def __init__(self, groups: list[dict[str, object]], *, momentum: float) -> None:
        super().__init__(groups, {"momentum": momentum, "weight_decay": 0.0, "parts": 1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"])
                update = orthogonalise(update.view(group["parts"], -1, weight.shape[1]))
                gain = max(1.0, update.shape[1] / update.shape[2]) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.view_as(weight), alpha=-group["lr"] * gain)


class MatrixAdam(Optimizer):
    """Adam with one second moment for a whole matrix, and decoupled weight decay.

    A step keeps the proportions of the gradient: a neuron whose gradient is weak moves little, instead of by the rate.
    """

    def __init__(self, groups: list[dict[str, object]], *, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state |= {
                        "step": 0,
                        "mean": torch.zeros_like(weight),
                        "square": torch.zeros((), device=weight.device),
                    }
                state["step"] += 1
                state["mean"].lerp_(weight.grad, 1 - first)
                state["square"].lerp_(weight.grad.square().mean(), 1 - second)
                size = (state["square"] / (1 - second ** state["step"])).sqrt() + group["eps"]
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(state["mean"] / (1 - first ** state["step"]) / size, alpha=-group["lr"])


BETAS, EPS = (0.9, 0.97), 1e-8


def build_optimisers(model: GPT, rates: Rates, *, settling: bool) -> list[Optimizer]:
    """All parameters, each in one group; a group remembers its peak rate as `peak`."""
    last = model.blocks[-1]
    split = [block.qkv.weight for block in model.blocks]
    whole = [block.attn_out.weight for block in model.blocks]
    whole += [w for block in model.blocks[:-1] for w in (block.mlp_in.weight, block.mlp_out.weight)]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    muon = {"lr": rates.muon, "peak": rates.muon, "weight_decay": rates.muon_decay}
    adam = {"lr": rates.adam, "peak": rates.adam}
    last_mlp = {"lr": rates.last_mlp, "peak": rates.last_mlp}
    unembed_decay = rates.settle_unembed_decay if settling else rates.adam_decay
    in_decay = rates.settle_in_decay if settling else rates.last_mlp_decay
    last_out = {"params": [last.mlp_out.weight], **last_mlp}
    read_only = [] if model.shape.tied else [model.wte.weight]
    groups = [
        {"params": [*read_only, model.wpe.weight], "weight_decay": rates.adam_decay, **adam},
        {"params": [model.unembed], "weight_decay": unembed_decay, **adam},
        {"params": vectors, "weight_decay": 0.0, **adam},
        {"params": [last.mlp_in.weight], "weight_decay": in_decay, **last_mlp},
    ]
    optimisers: list[Optimizer] = [
        Muon([{"params": split, "parts": 3, **muon}, {"params": whole, **muon}], momentum=rates.muon_momentum)
    ]
    if settling:
        last_out["weight_decay"] = rates.settle_out_decay
        optimisers.append(MatrixAdam([last_out], betas=BETAS, eps=EPS))
    else:
        groups.append({"weight_decay": rates.last_mlp_decay, **last_out})
    return [*optimisers, AdamW(groups, betas=BETAS, eps=EPS, fused=True)]


def set_rates(optimisers: list[Optimizer], recipe: Recipe, step: int) -> None:
    """The learning rates of a step."""
    for group in (group for optimiser in optimisers for group in optimiser.param_groups):
        group["lr"] = group["peak"] * recipe.rate_factor(step)
