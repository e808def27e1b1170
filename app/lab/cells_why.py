"""The cells of a notebook that takes a prediction apart again: plain torch, its own gradients, and transformers."""

# MODEL and TOKENS come before it. Modules by their names in transformers; hooks on them give what the stream holds.
START = """\
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(
    MODEL, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
).eval()
MLP = ("mlp.c_proj", "mlp.down_proj", "mlp.dense_4h_to_h", "fc2")  # what neurons write through, by architecture
ATTENTION = ("attn.c_proj", "self_attn.o_proj", "attention.dense", "self_attn.dense", "self_attn.out_proj")
NORM = ("transformer.ln_f", "model.norm", "model.final_layernorm")
NORM += ("gpt_neox.final_layer_norm", "decoder.final_layer_norm")
mlps, heads, (norm,) = (
    [module for name, module in model.named_modules() if name.endswith(ends)] for ends in (MLP, ATTENTION, NORM)
)
blocks = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
LAST = len(blocks) - 1


def ran(row):
    seen = {}

    def keep(name, x):
        seen[name] = x.detach().reshape(-1, x.shape[-1]).double()

    def into(module, name):
        def hook(module, args, kwargs):
            keep(name, args[0] if args else kwargs["hidden_states"])

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    embed = model.get_input_embeddings()
    hooks = [embed.register_forward_hook(lambda module, args, out: keep("embed", out))]
    hooks += [into(blocks[0], "first"), into(norm, "last")]
    for layer in range(LAST + 1):
        hooks += [into(heads[layer], f"z.{layer}"), into(mlps[layer], f"neurons.{layer}")]
    with torch.inference_mode():
        model(torch.tensor([row]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen"""

# POSITION, TARGET, TOKEN, NODES, BASELINE, VALUE, PARTS, ROWS, SKIP, CENTRED and EPS come before it: what was split,
# and the rows whose mean streams are the baseline (of each, SKIP first tokens are left out). Gradients are torch's own.
WHY = """\
import numpy as np


def written(projection, x):
    with torch.inference_mode():
        x = x.float()[None, None]
        return (projection(x) - projection(torch.zeros_like(x)))[0, 0].double()


def only(x, part):
    kept = torch.zeros_like(x)
    kept[part] = x[part]
    return kept


def writes(at):
    found = {"embed": at["embed"], "pos": at["first"] - at["embed"]}
    if "pos" not in WANTED:
        found = {"embed": at["first"]}
    for layer in range(LAST + 1):
        z = at[f"z.{layer}"]
        for head, part in enumerate(torch.arange(len(z)).chunk(model.config.num_attention_heads)):
            found[f"L{layer}H{head}"] = written(heads[layer], only(z, part))
        found[f"L{layer}.mlp"] = written(mlps[layer], at[f"neurons.{layer}"])
    found["bias"] = at["last"] - sum(found.values())
    singly = [name for name in WANTED if name.startswith(f"{LAST}.")]
    for name in singly:
        found[name] = written(mlps[LAST], only(at[f"neurons.{LAST}"], int(name.split(".")[1])))
    if singly:
        found[f"rest of L{LAST}.mlp"] = found.pop(f"L{LAST}.mlp") - sum(found[name] for name in singly)
    return found


def unembedding():
    size = len(at["last"])
    vectors = torch.cat([torch.eye(size), torch.zeros(1, size)])
    with torch.inference_mode():
        logits = model.get_output_embeddings()(norm(vectors[None]))[0].double()
    scale = (centre(vectors[:-1]).double().square().mean(-1) + EPS).sqrt()
    return (logits[:-1] - logits[-1]) * scale[:, None], logits[-1]


def centre(x):
    return x - x.mean(-1, keepdim=True) if CENTRED else x


def value(x, s):
    log_p = (centre(x) / s @ W_U + b_U).log_softmax(-1)
    if TARGET == "entropy":
        return -(log_p.exp() * log_p).sum()
    return log_p[TOKEN] * (-1.0 if TARGET == "loss" else 1.0)


def scale_of(x):
    return (centre(x).square().mean(-1) + EPS).sqrt()


WANTED = [part["component"] for part in PARTS]
at = {name: rows[POSITION] for name, rows in ran(TOKENS).items()}
kept = [{name: rows[SKIP:] for name, rows in ran(row).items()} for row in ROWS]
mean = {name: torch.cat([rows[name] for rows in kept]).mean(0) for name in at}
here, there = writes(at), writes(mean)
W_U, b_U = (each.clone() for each in unembedding())
x, x0 = (torch.stack([*found.values()]).sum(0).clone() for found in (here, there))
direct, whole = torch.zeros_like(x), torch.zeros_like(x)
for node, weight in zip(*np.polynomial.legendre.leggauss(NODES)):
    on = (x0 + (node + 1) / 2 * (x - x0)).requires_grad_()
    whole += weight / 2 * torch.autograd.grad(value(on, scale_of(on)), on)[0]
    direct += weight / 2 * torch.autograd.grad(value(on, scale_of(on).detach()), on)[0]

assert abs(value(x, scale_of(x)).item() - VALUE) < 1e-3, value(x, scale_of(x))
assert abs(value(x0, scale_of(x0)).item() - BASELINE) < 1e-3, value(x0, scale_of(x0))
largest = max(abs(part["total"]) for part in PARTS)
for part in PARTS:
    away = here[part["component"]] - there[part["component"]]
    for name, gradient in (("total", whole), ("direct", direct)):
        found = (away @ gradient).item()
        assert abs(found - part[name]) < 1e-3 * (1 + largest), (part, found)
    print(f"{part['component']}: {(away @ whole).item():+.6f}, {(away @ direct).item():+.6f} of it in the logits")
print("the numbers agree")"""
