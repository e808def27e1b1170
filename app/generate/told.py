"""A text that was written, and texts under dials, as a link tells them."""

from app.core import told
from app.core.format import num, signed
from app.core.told import Shade, Told, quoted
from app.generate.dial_request import DialRequest
from app.generate.dial_view import DialView
from app.generate.request import GenerateRequest
from app.generate.view import GenerateView

ENDED = {"length": "the length asked for", "eos": "its end of text", "stop": "the stop text",
         "context": "a full context", None: "nothing yet"}  # fmt: skip


def of_text(view: GenerateView, asked: GenerateRequest) -> Told:
    """Prompt and text as one strip; what was written is shaded by the entropy that each token was chosen from."""
    steps = view.tokens
    surest = max(steps, key=lambda step: step.entropy, default=None)
    caption = f"The model goes on for {len(steps)} tokens, ended by {ENDED[view.finish_reason]}"
    if surest is not None:
        caption += (
            f"; mean entropy {num(told.mean(step.entropy for step in steps), 2)} nats, the largest "
            f"{num(surest.entropy, 2)} at “{quoted(surest.text)}”"
        )
    whole = any(token.piece for token in view.prompt)  # not in answers that were stored before there were pieces
    given = [Shade(text=token.piece if whole else token.text, value=None) for token in view.prompt]
    return Told(
        caption=f"{caption}.",
        interventions=told.in_words(asked.interventions),
        strip=[*given, *(Shade(text=step.piece or step.text, value=step.entropy) for step in steps)],
    )


def of_dials(view: DialView, asked: DialRequest) -> Told:
    """What each dial does to the mean entropy, beside its twins."""
    dials = [arm for arm in view.arms if arm.kind == "dial"]
    said = (f"{arm.name} changes the mean entropy by {signed(arm.means['entropy'].difference)} nats" for arm in dials)
    times = {"scale": "activation ×", "value": "activation held at"}
    return Told(
        caption=f"From one prompt and {view.seeds} seed{'s' * (view.seeds > 1)}: {'; '.join(said)}.",
        interventions=[
            f"neurons {dial.neurons if isinstance(dial.neurons, str) else ', '.join(dial.neurons)}: "
            f"{times[dial.mode]} {num(dial.value, 2)}"
            for dial in asked.dials
        ],
        about="Means over the texts",
        heads=["Texts", "entropy", "change of it", "loss, undisturbed", "repeated 4-grams", "distinct tokens"],
        rows=[
            [
                arm.name,
                arm.means["entropy"].mean,
                arm.means["entropy"].difference,
                *(arm.means[name].mean for name in ("loss", "repetition", "distinct")),
            ]
            for arm in view.arms
        ],
    )
