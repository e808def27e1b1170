"""Is what this program says about a model true of that model? Live, on the resident weights.

Every row compares what the closed form gives with what the model itself does when it is hooked (METHODS section 6).
"""

from collections.abc import Sequence

from analysis import selfcheck
from app.present.plain import number
from app.residency.resident import Resident
from app.views.check import CheckRow, CheckView


def check(resident: Resident) -> CheckView:
    """The readout against the model's own logits, the closed form against hooked passes, the frozen scale."""
    model = resident.model
    rows = _rows(selfcheck.run(model))
    return CheckView(
        model=model.key,
        architecture=model.architecture,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        weights_sha256=model.weights_sha256,
        holds=all(row.holds for row in rows),
        rows=rows,
    )


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
