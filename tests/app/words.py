"""Words of pydantic, FastAPI and Python that no reader of a refusal may meet."""

import re

FOREIGN = re.compile(
    r"[Ii]nput should|[Ii]nput string|should (have|be|match)|valid (integer|string|dictionary|list|number|boolean)"
    r"|[Ff]ield required|Extra inputs|Value error|function-(before|after|wrap)|literal\[|constrained-|\[type="
    r"|match pattern|<function|<class|NoneType|keyword argument|positional argument|has no attribute|invalid literal"
    r"|could not convert|Traceback|JSON decode|\b[a-z_]+\.\d+(\.[a-z_]+|:)|\\x00-|\[0-9"
)


def foreign(text: str) -> list[str]:
    """Each such word with what stands around it."""
    return [text[max(0, found.start() - 60) : found.end() + 60] for found in FOREIGN.finditer(text)]
