"""The pages of the program, found by what one wants to know: five questions, under each the pages that answer it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NavEntry:
    """A page; in the navigation where the app answers GET at this path."""

    label: str
    path: str
    hint: str


@dataclass(frozen=True)
class Section:
    """A question and the pages that answer it; the first is where its own link leads."""

    label: str
    question: str
    entries: tuple[NavEntry, ...]
    also: tuple[str, ...] = ()
    """Other paths that belong here."""

    def holds(self, path: str) -> bool:
        return any(_within(path, root) for root in (*(entry.path for entry in self.entries), *self.also))

    def current(self, path: str) -> str | None:
        """The path of the entry that the page at `path` belongs to: the longest that fits."""
        fitting = [entry.path for entry in self.entries if _within(path, entry.path)]
        return max(fitting, key=len, default=None)


def _within(path: str, root: str) -> bool:
    return path == root or (root != "/" and path.startswith(root + "/"))


SECTIONS = (
    Section(
        "Prompt",
        "How sure is it here, and why?",
        (
            NavEntry("Which neurons", "/", "Run a prompt: how sure the model is, and which neurons make it so"),
            NavEntry("Why unsure", "/why", "A prediction's entropy, taken apart"),
            NavEntry("Write", "/write", "The model writes, and tells how sure it is"),
            NavEntry("Effects", "/effects", "Heat map, together, by dose, what the LN scale is made of"),
        ),
    ),
    Section(
        "Neurons",
        "Which ones set confidence?",
        (
            NavEntry("Atlas", "/atlas", "Every neuron by its weights"),
            NavEntry("Null space", "/nullspace", "The directions that no token reads"),
            NavEntry("Frequency", "/frequency", "Token counts, and the neurons that write along them"),
            NavEntry("Compare", "/compare", "Two models or checkpoints side by side"),
        ),
        ("/m",),
    ),
    Section(
        "Evidence",
        "Does it hold over texts?",
        (
            NavEntry("Sweeps", "/sweeps", "Every neuron over a whole text"),
            NavEntry("Repeats", "/induction", "What the model does when a text repeats"),
        ),
    ),
    Section(
        "Lab",
        "What did I keep?",
        (
            NavEntry("Saved", "/lab", "Stored results, notes, lists"),
            NavEntry("Jobs", "/jobs", "Long work, and how far it is"),
        ),
        ("/r",),
    ),
    Section(
        "Model",
        "What is being looked at?",
        (
            NavEntry("Models", "/models", "What is loaded here"),
            NavEntry("Self-check", "/selfcheck", "Is what the pages say true of this model?"),
            NavEntry("Tour", "/tour", "The whole story in five steps"),
            NavEntry("Documentation", "/docs", "What every number is, and how to use all of this"),
        ),
    ),
)

PAPER = "https://arxiv.org/abs/2406.16254"
