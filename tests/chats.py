"""Chat templates of the families that there are, for tiny tokenizers; written for the tests."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tests import tiny

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<<system>>be kind<<end>>{% endif %}"
    "{{ '<<' + m['role'] + '>>' + m['content'] + '<<end>>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<<assistant>>{% endif %}"
)
"""Every turn between two marks; a system turn of its own where none is given."""

WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m['role'] + ']\n' + m['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]\n' }}{% endif %}"
)
"""A BOS in front, turns trimmed and ended by EOS."""

INSTRUCTIONS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set said = '((' + messages[0]['content'] + '))\n' %}{% else %}{% set rest = messages %}{% set said = '' %}"
    "{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ '[Q] ' + (said if loop.first else '') + m['content'] + ' [/Q]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""The system's words inside the first question, no mark before an answer."""

NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}"
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

TEMPLATES = {"chatml": CHATML, "with BOS": WITH_BOS, "instructions": INSTRUCTIONS, "no system": NO_SYSTEM}

HOSTILE = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
    "changes": "{{ messages.append(1) }}",
}
"""What a sandbox is there to refuse."""


def tokenizer(template: str | None) -> Any:
    """The tiny tokenizer with a template."""
    made = deepcopy(tiny.tokenizer())
    made.chat_template = template
    return made
