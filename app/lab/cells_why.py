"""The cell of a notebook that takes a prediction apart again, with torch's own gradients; behind `cells.START`."""

# POSITION, TARGET, TOKEN, NODES, BASELINE, VALUE, PARTS, ROWS, SKIP, CENTRED and EPS come before it: what was split,
# and the rows whose mean streams are the baseline (of each, SKIP first tokens are left out). Gradients are torch's own.
WHY = """\
import numpy as np

LAST = bridge.cfg.n_layers - 1
NAMES = ["hook_embed", "blocks.0.hook_resid_pre", f"blocks.{LAST}.hook_resid_post"]
NAMES += [f"blocks.{layer}.{name}" for layer in range(LAST + 1) for name in ("attn.hook_z", "mlp.hook_post")]


def ran(row):
    with torch.inference_mode():
        _, seen = bridge.run_with_cache(torch.tensor([row]), names_filter=lambda name: name in NAMES)
    return {name: seen[name][0].flatten(1).double() for name in NAMES}


def written(projection, x):
    with torch.inference_mode():
        x = x.float()[None, None]
        return (projection(x) - projection(torch.zeros_like(x)))[0, 0].double()


def only(x, part):
    kept = torch.zeros_like(x)
    kept[part] = x[part]
    return kept


def writes(at):
    position = at["blocks.0.hook_resid_pre"] - at["hook_embed"]
    found = {"embed": at["hook_embed"], "pos": position}
    if "pos" not in WANTED:
        found = {"embed": at["blocks.0.hook_resid_pre"]}
    for layer in range(LAST + 1):
        block, z = bridge.blocks[layer], at[f"blocks.{layer}.attn.hook_z"]
        for head, part in enumerate(torch.arange(len(z)).chunk(bridge.cfg.n_heads)):
            found[f"L{layer}H{head}"] = written(block.attn.o, only(z, part))
        found[f"L{layer}.mlp"] = written(block.mlp.out, at[f"blocks.{layer}.mlp.hook_post"])
    found["bias"] = at[f"blocks.{LAST}.hook_resid_post"] - sum(found.values())
    singly = [name for name in WANTED if name.startswith(f"{LAST}.")]
    for name in singly:
        n = at[f"blocks.{LAST}.mlp.hook_post"]
        found[name] = written(bridge.blocks[LAST].mlp.out, only(n, int(name.split(".")[1])))
    if singly:
        found[f"rest of L{LAST}.mlp"] = found.pop(f"L{LAST}.mlp") - sum(found[name] for name in singly)
    return found


def unembedding():
    size = len(at["hook_embed"])
    vectors = torch.cat([torch.eye(size), torch.zeros(1, size)])
    with torch.inference_mode():
        logits = bridge.unembed(bridge.ln_final(vectors[None]))[0].double()
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
mean = {name: torch.cat([rows[name] for rows in kept]).mean(0) for name in NAMES}
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
