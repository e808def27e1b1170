"""Is what this program says about a model true of that model? Live, on the resident weights.

Every row compares what the closed form gives with what the model itself does when it is hooked (METHODS section 6).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from analysis import nullspace, selfcheck
from analysis.metrics import wide
from app.present.plain import number
from app.residency.resident import Resident
from app.views.check import CheckRow, CheckView

RECONSTRUCTION = 1e-5  # relative: float32 weights against a float64 spectrum of them


def check(resident: Resident) -> CheckView:
    """The readout against the model's own logits, the closed form against hooked passes, the frozen scale, the null
    space."""
    model = resident.model
    rows = _rows([*selfcheck.run(model), _null_space(resident)])
    return CheckView(
        model=model.key,
        architecture=model.architecture,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        weights_sha256=model.weights_sha256,
        holds=all(row.holds for row in rows),
        rows=rows,
    )


def _null_space(resident: Resident) -> selfcheck.Finding:
    """A vector's null and row parts are what the spectrum says the logits see of them; relative to the whole vector.

    For an x of the residual stream: x = V0 V0ᵀ x + the rest, and ‖W_Uᵀ V0 V0ᵀ x‖² = Σ σᵢ² (uᵢ·x)² over the null space;
    likewise for x itself.
    """
    readout = resident.model.readout
    spectrum = resident.memo("spectrum", lambda: nullspace.spectrum(readout))
    k, W_U = spectrum.k, readout.W_U
    U, S = spectrum.U.to(W_U.device), spectrum.S.to(W_U.device)
    x = torch.randn(len(S), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(W_U.device)
    inside = spectrum.basis(k).to(W_U.device)
    null = inside @ (inside.T @ x)

    def gap(part: Tensor) -> float:
        seen = wide(part.to(W_U.dtype) @ W_U).double().norm()
        return float((seen - (S * (U.T @ part)).norm()).abs() / (S * (U.T @ x)).norm())

    error = max(float((U @ (U.T @ x) - x).norm() / x.norm()), gap(x), gap(null), gap(x - null))
    return selfcheck.Finding(
        "null_space",
        f"a random vector and its parts in and outside of the null space (k = {k}): rebuilt from the singular vectors, "
        "and seen by the logits as the singular values say",
        error,
        RECONSTRUCTION,
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
