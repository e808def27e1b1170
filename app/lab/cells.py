"""The code of a notebook's cells: plain torch and transformer_lens, and nothing of this program.

`START` and what follows it are source text; a cell is one of these behind the values that a result gives it.
"""

# How a model is named that anybody can have, and how one that lies in a folder of the server.
KNOWN = """\
import os

MODEL = os.environ.get("NULLSCOPE_MODEL", {model!r})"""
ASKED = """\
import os

MODEL = os.environ.get("NULLSCOPE_MODEL")
if not MODEL:
    raise SystemExit({sentence!r})"""

# MODEL, TOKENS and SCALE come before it.
START = """\
import torch
from transformers import AutoModelForCausalLM
from transformer_lens.model_bridge.sources import build_bridge_from_module

weights = AutoModelForCausalLM.from_pretrained(
    MODEL, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
).eval()
bridge = build_bridge_from_module(weights, type(weights).__name__, hf_config=weights.config)
tokens = torch.tensor([TOKENS])


def measure(hooks=()):
    if SCALE is not None:
        hooks = [*hooks, ("ln_final.hook_scale", lambda scale, hook: torch.full_like(scale, SCALE))]
    with torch.inference_mode():
        logits = bridge.run_with_hooks(tokens, fwd_hooks=list(hooks), return_type="logits")[0].float()
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    loss = -log_p[:-1].gather(-1, tokens[0, 1:, None])[:, 0]
    return entropy, loss


entropy, loss = measure()
print("entropy", entropy)"""

# EXPECTED, INTERVENTIONS and AFTER come before it.
TRACE = """\
torch.testing.assert_close(entropy, torch.tensor(EXPECTED["entropy"]), atol=1e-3, rtol=1e-3)
torch.testing.assert_close(loss, torch.tensor(EXPECTED["loss"]), atol=1e-3, rtol=1e-3)


def changed(n, item):
    if item["mode"] == "scale":
        return n * item["value"]
    if item["mode"] == "clip":
        return n.clamp(item["min"], item["max"])
    return torch.full_like(n, item["value"] if item["mode"] == "value" else 0.0)


def head_hook(layer, head, where, mode):
    name = f"blocks.{layer}.attn.hook_z"
    _, seen = bridge.run_with_cache(tokens, names_filter=lambda found: found == name)
    mean = seen[name].mean((0, 1))[head]

    def hook(z, hook):
        new = z.clone()
        new[:, where, head] = z[:, :1, head] if mode == "bos" else mean if mode == "mean" else 0.0
        return new

    return name, hook


def hook_of(item):
    layer, index = map(int, (item.get("head") or item["neuron"]).split("."))
    where = item["positions"]
    where = slice(None) if where is None else slice(where["start"], where["stop"]) if isinstance(where, dict) else where
    if "head" in item:
        return head_hook(layer, index, where, item["mode"])

    def hook(activations, hook):
        new = activations.clone()
        new[:, where, index] = changed(new[:, where, index], item)
        return new

    return f"blocks.{layer}.mlp.hook_post", hook


if INTERVENTIONS:
    after_entropy, after_loss = measure([hook_of(item) for item in INTERVENTIONS])
    torch.testing.assert_close(after_entropy, torch.tensor(AFTER), atol=1e-3, rtol=1e-3)
    print("change of entropy", after_entropy - entropy)
print("the numbers agree")"""

