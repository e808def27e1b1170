"""Who tells the neuron? A last-layer neuron's pre-activation as a sum over what wrote to the residual stream.

With x the input of the MLP's norm, xc its centred form (LayerNorm), s its scale, g and beta the norm's gain and bias:

    pre = W_in[:, i] · (g xc / s + beta) + b_in = sum_c  c · centre(g W_in[:, i]) / s  +  (W_in[:, i] · beta + b_in)

where c runs over the embedding, every head's output, the attention's output bias and every earlier MLP. Exact with s as
it is at that position (frozen: what s itself owes to a component is not attributed). In a gated MLP it is the gate's
pre-activation. Architectures with a norm behind the attention or the MLP are refused: there a head does not add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.induction.sequences import Repeated
from analysis.induction.steps import batches
from analysis.metrics import wide
from analysis.model import Model
from analysis.progress import Steps
from analysis.types import InputError, NeuronId, UnsupportedModelError


@dataclass(frozen=True, slots=True)
class Attribution:
    """names: "embedding", "0.1" (head 1 of layer 0), "attn_bias 0", "mlp 0", ..., "bias".

    parts: contributions by component, row and position; they sum to ``pre`` over components.
    """

    neuron: NeuronId
    names: tuple[str, ...]
    parts: Float[Tensor, "component row pos"]
    pre: Float[Tensor, "row pos"]

    def change(self, repeated: Repeated) -> Float[Tensor, " component"]:
        """Mean over the second copy minus mean over the first: which component drives the neuron on the repeat."""
        second, first = self.parts[..., repeated.averaged(1)], self.parts[..., repeated.averaged(0)]
        return second.double().mean((1, 2)) - first.double().mean((1, 2))


def attribute(model: Model, tokens: Int[Tensor, "row pos"], neuron: NeuronId) -> Steps[Attribution]:
    """Attribute a last-layer neuron's pre-activation at every position of the rows."""
    _check(model, neuron)
    tokens = tokens.to(model.device)
    names = _hook_names(model)
    direction, constant = _reading(model, neuron)
    parts, pre = [], []
    for rows, progress in batches(model, tokens, "attribution"):
        captured = {name: wide(value) for name, value in model.run(tokens[rows], capture=names).items()}
        components = _components(model, captured, direction)
        scale = model.readout.scale(captured[_input_hook(model)])  # same norm kind and eps as the final norm
        values = torch.stack(list(components.values())) / scale
        parts.append(torch.cat([values, torch.full_like(values[:1], constant)]))
        pre.append(captured[f"blocks.{model.last_layer}.mlp.hook_pre"][:, :, neuron.index])
        yield progress
    return Attribution(neuron, (*components, "bias"), torch.cat(parts, dim=1), torch.cat(pre))


def _check(model: Model, neuron: NeuronId) -> None:
    if model.check_neuron(neuron).layer != model.last_layer:
        raise InputError(
            f"Neuron {neuron} is not in the last layer.",
            code="not_last_layer",
            hint=f"Attribution is offered for layer {model.last_layer}.",
        )
    if model.readout.post_norm is not None:
        raise UnsupportedModelError(
            f"{model.architecture} puts a norm behind attention and MLP: a head's output does not simply add up there.",
            hint="Use head ablation instead.",
        )


def _input_hook(model: Model) -> str:
    """The residual stream that the last MLP's norm reads: before the attention of that layer in parallel blocks."""
    return f"blocks.{model.last_layer}." + ("hook_resid_pre" if model.parallel else "hook_resid_mid")


def _attention_layers(model: Model) -> range:
    return range(model.n_layers - 1 if model.parallel else model.n_layers)


def _hook_names(model: Model) -> list[str]:
    last = f"blocks.{model.last_layer}"
    names = {"blocks.0.hook_resid_pre", _input_hook(model), f"{last}.mlp.hook_pre"}
    for layer in _attention_layers(model):
        names |= {f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_attn_out"}
    return sorted(names | {f"blocks.{layer}.hook_mlp_out" for layer in range(model.last_layer)})


def _reading(model: Model, neuron: NeuronId) -> tuple[Float[Tensor, " d_model"], float]:
    """What the neuron reads off the residual stream (before division by s), and its constant part."""
    weights = model.W_gate(neuron.layer)
    w = wide((model.W_in(neuron.layer) if weights is None else weights)[:, neuron.index])
    gain, bias = model.mlp_norm(neuron.layer)
    b_in = model.mlp_bias(neuron.layer, "b_in") if weights is None else None
    constant = 0.0 if bias is None else float(w @ wide(bias))
    constant += 0.0 if b_in is None else float(b_in[neuron.index])
    return model.readout.centre(w if gain is None else w * wide(gain)), constant


def _components(
    model: Model, captured: dict[str, Tensor], direction: Float[Tensor, " d_model"]
) -> dict[str, Float[Tensor, "row pos"]]:
    """Each component's output along ``direction``."""
    found = {"embedding": captured["blocks.0.hook_resid_pre"] @ direction}
    for layer in range(model.n_layers):
        if layer in _attention_layers(model):
            by_head = torch.einsum(
                "rphd,hd->hrp", captured[f"blocks.{layer}.attn.hook_z"], wide(model.W_O(layer)) @ direction
            )
            found |= {f"{layer}.{head}": by_head[head] for head in range(model.n_heads)}
            found[f"attn_bias {layer}"] = captured[f"blocks.{layer}.hook_attn_out"] @ direction - by_head.sum(0)
        if layer < model.last_layer:
            found[f"mlp {layer}"] = captured[f"blocks.{layer}.hook_mlp_out"] @ direction
    return found
