"""What a stored result says in a model's own terms, on the device thread: its prompt as text, its rows, its means."""

from collections.abc import Sequence

from analysis.types import NeuronId
from app.core.limits import check_known
from app.core.question import priced
from app.core.residency.resident import Resident


@priced()
def text(resident: Resident, token_ids: Sequence[int]) -> str | None:
    """The prompt with these token ids as text; None where its tokens cannot be had back from a text.

    InputError for ids that this model does not have.
    """
    model = resident.model
    given = list(token_ids)
    check_known(given, model.d_vocab)
    ids = given[1:] if given[:1] == [model.bos_id] else given
    found = "".join(model.token_texts(ids))
    return found if model.encode(found, prepend_bos=len(ids) != len(given)) == given else None


@priced()
def means(resident: Resident, neurons: Sequence[str]) -> dict[str, float]:
    """Reference means of some neurons; NotFoundError for one that this model does not have."""
    every = resident.require_means()
    found = [(name, resident.model.check_neuron(NeuronId.parse(name))) for name in neurons]
    return {name: float(every[neuron.layer, neuron.index]) for name, neuron in found}
