"""Texts with neurons turned and their twins, a token a slice. On the device's thread."""

from collections.abc import Iterator
from dataclasses import asdict

from analysis.dial import Arm, Mean, Setting, Text, turn
from analysis.generate import Sampling
from analysis.grammar import printed
from analysis.model import Model
from analysis.progress import Progress
from analysis.types import InputError, Intervention, NeuronId
from app.core import to_view
from app.core.answer import prompt_ids, provenance
from app.core.plain import number
from app.core.residency.atlas_context import AtlasContext, AtlasSource
from app.core.residency.resident import Resident
from app.generate.dial_request import Dial, DialRequest
from app.generate.dial_view import ArmView, DialMeanView, DialNumbers, DialTextView, DialView
from app.generate.written import Written


def dial(resident: Resident, request: DialRequest, *, on: AtlasSource | None = None) -> Iterator[DialView | Progress]:
    """How far it is, then the view."""
    asked, request = request, named(resident, request, on=on)
    model, ids = resident.model, prompt_ids(resident, request)
    room = min(request.max_new_tokens, max(resident.max_tokens - len(ids), 0))
    resident.admit(len(ids) + room, rows=2)
    setting = Setting(
        tuple(ids),
        room,
        Sampling(request.temperature, request.top_k, request.top_p, request.seed),
        request.seeds,
        request.stop_at_eos,
    )
    dials = [_interventions(model, each) for each in request.dials]
    arms = list[Arm]()
    for step in turn(model, setting, dials, twins=request.twins):
        if isinstance(step, Arm):
            arms.append(step)
        else:
            yield step
    yield DialView(
        prompt=to_view.tokens(model, ids),
        arms=[_arm(model, ids, request, arm, arms[0]) for arm in arms],
        seeds=request.seeds,
        provenance=provenance("dial", resident, ids, asked),
    )


def named(resident: Resident, request: DialRequest, *, on: AtlasSource | None = None) -> DialRequest:
    """The same with every neuron by its name. InputError where none has the label."""
    if on is None:
        return request
    labelled = _labelled(on.on(resident))
    dials = [
        item.model_copy(update={"neurons": labelled}) if item.neurons == "entropy" else item for item in request.dials
    ]
    return request.model_copy(update={"dials": dials})


def _labelled(here: AtlasContext) -> list[str]:
    layer = here.model.last_layer
    found = here.neurons(layer, here.atlas.spectrum.chosen(None)).carriers("entropy")
    if not found:
        raise InputError(
            f"No neuron of layer {layer} is labelled an entropy neuron.",
            code="no_such_label",
            hint="Name the neurons to turn.",
        )
    return [f"{layer}.{index}" for index in found]


def _interventions(model: Model, item: Dial) -> list[Intervention]:
    neurons = [model.check_neuron(NeuronId.parse(name)) for name in item.neurons]
    return [Intervention(neuron, item.mode, item.value) for neuron in neurons]


def _arm(model: Model, ids: list[int], request: DialRequest, arm: Arm, undisturbed: Arm) -> ArmView:
    item = None if arm.dial is None else request.dials[arm.dial]
    wanted, reached = arm.matched or (None, None)
    return ArmView(
        name=_name(arm, item),
        kind=arm.kind,
        dial=arm.dial,
        neurons=list(item.neurons) if item is not None and arm.kind == "dial" else [],
        temperature=arm.temperature,
        wanted=wanted,
        reached=reached,
        texts=[_text(model, ids, text) for text in arm.texts],
        means={name: _mean(found) for name, found in arm.means(undisturbed).items()},
    )


def _name(arm: Arm, item: Dial | None) -> str:
    if item is None:
        return "undisturbed"
    value = printed(item.value, "g")
    turned = f"× {value}" if item.mode == "scale" else f"held at {value}"
    neurons = ", ".join(item.neurons[:3]) + (f" and {len(item.neurons) - 3} more" if len(item.neurons) > 3 else "")
    own = f"{neurons} {turned}"
    return own + {"temperature": ": temperature", "neurons": ": random neurons"}.get(arm.kind, "")


def _text(model: Model, ids: list[int], text: Text) -> DialTextView:
    written = Written(model, ids, ())
    body = text.token_ids[:-1] if text.ended else text.token_ids
    pieces = [written.add(token) for token in body]
    pieces += model.token_texts(list(text.token_ids[len(body) :]))
    return DialTextView(
        seed=text.seed,
        text=written.whole,
        ended=text.ended,
        token_ids=list(text.token_ids),
        pieces=pieces,
        entropy=list(text.entropy),
        numbers=DialNumbers(**asdict(text.numbers)),
        neurons=[str(neuron) for neuron in text.neurons],
        factor=text.factor,
    )


def _mean(found: Mean) -> DialMeanView:
    return DialMeanView(**{name: number(value) for name, value in asdict(found).items()})
