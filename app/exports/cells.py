"""The code of a notebook's cells: plain torch and transformer_lens, and nothing of this program.

`START` and what follows it are source text; a cell is one of these behind the values that a result gives it.
"""

# MODEL's default, TOKENS and SCALE come before it.
START = """\
import torch
from transformers import AutoModelForCausalLM
from transformer_lens.model_bridge.sources import build_bridge_from_module

weights = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
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