# RUNS comes before it: what the last layer's neurons are set to at a position, and what that changes there. A value of
# None is the neuron's mean over this prompt.
RUNS = """\
LAST = bridge.cfg.n_layers - 1
POST = f"blocks.{LAST}.mlp.hook_post"
_, clean = bridge.run_with_cache(tokens, names_filter=lambda name: name in (POST, "ln_final.hook_scale"))


def agree(found, expected, run):
    assert expected is None or abs(found.item() - expected) < 1e-3, (run, found)


for run in RUNS:
    at = run["position"]

    def ablate(activations, hook):
        new = activations.clone()
        for index, value in run["values"].items():
            new[:, at, index] = clean[POST][0, :, index].mean() if value is None else value
        return new

    def freeze(scale, hook):
        return clean["ln_final.hook_scale"]

    after_entropy, after_loss = measure([(POST, ablate)])
    direct_entropy, direct_loss = measure([(POST, ablate), ("ln_final.hook_scale", freeze)])
    agree((after_entropy - entropy)[at], run["d_entropy"], run)
    agree((direct_entropy - entropy)[at], run["direct_entropy"], run)
    if at < len(loss):
        agree((after_loss - loss)[at], run["d_loss"], run)
        agree((direct_loss - loss)[at], run["direct_loss"], run)
    print(f"{run['name']}: d_entropy {(after_entropy - entropy)[at]:+.6f}")
print("the numbers agree")"""

# POSITION, ROWS, NEURONS, TOTAL, EPS, K, CENTRED and VOCAB_CENTRED come before it: the ledger's rows and the readout's
# switches. What a component wrote is asked of its own output projection, and the unembedding of the final norm and
# `unembed` themselves, so nothing here knows how an architecture stores its weights.
LEDGER = """\
LAST = bridge.cfg.n_layers - 1
NAMES = ["blocks.0.hook_resid_pre", f"blocks.{LAST}.hook_resid_post", f"blocks.{LAST}.mlp.hook_post"]
NAMES += [f"blocks.{layer}.{name}" for layer in range(LAST + 1) for name in ("attn.hook_z", "mlp.hook_post")]
_, seen = bridge.run_with_cache(tokens, names_filter=lambda name: name in NAMES)
at = {name: value[0, POSITION] for name, value in seen.items()}
resid = at[f"blocks.{LAST}.hook_resid_post"].double()
d_model = len(resid)


def centre(x):
    return x - x.mean(-1, keepdim=True) if CENTRED else x


def written(projection, x):
    with torch.inference_mode():
        return (projection(x[None, None]) - projection(torch.zeros_like(x)[None, None]))[0, 0].double()


def only(x, part):
    kept = torch.zeros_like(x)
    kept[part] = x[part]
    return kept


def unembedding():
    vectors = torch.cat([torch.eye(d_model), torch.zeros(1, d_model)])
    with torch.inference_mode():
        logits = bridge.unembed(bridge.ln_final(vectors[None]))[0].double()
    scale = (centre(vectors[:-1]).double().square().mean(-1) + EPS).sqrt()
    W_U = (logits[:-1] - logits[-1]) * scale[:, None]
    return W_U - W_U.mean(-1, keepdim=True) if VOCAB_CENTRED else W_U


xc = centre(resid)
null = torch.linalg.svd(unembedding(), full_matrices=False).U[:, d_model - K :]
inside = null @ (null.T @ xc)
writes = {"embedding": at["blocks.0.hook_resid_pre"].double()}
for layer in range(LAST + 1):
    block, z = bridge.blocks[layer], at[f"blocks.{layer}.attn.hook_z"].flatten()
    for head, part in enumerate(torch.arange(len(z)).chunk(bridge.cfg.n_heads)):
        writes[f"L{layer}H{head}"] = written(block.attn.o, only(z, part))
    writes[f"MLP {layer}"] = written(block.mlp.out, at[f"blocks.{layer}.mlp.hook_post"])
writes["biases"] = resid - sum(writes.values())
for row in NEURONS:
    n = at[f"blocks.{LAST}.mlp.hook_post"]
    writes[row["component"]] = written(bridge.blocks[LAST].mlp.out, only(n, int(row["component"].split(".")[1])))

assert abs(xc.square().mean().item() + EPS - TOTAL) < 1e-3 * TOTAL
for row in ROWS + NEURONS:
    write = centre(writes[row["component"]])
    share, hidden = (write @ xc).item() / d_model, (write @ inside).item() / d_model
    assert abs(share - row["share"]) < 1e-3 * TOTAL, (row, share)
    assert abs(hidden - row["null"]) < 1e-3 * TOTAL, (row, hidden)
    print(f"{row['component']}: {share:+.6f} of {TOTAL:.6f}, {hidden:+.6f} of it in the null space")
print("the numbers agree")"""

