"""A function named before its module is imported: registries stay quick to read, and torch waits until it is needed."""

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Later:
    """`Later("app.effects.answer:dose")`, called like the function itself; its module is imported at the first call."""

    path: str

    @cached_property
    def function(self) -> Any:
        """What the path names; ImportError or AttributeError where there is nothing (a test resolves every one)."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)

    @property
    def __name__(self) -> str:
        return self.path.partition(":")[2]

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(*args, **options)
