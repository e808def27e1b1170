"""What is said of a model's null space wherever its k stands: on pages, in answers, in the shell."""

from analysis.nullspace import FALLBACK_SHARE, KNEE_RATIO, WEAK_FALL, Spectrum
from app.core.plain import number
from app.core.weights_view import NullSpace


def null_space(spectrum: Spectrum) -> NullSpace:
    return NullSpace(
        knee=spectrum.knee,
        k_share=spectrum.k_share,
        fall=None if spectrum.fall is None else number(spectrum.fall),
        weak=spectrum.weak,
        exact=spectrum.exact,
        built_in=spectrum.built_in,
        says=" ".join([*_knee(spectrum), *_exact(spectrum), *_rule(spectrum)]),
    )


def _knee(spectrum: Spectrum) -> list[str]:
    j, fall = spectrum.knee, spectrum.fall
    if j is None or fall is None:
        return ["The spectrum has no knee."]
    if number(fall) is None:
        return [f"The spectrum falls to zero after index {j}."]
    said = [f"The spectrum falls {fall:.3g}-fold after index {j}."]
    if spectrum.weak:
        steepest, ratio = spectrum.largest_fall
        said.append(
            f"That is a weak knee (the rule takes everything above {KNEE_RATIO}, a clear one falls {WEAK_FALL:g}-fold)"
            + ("" if steepest == j else f"; the steepest place is index {steepest}, {ratio:.3g}-fold")
            + ". What follows from k here depends on where the rule draws its line: look at other k, too."
        )
    return said


def _exact(spectrum: Spectrum) -> list[str]:
    centring = "the all-ones vector, by centring over d_model"
    if spectrum.built_in:
        return [
            f"{spectrum.exact} of {spectrum.d_model} directions are exactly null{': ' if spectrum.trivial else ', '}"
            + (f"{centring}, and {spectrum.built_in} " if spectrum.trivial else "")
            + "built into the model (a vocabulary smaller than d_model, or dimensions that the unembedding does not "
            "use; training makes no exact zeros)."
        ]
    return [f"One direction is exactly null: {centring}."] if spectrum.exact else []


def _rule(spectrum: Spectrum) -> list[str]:
    """Where k is not simply what lies behind the knee."""
    if spectrum.k == spectrum.exact > 1:
        return [f"The null space is these {spectrum.exact}."]
    if spectrum.k > spectrum.by_rule:
        return [f"k = {spectrum.k}: a smaller one would part equal singular values, which have no order."]
    if spectrum.k == 1 < spectrum.k_share:
        return [
            "k = 1 is a single singular value, which may be an outlier and no space: look at rho with "
            f"k = {spectrum.k_share} ({FALLBACK_SHARE:.0%} of d_model) beside it."
        ]
    return [f"k = {spectrum.k} is {FALLBACK_SHARE:.0%} of d_model, a convention."] if spectrum.knee is None else []
