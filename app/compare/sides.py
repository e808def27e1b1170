"""Models and checkpoints side by side: what can stand on a side, what a side shows, the way there through training."""

from app.compare import answer as answers
from app.compare.request import SidesQuery
from app.compare.view import Side, SidesView, Training
from app.core.atlas_caller import API_PATIENCE, AtlasCaller
from app.core.run import atlas_source


async def compared(
    asker: AtlasCaller, query: SidesQuery, state: dict[str, object], *, patience: float = API_PATIENCE
) -> SidesView:
    """Both sides, those left open chosen. `state` is shown as the page's, with the sides in it."""
    names = await sides_of(asker)
    first = query.a or asker.caller.host.default_key
    second = query.b or next((name for name in names if name != first), first)
    key = first.partition("@")[0]
    await atlas_source(asker.caller, key, patience=patience)
    return SidesView(
        model=key,
        names=names,
        state=state | {"a": first, "b": second},
        sides=[await side(asker, name, query.k, patience=patience) for name in dict.fromkeys((first, second))],
        has_checkpoints=any(name.startswith(f"{key}@") for name in names),
        training=await through_training(asker, key) if query.training else None,
    )


async def sides_of(asker: AtlasCaller) -> list[str]:
    """Every loaded model, and its checkpoints."""
    names: list[str] = []
    for key in asker.models:
        names.append(key)
        if asker.caller.host.entry(key).state == "loaded":
            names += [f"{key}@{tokens}" for tokens in await asker.caller.run(key, answers.checkpoint_files)]
    return names


async def side(asker: AtlasCaller, name: str, k: int | None, *, patience: float) -> Side:
    key, _, tokens = name.partition("@")
    found: Side
    if tokens:
        found = await asker.caller.run(key, answers.checkpoint, int(tokens), k)
    else:
        found = await asker.run(key, answers.whole, k, patience=patience)
    return found


async def through_training(asker: AtlasCaller, key: str) -> Training | None:
    """A checkpoint a ticket; None where the model has none."""
    files = await asker.caller.run(key, answers.checkpoint_files)
    if not files:
        return None
    neurons = await asker.run(key, answers.tracked)
    moments = [await asker.run(key, answers.moment, tokens, neurons) for tokens in (*files, None)]
    found: Training = await asker.run(key, answers.training, neurons, moments)
    return found