# ROWS, CURVES, COPIES, RANKING, RULES and RATIOS come before it: every row's token ids, means over rows at each
# position, the (start, stop) of each copy, and the neurons that were clipped together.
INDUCTION = """\
LAST = bridge.cfg.n_layers - 1
POST, SCALE_HOOK = f"blocks.{LAST}.mlp.hook_post", "ln_final.hook_scale"


def measure_row(row, hooks=()):
    ids = torch.tensor([row])
    with torch.inference_mode():
        logits = bridge.run_with_hooks(ids, fwd_hooks=list(hooks), return_type="logits")[0].float()
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1), -log_p[:-1].gather(-1, ids[0, 1:, None])[:, 0]


def clip(activations, hook):
    new = activations.clone()
    for rule in RULES:
        index = int(rule["neuron"].split(".")[1])
        bound = {"max": rule["m"]} if rule["direction"] == "at most" else {"min": rule["m"]}
        new[..., index] = new[..., index].clamp(**bound)
    return new


found = {"entropy": [], "loss": [], "ratio": [], "ratio_frozen": []}
copies = {"first": [], "second": []}
for row in ROWS:
    _, seen = bridge.run_with_cache(torch.tensor([row]), names_filter=lambda name: name in (POST, SCALE_HOOK))
    row_entropy, row_loss = measure_row(row)
    found["entropy"].append(row_entropy)
    found["loss"].append(row_loss)
    for name, (start, stop) in zip(copies, COPIES):
        copies[name].append(seen[POST][0, start:stop].double().mean(0))
    if RULES:
        freeze = (SCALE_HOOK, lambda scale, hook: seen[SCALE_HOOK])
        found["ratio"].append(measure_row(row, [(POST, clip)])[0] / row_entropy)
        found["ratio_frozen"].append(measure_row(row, [(POST, clip), freeze])[0] / row_entropy)

for name, expected in {**CURVES, **RATIOS}.items():
    mean = torch.stack(found[name]).double().mean(0)
    torch.testing.assert_close(mean, torch.tensor(expected, dtype=torch.float64), atol=1e-3, rtol=1e-3)
    again = [mean[start:stop].mean().item() for start, stop in COPIES]
    print(name, "in each copy:", *(f"{value:.5f}" for value in again))
means = {name: torch.stack(values).mean(0) for name, values in copies.items()}
for row in RANKING:
    index = int(row["neuron"].split(".")[1])
    for name, mean in means.items():
        assert abs(mean[index].item() - row[name]) < 1e-3 * max(1, abs(row[name])), (row, mean[index])
print("the numbers agree")"""

# ROWS, LENGTH and SCORES come before it: random ids twice in each row, and what was found for each head.
HEADS = """\
from collections import defaultdict

totals = defaultdict(float)
for row in ROWS:
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(bridge.cfg.n_layers)]
    _, seen = bridge.run_with_cache(torch.tensor([row]), names_filter=lambda name: name in names)
    queries = torch.arange(len(row) - LENGTH, len(row))
    keys = {
        "induction": queries - LENGTH + 1,
        "duplicate": queries - LENGTH,
        "previous": queries - 1,
        "first": torch.zeros_like(queries),
    }
    for layer, name in enumerate(names):
        for kind, key in keys.items():
            for head, score in enumerate(seen[name][0, :, queries, key].double().mean(-1)):
                totals[f"{layer}.{head}", kind] += score.item() / len(ROWS)

for row in SCORES:
    for kind in ("induction", "duplicate", "previous", "first"):
        assert abs(totals[row["head"], kind] - row[kind]) < 1e-3, (row, kind, totals[row["head"], kind])
best = max(SCORES, key=lambda row: row["induction"])
print("best induction head", best["head"], best["induction"])
print("the numbers agree")"""
