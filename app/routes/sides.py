"""Models and checkpoints side by side: what can stand on a side, what a side shows, the way there through training."""

from app.answers import compare as answers
from app.requests.atlas import SidesQuery
from app.routes.footing import API_PATIENCE, Ground
from app.views.compare import Side, SidesView, Training


async def compared(
    ground: Ground, query: SidesQuery, state: dict[str, object], *, patience: float = API_PATIENCE
) -> SidesView:
    """Both sides, those left open chosen. `state` is shown as the page's, with the sides in it."""
    names = await sides_of(ground)
    first = query.a or ground.caller.host.default_key
    second = query.b or next((name for name in names if name != first), first)
    key = first.partition("@")[0]
    await ground.footing(key, patience=patience)
    return SidesView(
        model=key,
        names=names,
        state=state | {"a": first, "b": second},
        sides=[await side(ground, name, query.k, patience=patience) for name in dict.fromkeys((first, second))],
        has_checkpoints=any(name.startswith(f"{key}@") for name in names),
        training=await through_training(ground, key) if query.training else None,
    )


async def sides_of(ground: Ground) -> list[str]:
    """Every loaded model, and its checkpoints."""
    names: list[str] = []
    for key in ground.models:
        names.append(key)
        if ground.caller.host.entry(key).state == "loaded":
            names += [f"{key}@{tokens}" for tokens in await ground.caller.run(key, answers.checkpoint_files)]
    return names


async def side(ground: Ground, name: str, k: int | None, *, patience: float) -> Side:
    key, _, tokens = name.partition("@")
    found: Side
    if tokens:
        found = await ground.caller.run(key, answers.checkpoint, int(tokens), k)
    else:
        found = await ground.ask(key, answers.whole, k, patience=patience)
    return found


async def through_training(ground: Ground, key: str) -> Training | None:
    """A checkpoint a ticket; None where the model has none."""
    files = await ground.caller.run(key, answers.checkpoint_files)
    if not files:
        return None
    neurons = await ground.ask(key, answers.tracked)
    moments = [await ground.ask(key, answers.moment, tokens, neurons) for tokens in (*files, None)]
    found: Training = await ground.ask(key, answers.training, neurons, moments)
    return found
