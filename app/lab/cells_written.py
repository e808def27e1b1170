"""The cells that write a text again: plain torch and transformers, and nothing of this program.

`START` is behind the model's name and tokens; `GENERATE` and `DIAL` behind the values that a result gives them.
"""

# MODEL, TOKENS (the prompt), TOP_K, TOP_P and APPLY_TO come before it.
START = """\
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(
    MODEL, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
).eval()
OUT = ("mlp.c_proj", "mlp.down_proj", "mlp.dense_4h_to_h", "fc2")  # what neurons write through, by architecture
writes = [module for name, module in model.named_modules() if name.endswith(OUT)]


def draw(log_p, temperature, generator):
    if temperature == 0:
        return int(log_p.argmax())
    logits = log_p.double()
    values, ids = ((logits - logits.max()) / temperature).log_softmax(-1).sort(descending=True, stable=True)
    if TOP_K is not None:
        values[TOP_K:] = -torch.inf
    p = values.softmax(-1)
    if TOP_P is not None:
        p = torch.where(p.cumsum(-1) - p < TOP_P, p, 0.0)
    noise = torch.empty_like(p).exponential_(generator=generator)  # a token's own, whatever its probability
    return int(ids[(p / noise[ids]).argmax()])


def places(item, first, n):
    where = item["positions"]
    chosen = range(first, first + n) if where is None else where
    if isinstance(where, dict):
        chosen = range(where["start"], where["stop"])
    low = len(TOKENS) if APPLY_TO == "new" else 0
    high = len(TOKENS) if APPLY_TO == "prompt" else first + n
    return [at - first for at in chosen if max(first, low) <= at < min(first + n, high)]


def changed(n, item):
    if item["mode"] == "scale":
        return n * item["value"]
    if item["mode"] == "clip":
        return n.clamp(item["min"], item["max"])
    return torch.full_like(n, item["value"] if item["mode"] == "value" else 0.0)


def turn(item, first):
    layer, index = map(int, item["neuron"].split("."))

    def hook(module, args):
        n = args[0].clone()
        rows = n.view(-1, n.shape[-1])
        where = places(item, first, len(rows))
        rows[where, index] = changed(rows[where, index], item)
        return (n, *args[1:])

    return writes[layer].register_forward_pre_hook(hook)


@torch.inference_mode()
def written(ids, temperature, seed, items=()):
    # What is drawn at each step after the prompt and the ids before, and the log-probabilities that it is drawn from.
    generator, cache, tokens, first = torch.Generator().manual_seed(seed), None, list(TOKENS), 0
    for token in ids:
        handles = [turn(item, first) for item in items]
        out = model(input_ids=torch.tensor([tokens]), past_key_values=cache, use_cache=True)
        for handle in handles:
            handle.remove()
        log_p = out.logits[0, -1].float().log_softmax(-1)
        yield draw(log_p, temperature, generator), log_p
        cache, first, tokens = out.past_key_values, first + len(tokens), [token]


def entropy_of(log_p):
    return float(-(log_p.exp() * log_p).sum())


def replayed(parted):
    if parted:
        print("chooses otherwise at", parted, ": two tokens were as good as equal, or torch differs")
    else:
        print("replayed from the seed: the same text, token for token")"""

# STEPS, GIVEN, TEMPERATURE, SEED and INTERVENTIONS come before it.
GENERATE = """\
parted = []
ids = [step["id"] for step in STEPS]
for step, (chosen, log_p) in zip(STEPS, written(ids, TEMPERATURE, SEED, INTERVENTIONS)):
    assert abs(entropy_of(log_p) - step["entropy"]) < 1e-3, step
    assert abs(float(log_p[step["id"]].exp()) - step["prob"]) < 1e-3, step
    if chosen != step["id"] and step not in STEPS[:GIVEN]:
        parted.append(step["position"])
replayed(parted)
print("the numbers agree")"""

# ARMS and TEMPERATURE come before it.
DIAL = """\
def grams(ids, n=4):
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


parted, undisturbed = [], {text["seed"]: text["token_ids"] for text in ARMS[0]["texts"]}
for arm in ARMS:
    hotter = arm["temperature"] or 1.0  # the twin by temperature: undisturbed logits, divided
    for text in arm["texts"]:
        ids, numbers, items = text["token_ids"], text["numbers"], text["items"]
        steps = list(written(ids, TEMPERATURE * hotter, text["seed"], items))
        entropies = [entropy_of((log_p / hotter).log_softmax(-1)) for _, log_p in steps]
        assert max(abs(a - b) for a, b in zip(entropies, text["entropy"])) < 1e-3, arm["name"]
        assert abs(sum(entropies) / len(ids) - numbers["entropy"]) < 1e-3, arm["name"]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*TOKENS, *ids]])).logits[0].float()
        log_p = logits.log_softmax(-1)[len(TOKENS) - 1 : -1]
        loss = -log_p.gather(-1, torch.tensor(ids)[:, None]).mean()
        assert abs(float(loss) - numbers["loss"]) < 1e-3, arm["name"]
        repeated = 1 - len(set(grams(ids))) / len(grams(ids)) if grams(ids) else 0.0
        other = undisturbed[text["seed"]]
        pairs = enumerate(zip(ids, other))
        shared = next((i for i, (a, b) in pairs if a != b), min(len(ids), len(other)))
        found = [repeated, len(set(ids)) / len(ids), len(ids), shared]
        expected = [numbers[name] for name in ("repetition", "distinct", "length", "shared")]
        assert all(abs(a - b) < 1e-9 for a, b in zip(found, expected)), arm["name"]
        if [chosen for chosen, _ in steps] != ids:
            parted.append((arm["name"], text["seed"]))
replayed(parted)
print("the numbers agree")"""
