"""The commands of `nullscope`: name -> (module, one line of help). A module is imported only when its command runs.

The module's click command is named `command`.
"""

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("app.commands.serve", "Serve the dashboard and the API."),
    "models": ("app.commands.models", "Which models are here, their size, and the memory that loading needs."),
    "trace": ("app.commands.trace", "Run a prompt: per-token entropy, loss, LN scale, KL to the unigram distribution."),
    "effects": ("app.commands.effects", "Ablate every last-layer neuron at one token and rank them."),
    "heatmap": ("app.commands.heatmap", "Every token of a prompt by every last-layer neuron."),
    "joint": ("app.commands.joint", "Ablate a set of neurons together, beside each of them alone."),
    "dose": ("app.commands.dose", "Clamp neurons to one activation after another."),
    "ledger": ("app.commands.ledger", "What the final LN scale at a token is made of."),
    "induction": ("app.commands.induction", "Repeat a text: confidence, heads that copy, clipped ablation."),
    "neurons": ("app.commands.neurons", "Every MLP neuron by its weights, with labels; table, JSON, CSV or Parquet."),
    "neuron": ("app.commands.neuron", "One neuron by its weights: statistics, labels, logit effect; or on a prompt."),
    "spectrum": ("app.commands.spectrum", "Singular values of the unembedding, the knee, rho by layer."),
    "nullspace": ("app.commands.nullspace", "What neurons, heads and embeddings write into the null space."),
    "walk": ("app.commands.walk", "Move a prompt's residual stream along one singular direction."),
    "frequency": ("app.commands.frequency", "Token counts, how neurons align with them, what one does on a prompt."),
    "count": ("app.commands.count", "Count the tokens of a text for the frequency measures."),
    "reproduce": ("app.commands.reproduce", "Check the published values of a model (needs its real weights)."),
    "compare": ("app.commands.compare", "Two models, or two checkpoints of one training, by their last layers."),
    "sweep": ("app.commands.sweep", "Ablate neurons over a text: run it, and read what came out."),
    "check": ("app.commands.check", "Check a model: its readout against its logits, closed form against hooks."),
    "examples": (
        "app.commands.examples",
        "Compute the worked examples of the first page again and check their claims.",
    ),
    "users": ("app.commands.users", "People's keys: add, list, revoke."),
    "backup": ("app.commands.backup", "Copy the database to a file, also while the server runs."),
    "restore": ("app.commands.restore", "Put a backup in the database's place."),
    "doctor": ("app.commands.doctor", "Check device, memory, disk, database, models; say what to do."),
}
