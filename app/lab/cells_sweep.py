"""The code of a sweep's notebook, as in `cells`: its drawn tokens and its averages, by hooked forward passes."""

# ROWS, NEURONS, DRAWN, AVERAGES, N_TOKENS, FILTER and SEED come before it: token ids, what each neuron was set to at
# every position (None: to another token's activation), the stored numbers at drawn tokens of these rows, and, where
# these are all rows of the sweep, the table's averages over its N_TOKENS.
SETUP = """\
from collections import defaultdict

from transformers import AutoTokenizer

SCALE_HOOK = "ln_final.hook_scale"
POSTS = {neuron: f"blocks.{neuron.split('.')[0]}.mlp.hook_post" for neuron in NEURONS}


def excluded_ids():
    reader = AutoTokenizer.from_pretrained(MODEL, trust_remote_code=False)
    found = {reader.bos_token_id, reader.eos_token_id, reader.pad_token_id}
    if type(weights).__name__.startswith("GPT"):
        newline = reader("\\n", add_special_tokens=False).input_ids
        found |= set(newline) if len(newline) == 1 else set()
    return found


EXCLUDED = excluded_ids() if FILTER["exclude_specials"] else set()


def kept_positions(row):
    inside = range(FILTER["first"], len(row) - max(FILTER["last"], 1))
    return [at for at in inside if row[at] not in EXCLUDED and row[at + 1] not in EXCLUDED]


def measure_row(row, hooks=()):
    ids = torch.tensor([row])
    with torch.inference_mode():
        logits = bridge.run_with_hooks(ids, fwd_hooks=list(hooks), return_type="logits")[0].float()
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return {"entropy": entropy[:-1], "loss": -log_p[:-1].gather(-1, ids[0, 1:, None])[:, 0]}


def run_row(row):
    names = {SCALE_HOOK, *POSTS.values()}
    return bridge.run_with_cache(torch.tensor([row]), names_filter=lambda name: name in names)[1]


def activations_of(seen, neuron):
    return seen[POSTS[neuron]][0, :, int(neuron.split(".")[1])]


def agree(found, expected, what, atol=1e-3):
    assert expected is None or abs(found.item() - expected) < atol, (what, found, expected)


def value_of(neuron, place, length):
    if NEURONS[neuron] is None:
        return stand_ins(neuron, place, length)
    return NEURONS[neuron]"""

# POOL comes before it, how many tokens were drawn to stand in for others.
RESAMPLED = """\
MASK = 2**64 - 1


def splitmix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def hashed(*keys):
    state = SEED & MASK
    for key in (0, *keys):
        state = splitmix(state ^ splitmix(key))
    return state


def pool():
    places = [(place, at) for place, row in enumerate(ROWS) for at in kept_positions(row)]
    chosen = sorted((hashed(1, *where) >> 1, *where) for where in places)[:POOL]
    wanted = defaultdict(list)
    for rank, (_, place, at) in enumerate(chosen):
        wanted[place].append((rank, at))
    found = {neuron: [0.0] * len(chosen) for neuron in NEURONS}
    for place, ranks in wanted.items():
        seen = run_row(ROWS[place])
        for neuron in NEURONS:
            for rank, at in ranks:
                found[neuron][rank] = activations_of(seen, neuron)[at].item()
    return found


def stand_ins(neuron, place, length):
    values = VALUES[neuron]
    return torch.tensor([values[hashed(3, place, at) % len(values)] for at in range(length)])


VALUES = pool()"""

BY_ROW = """\
sums = defaultdict(float)
n_tokens = 0
for place, row in enumerate(ROWS):
    here = [token for token in DRAWN if token["row"] == place]
    keep = kept_positions(row)
    n_tokens += len(keep)
    seen, clean = run_row(row), measure_row(row)
    for token in here:
        for name in ("entropy", "loss"):
            agree(clean[name][token["position"]], token[name], (place, token["position"], name))
    for neuron in NEURONS:
        index, value = int(neuron.split(".")[1]), value_of(neuron, place, len(row))

        def ablate(activations, hook):
            new = activations.clone()
            new[0, :, index] = value
            return new

        ablated = [(POSTS[neuron], ablate)]
        freeze = (SCALE_HOOK, lambda scale, hook: seen[SCALE_HOOK])
        after = {"total": measure_row(row, ablated), "direct": measure_row(row, [*ablated, freeze])}
        sums[neuron, "activation.mean"] += activations_of(seen, neuron)[keep].double().sum()
        for condition, found in after.items():
            for name in ("entropy", "loss"):
                change = found[name] - clean[name]
                sums[neuron, f"{condition}.{name}"] += change[keep].double().sum()
                sums[neuron, f"{condition}.abs_{name}"] += change[keep].double().abs().sum()
                for token in here:
                    at, stored = token["position"], token["changes"][neuron][f"{condition}.{name}"]
                    agree(change[at], stored, (place, at, neuron, condition, name))
    print(f"row {place}: {len(here)} drawn tokens, {len(NEURONS)} neurons")

if AVERAGES:
    assert n_tokens == N_TOKENS, (n_tokens, N_TOKENS)
for neuron, averages in AVERAGES.items():
    means = {name: total / n_tokens for (which, name), total in sums.items() if which == neuron}
    for name, expected in averages.items():
        agree(means[name], expected, (neuron, name), atol=1e-4 + 1e-3 * abs(expected or 0))
    fraction = 1 - means["direct.abs_loss"] / means["total.abs_loss"]
    print(f"{neuron}: averages over {n_tokens} tokens, LN-mediated fraction {fraction:+.4f}")
print("the numbers agree" if AVERAGES else "the drawn tokens agree; the averages are over more rows than stand here")"""
