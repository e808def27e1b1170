"""The self-check of a loaded model, the login page."""

from pydantic import Field

from app.core.view import ErrorBody, View


class CheckRow(View):
    name: str
    claim: str
    error: float | None = Field(description="Largest difference found.")
    tolerance: float
    holds: bool


class CheckView(View):
    model: str
    architecture: str
    dtype: str
    device: str
    weights_sha256: str
    holds: bool
    rows: list[CheckRow]
    kernels: str = Field("", description="What computes the effects: eager, compiled or triton.")
    kernels_note: str | None = Field(None, description="Why slower kernels answer, where they do.")


class LoginView(View):
    next: str
    problem: ErrorBody | None = None


class ChecksView(View):
    """Self-checks of every loaded model; `problem` where one could not be run."""

    checks: list[CheckView]
    problems: dict[str, str] = Field({})
