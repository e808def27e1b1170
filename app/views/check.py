"""The self-check of a loaded model."""

from pydantic import Field

from app.views.core import View


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
