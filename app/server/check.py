"""Is what this program says about a model true of that model? Live, on the resident weights.

Every row compares what the closed form gives with what the model itself does when it is hooked (METHODS section 6).
"""

from collections.abc import Iterator, Sequence

from analysis import nullspace_study, selfcheck
from analysis.kernels import Backend
from analysis.progress import Progress
from app.core.plain import number
from app.core.request import NothingAsked
from app.core.residency.memory import metrics_bytes
from app.core.residency.resident import Resident
from app.server.view import CheckRow, CheckView


def check(resident: Resident, request: NothingAsked) -> Iterator[Progress | CheckView]:
    """The readout against the model's own logits, the closed form against hooked passes, the frozen scale, the null
    space; a step for each of them and for each block of the spectrum."""
    model = resident.model
    both = metrics_bytes(model, selfcheck.TOKENS)  # the closed form's logits and the hooked pass' at once
    resident.admit(selfcheck.TOKENS, rows=2, extra=both)
    found = []
    for finding in selfcheck.steps(model):
        found.append(finding)
        yield Progress("identities", len(found), len(selfcheck.IDENTITIES))
    spectrum = yield from resident.spectrum_in_steps()
    rows = _rows([*found, nullspace_study.reconstruction(model.readout, spectrum)])
    yield CheckView(
        model=model.key,
        architecture=model.architecture,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        weights_sha256=model.weights_sha256,
        holds=all(row.holds for row in rows),
        rows=rows,
        kernels=resident.engine.backend.name,
        kernels_note=_kernels_note(resident.engine.backend),
    )


def _kernels_note(backend: Backend) -> str | None:
    if backend.failure is not None:
        return f"The slower eager kernels answer where compiled ones failed: {backend.failure}"
    return "They are being compiled; the slower eager ones answer meanwhile." if backend.compiling else None


def _rows(findings: Sequence[selfcheck.Finding]) -> list[CheckRow]:
    return [
        CheckRow(
            name=finding.name,
            claim=finding.claim,
            error=number(finding.error),
            tolerance=finding.tolerance,
            holds=finding.holds,
        )
        for finding in findings
    ]
