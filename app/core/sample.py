"""The beginning of a model's sample text: what it is shown on where a reader gives no text. On the device's thread."""

from analysis import reference
from app.core.question import priced
from app.core.request import PromptRequest
from app.core.residency import means
from app.core.residency.cache import Kind
from app.core.residency.resident import Resident

SAMPLE_TOKENS = 4096
ROW_TOKENS = 128

SCATTERED_TOKENS = 6000
"""Tokens that a scatter over a large vocabulary shows."""

SAMPLE_ROWS = Kind("sample rows", "analysis.reference", "app.core.residency.means")


def sample_rows(resident: Resident) -> list[list[int]]:
    """Rows of the model's sample (else the bundled one's), up to SAMPLE_TOKENS tokens."""
    text = means.text_file(resident.settings, resident.model)
    if text is None or not text.is_file():
        return []

    def build() -> list[list[int]]:
        kept: list[list[int]] = []
        for document in means.read_texts(text):
            length = min(ROW_TOKENS, resident.max_tokens)
            kept += [row for row in reference.rows_of(resident.model, [document], length=length) if len(row) > 8]
            if sum(map(len, kept)) >= SAMPLE_TOKENS:
                break
        return kept

    return resident.cached(SAMPLE_ROWS, (*means.inputs_of(resident.model, text), resident.max_tokens), build)


@priced()
def sample_prompt(resident: Resident) -> PromptRequest:
    """The first row of the sample: what a neuron is shown on where the reader gives no text."""
    rows = sample_rows(resident)
    return PromptRequest(token_ids=rows[0] if rows else [resident.model.bos_id or 0])
