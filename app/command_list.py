"""The commands of `nullscope` that are written by hand: name -> (module, one line of help).

A module is imported only when its command runs; its click command is named `command`. All other commands are made from
the questions (`app.registry`).
"""

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("app.operate.serve", "Serve the dashboard and the API."),
    "get": ("app.operate.get", "Bring a model of the list onto this machine."),
    "models": ("app.server.shell_models", "Which models are here, their size, and the memory that loading needs."),
    "induction": ("app.induction.shell", "Repeat a text: confidence, heads that copy, clipped ablation."),
    "neuron": ("app.neuron.shell", "One neuron by its weights: statistics, labels, logit effect; or on a prompt."),
    "nullspace": ("app.atlas.shell_nullspace", "What neurons, heads and embeddings write into the null space."),
    "frequency": ("app.atlas.shell_frequency", "Token counts, how neurons align with them, what one does on a prompt."),
    "count": ("app.operate.count", "Count the tokens of a text for the frequency measures."),
    "reproduce": ("app.atlas.shell_reproduce", "Check the published values of a model (needs its real weights)."),
    "compare": ("app.compare.shell", "Two models, or two checkpoints of one training, by their last layers."),
    "sweep": ("app.sweep.shell", "Ablate neurons over a text: run it, and read what came out."),
    "texts": ("app.operate.texts", "Texts that were uploaded for sweeps: list, delete."),
    "check": ("app.server.shell_check", "Check a model: its readout against its logits, closed form against hooks."),
    "examples": (
        "app.operate.examples",
        "Compute the worked examples of the first page again and check their claims.",
    ),
    "users": ("app.operate.users", "People's keys: add, list, revoke."),
    "backup": ("app.operate.backup", "Copy the database to a file, also while the server runs."),
    "restore": ("app.operate.restore", "Put a backup in the database's place."),
    "doctor": ("app.operate.doctor", "Check device, memory, disk, database, models; say what to do."),
}
