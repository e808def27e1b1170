"""Forward passes through the transformers modules themselves, without a hook point at every step.

TransformerLens' bridge puts a wrapper around each module, which costs a small model half of its time again. Most passes
need only the MLPs' activations and the residual stream behind a block, and for these torch's own hooks on two modules a
layer do. The modules are a copy, made before the bridge moves in, that shares every parameter with the bridge's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Hook = tuple[str, Callable[[Tensor], Tensor | None]]
"""(hook name, function of the activation): the function returns a new tensor, or None to leave it as it is."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a hook name means here: the first argument or the (first) output of a module."""

    module: nn.Module
    side: Literal["input", "output"]

    def hook(self, function: Callable[[Tensor], Tensor | None], shape: Sequence[int]) -> RemovableHandle:
        """``function`` at this site until the handle is removed; it sees (batch, pos, d), also where OPT has rows."""

        def changed(value: Tensor) -> Tensor | None:
            new = function(value.view(*shape, value.shape[-1]))
            return None if new is None else new.view(value.shape)

        def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            new = changed(args[0])
            return None if new is None else (new, *args[1:])

        def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, Tensor):
                return changed(output)
            new = changed(output[0])
            return None if new is None else (new, *output[1:])

        if self.side == "input":
            return self.module.register_forward_pre_hook(before)
        return self.module.register_forward_hook(after)


class Plain:
    """The copy. ``sites``: which of its modules the hook names mean, known once the bridge is built."""

    def __init__(self, hf_model: nn.Module) -> None:
        self._copies: dict[int, Any] = {id(x): x for x in chain(hf_model.parameters(), hf_model.buffers())}
        self.model: Any = deepcopy(hf_model, self._copies)
        self.sites: dict[str, Site] = {}

    def locate(self, blocks: Iterable[Any]) -> list[str]:
        """Find the sites of the bridge's ``blocks``, each of which knows the module that it wraps; their names."""
        for layer, block in enumerate(blocks):
            whole, out = (self._copies[id(part.original_component)] for part in (block, block.mlp.out))
            self.sites[f"blocks.{layer}.hook_resid_post"] = Site(whole, "output")
            self.sites[f"blocks.{layer}.mlp.hook_post"] = Site(out, "input")
            self.sites[f"blocks.{layer}.mlp.hook_out"] = Site(out, "output")
        self._copies.clear()
        return list(self.sites)

    def covers(self, names: Iterable[str]) -> bool:
        """Whether all of these can be reached without the bridge."""
        return self.sites.keys() >= set(names)

    def run(self, tokens: Int[Tensor, "batch pos"], hooks: Sequence[Hook], **more: Any) -> Any:
        """One forward pass up to the final norm, with hooks at sites that are covered. more: as transformers has it."""
        with ExitStack() as stack:
            for name, function in hooks:
                stack.callback(self.sites[name].hook(function, tokens.shape).remove)
            return self.model.base_model(input_ids=tokens, **({"use_cache": False} | more))


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two results of the same arithmetic differ by rounding only."""
    return float((a - b).abs().max()) <= 32 * torch.finfo(a.dtype).eps * float(b.abs().max())
