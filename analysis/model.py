"""A resident model: loading, tokens, forward passes with hooks, weights. The only importer of transformer_lens.

The model is run through TransformerLens' bridge, so hook names are the field's (``blocks.3.mlp.hook_post``); weights
stay as they were loaded. Nothing of any user is kept: hooks live inside one call and are gone afterwards, also after an
exception. Not thread-safe: hooks are global to the model, so one thread owns it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis import folder as folders
from analysis import loading
from analysis.folder import hash_files as hash_files
from analysis.folder import weight_files
from analysis.identity import identify
from analysis.metrics import wide
from analysis.passes import Passes
from analysis.plain import Hook as Hook
from analysis.plain import Plain, close
from analysis.readout import PostNorm, Readout, SelfCheck, fold
from analysis.registry import ModelSpec
from analysis.tokens import Tokenized
from analysis.types import InputError, NeuronId, UnsupportedModelError

_PROBE_TOKENS = 12


class Model(Tokenized, Passes):
    """A loaded causal language model with its Readout. Build it with `load` (or `from_objects` in tests)."""

    def __init__(self, spec: ModelSpec, bridge: Any, plain: Plain, tokenizer: Any, *, weights_sha256: str) -> None:
        self.spec = spec
        self.key = spec.key
        self.weights_sha256 = weights_sha256
        self.tokenizer = tokenizer
        self._bridge = bridge
        self._plain = plain
        self.transformers: Any = plain.model  # its own model on the same parameters, hooked inside a run only
        config = bridge.cfg
        self.n_layers: int = config.n_layers
        self.n_heads: int = config.n_heads
        self.d_model: int = config.d_model
        self.d_mlp: int = bridge.blocks[config.n_layers - 1].mlp.W_out.shape[0]  # cfg.d_mlp is guessed for OPT
        self.d_head: int = config.d_head
        self.n_ctx: int = config.n_ctx
        self.d_vocab: int = bridge.original_model.config.vocab_size
        self.norm: Literal["LN", "RMS"] = "RMS" if config.uses_rms_norm else "LN"
        self.gated: bool = bool(config.gated_mlp)
        self.parallel: bool = bool(config.parallel_attn_mlp)
        parameter = next(bridge.original_model.parameters())
        self.device: torch.device = parameter.device
        self.dtype: torch.dtype = parameter.dtype
        self.identity = identify(weights_sha256, self.dtype, bridge.original_model.config, tokenizer)
        self.architecture = type(bridge.original_model).__name__
        self.readout = self._fold()
        self.self_check = self._check_readout()
        self._take_short_way()

    # tokens

    def tokens(self, ids: Sequence[int]) -> Int[Tensor, "1 pos"]:
        """One row of ids on the model's device; InputError when there are none, too many, or unknown ones."""
        if not ids:
            raise InputError("The text is empty.", code="empty_text", hint="Give at least one token.")
        if len(ids) > self.n_ctx:
            raise InputError(
                f"The text has {len(ids)} tokens, {self.key} reads at most {self.n_ctx}.",
                code="too_many_tokens",
                hint="Shorten the text.",
            )
        for index in ids:
            if not 0 <= index < self.d_vocab:
                raise InputError(
                    f"Token id {index} is outside the vocabulary.",
                    code="unknown_token",
                    hint=f"Ids run from 0 to {self.d_vocab - 1}.",
                )
        return torch.tensor([list(ids)], device=self.device)

    # forward passes

    @torch.inference_mode()
    def run(
        self, tokens: Int[Tensor, "batch pos"], *, capture: Sequence[str] = (), hooks: Sequence[Hook] = ()
    ) -> dict[str, Tensor]:
        """One forward pass up to the final norm (no logits); the activations captured, by hook name.

        User hooks run first, so what is captured is what the rest of the model saw.
        """
        captured, _ = self._run(tokens, capture, hooks, use_cache=False)
        return captured

    @torch.inference_mode()
    def extend(
        self,
        tokens: Int[Tensor, "1 pos"],
        cache: Any = None,
        *,
        capture: Sequence[str] = (),
        hooks: Sequence[Hook] = (),
    ) -> tuple[dict[str, Tensor], Any]:
        """`run` on tokens that follow those in ``cache`` (keys and values; None: they are the first), and the cache
        with them in it, which is changed in place."""
        return self._run(tokens, capture, hooks, use_cache=True, past_key_values=cache)

    def _run(
        self, tokens: Int[Tensor, "batch pos"], capture: Sequence[str], hooks: Sequence[Hook], **more: Any
    ) -> tuple[dict[str, Tensor], Any]:
        self.begin()
        captured: dict[str, Tensor] = {}

        def keep(name: str) -> Hook:
            def store(value: Tensor) -> None:
                captured[name] = value

            return name, store

        every = [*hooks, *map(keep, capture)]
        if self._plain.covers(name for name, _ in every):
            out = self._plain.run(tokens, every, **more)
        else:
            with self._hooked(every):
                out = self._bridge.original_model.base_model(input_ids=tokens, **more)
            missing = set(capture) - captured.keys()
            if missing:
                raise UnsupportedModelError(f"{self.architecture} never reaches the hooks {sorted(missing)}.")
        return captured, getattr(out, "past_key_values", None)

    def _take_short_way(self) -> None:
        """Let runs go without the bridge where they can; not where it computes differently (NeoX in float64), for clean
        and hooked runs are compared."""
        names = self._plain.locate(self._bridge.blocks)
        tokens = self._probe()
        expected = self.run(tokens, capture=[*names, "ln_final.hook_scale"])  # the last one only the bridge has
        if not all(close(value, expected[name]) for name, value in self.run(tokens, capture=names).items()):
            self._plain.sites.clear()

    @torch.inference_mode()
    def logits(
        self, tokens: Int[Tensor, "batch pos"], *, hooks: Sequence[Hook] = ()
    ) -> Float[Tensor, "batch pos d_vocab"]:
        """The model's own logits, in its own dtype."""
        self.begin()
        with self._hooked(hooks):
            logits: Tensor = self._bridge.original_model(input_ids=tokens, use_cache=False).logits
        return logits

    def _hooked(self, hooks: Sequence[Hook]) -> Any:
        def adapt(function: Callable[[Tensor], Tensor | None]) -> Callable[..., Tensor | None]:
            return lambda value, hook: function(value)

        return self._bridge.hooks(fwd_hooks=[(name, adapt(function)) for name, function in hooks])

    @torch.inference_mode()
    def generate(self, ids: Sequence[int], n_tokens: int) -> list[int]:
        """``ids`` continued greedily by ``n_tokens`` tokens (or to n_ctx), without what `analysis.generate` tells."""
        out = list(ids)
        step, cache = self.tokens(ids), None
        for _ in range(min(n_tokens, self.n_ctx - len(ids))):
            result = self.transformers(input_ids=step, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            step = result.logits[:, -1:].argmax(-1)
            out.append(int(step))
        return out

    # weights, raw, named as in TransformerLens

    def W_in(self, layer: int) -> Float[Tensor, "d_model d_mlp"]:
        """Input weights (of the linear, ungated half in a gated MLP)."""
        return self._weight(layer, "W_in")

    def W_gate(self, layer: int) -> Float[Tensor, "d_model d_mlp"] | None:
        return self._weight(layer, "W_gate") if self.gated else None

    def W_out(self, layer: int) -> Float[Tensor, "d_mlp d_model"]:
        return self._weight(layer, "W_out")

    def write_rows(self, layer: int, neurons: slice = slice(None)) -> Float[Tensor, "n d_model"]:
        """What the final norm sees of each neuron's unit activation: ``W_out`` centred for LayerNorm, times the gain of
        the norm after the MLP where there is one (whose scale depends on the activations and is left out)."""
        rows = wide(self.W_out(layer)[neurons])
        post = getattr(self._bridge.blocks[layer], "ln2_post", None)
        if post is not None:
            rows = rows * (wide(_norm_parameters(post)["weight"]) + self._gain_offset)
        return self.readout.centre(rows)

    def post_attention_gain(self, layer: int) -> Float[Tensor, " d_model"] | None:
        """The gain of the norm between a layer's attention and the residual stream, where there is one."""
        post = getattr(self._bridge.blocks[layer], "ln1_post", None)
        return None if post is None else wide(_norm_parameters(post)["weight"]) + self._gain_offset

    @property
    def _gain_offset(self) -> float:
        return 1.0 if self._bridge.cfg.rmsnorm_uses_offset else 0.0

    def mlp_bias(self, layer: int, name: Literal["b_in", "b_out"]) -> Tensor | None:
        found: Tensor | None = getattr(self._bridge.blocks[layer].mlp, name)
        return None if found is None else found.detach()

    def mlp_norm(self, layer: int) -> tuple[Float[Tensor, " d_model"] | None, Float[Tensor, " d_model"] | None]:
        """Gain (with the architecture's offset, if any) and bias of the norm that an MLP reads through."""
        block = self._bridge.blocks[layer]
        norm = _norm_parameters(getattr(block, "ln2", None) or block.ln1)  # one norm for both in Phi
        gain = norm.get("weight")
        return None if gain is None else gain + self._gain_offset, norm.get("bias")

    def attention_norm(self, layer: int) -> tuple[Float[Tensor, " d_model"] | None, Float[Tensor, " d_model"] | None]:
        """Gain (with the architecture's offset, if any) and bias of the norm that an attention reads through."""
        norm = _norm_parameters(self._bridge.blocks[layer].ln1)
        gain = norm.get("weight")
        return None if gain is None else gain + self._gain_offset, norm.get("bias")

    def activation(self, layer: int) -> Callable[[Tensor], Tensor]:
        """The function between an MLP's input and its neurons (of the gate in a gated MLP)."""
        mlp = self._bridge.blocks[layer].mlp._original_component
        found: Callable[[Tensor], Tensor] = next(
            getattr(mlp, name) for name in ("act", "act_fn", "activation_fn") if hasattr(mlp, name)
        )
        return found

    @property
    def eps(self) -> float:
        """What the norms add to a mean square."""
        return float(self._bridge.cfg.eps)

    def W_V(self, layer: int) -> Float[Tensor, "n_heads d_model d_head"]:
        """Value weights, those of shared keys and values once a head."""
        found: Tensor = self._bridge.blocks[layer].attn.W_V
        return found.detach().repeat_interleave(self.n_heads // found.shape[0], 0)

    def W_O(self, layer: int) -> Float[Tensor, "n_heads d_head d_model"]:
        found: Tensor = self._bridge.blocks[layer].attn.W_O
        return found.detach()

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        found: Tensor = self._bridge.W_E
        return found.detach()

    def module(self, name: str) -> torch.nn.Module:
        """A submodule of the bridge by dotted name (``blocks.2.ln2``), for what the accessors above do not give."""
        found: torch.nn.Module = self._bridge.get_submodule(name)
        return found

    def _weight(self, layer: int, name: str) -> Tensor:
        found: Tensor = getattr(self._bridge.blocks[layer].mlp, name)
        return found.detach()

    def check_neuron(self, neuron: NeuronId) -> NeuronId:
        return neuron.check(n_layers=self.n_layers, d_mlp=self.d_mlp)

    @property
    def last_layer(self) -> int:
        return self.n_layers - 1

    # the readout

    def _fold(self) -> Readout:
        bridge = self._bridge
        offset = self._gain_offset
        norm = _norm_parameters(bridge.ln_final)
        post = getattr(bridge.blocks[self.last_layer], "ln2_post", None)
        head = bridge.original_model.get_output_embeddings()
        cap = getattr(bridge.original_model.config, "final_logit_softcapping", None)
        gain = norm.get("weight")
        with torch.no_grad():
            return fold(
                W_U=wide(head.weight).T,
                b_U=None if head.bias is None else wide(head.bias),
                W_out=wide(self.W_out(self.last_layer)),
                gain=torch.ones(self.d_model, device=self.device) if gain is None else wide(gain) + offset,
                bias=wide(norm["bias"]) if norm.get("bias") is not None else None,
                eps=float(bridge.cfg.eps),
                layer_norm=self.norm == "LN",
                known=self.known,
                soft_cap=float(cap) if cap else None,
                post_norm=None
                if post is None
                else PostNorm(wide(_norm_parameters(post)["weight"]) + offset, float(bridge.cfg.eps)),
            )

    def _check_readout(self) -> SelfCheck:
        """Refuse a model for which the Readout is not the model's own last layer."""
        tokens = self._probe()
        generator = torch.Generator().manual_seed(0)
        change = torch.randn(tokens.shape[1], self.d_mlp, generator=generator, dtype=torch.float64).to(self.device)
        change = change.to(self.readout.W_U.dtype)
        last = f"blocks.{self.last_layer}"
        resid, mlp_out, post = f"{last}.hook_resid_post", f"{last}.mlp.hook_out", f"{last}.mlp.hook_post"
        try:
            captured = self.run(tokens, capture=(resid, mlp_out, post))
        except RuntimeError as error:  # TransformerLens 4.3 mixes dtypes in OLMo 2's attention under bfloat16
            raise UnsupportedModelError(
                f"{self.key} ({self.architecture}) does not run in {self.dtype}: {error}", hint="Try --dtype float32."
            ) from error
        moved = self.run(tokens, capture=(resid, post), hooks=[(post, lambda n: (n + change.to(n.dtype)).view_as(n))])
        with torch.inference_mode():
            x = wide(captured[resid])[0]
            own = wide(self.logits(tokens))[0]
            self._refuse_no_numbers(own)
            logits_error = float((self.readout.log_probs(x) - own.log_softmax(-1)).abs().max())
            delta = wide(moved[post])[0] - wide(captured[post])[0]
            predicted = self.readout.write(x, wide(captured[mlp_out])[0], delta, wide(self.W_out(self.last_layer)))
            difference = predicted - wide(moved[resid])[0]
            write_error = float(difference.abs().max() / wide(moved[resid]).abs().max())
        norm_in_float32 = self.dtype == torch.float64 and self.norm == "RMS"
        eps = torch.finfo(torch.float32 if norm_in_float32 else self.dtype).eps
        check = SelfCheck(logits_error, write_error, self._tolerance(), eps * float(own.abs().max()))
        if not check.holds:
            raise UnsupportedModelError(
                f"The last layer of {self.key} ({self.architecture}) is not what the closed form assumes: "
                f"log-probabilities differ by {logits_error:.3g}, the written residual by {write_error:.3g}, "
                f"allowed are {max(check.tolerance, check.rounding):.3g} and {check.tolerance:.3g}.",
                hint="Its numbers would be wrong, so it is refused. Another dtype helps where rounding is the cause.",
            )
        return check

    def _refuse_no_numbers(self, logits: Tensor) -> None:
        """With them every comparison fails or holds for nothing, and the closed form is not what is wrong."""
        wrong = int((~logits.isfinite()).sum())
        if wrong:
            raise UnsupportedModelError(
                f"{self.key} ({self.architecture}) answers {wrong} of {logits.numel()} logits with NaN or infinity.",
                hint="A value of its config.json or a weight is out of range; or try --dtype float32.",
            )

    def _probe(self) -> Int[Tensor, "1 pos"]:
        generator = torch.Generator().manual_seed(0)
        places = torch.randint(self.n_tokens, (1, min(_PROBE_TOKENS, self.n_ctx)), generator=generator)
        return self.known[places].to(self.device)

    def _tolerance(self) -> float:
        """METHODS section 1; transformers computes RMS norms in float32 whatever the dtype."""
        of_double = 1e-6 if self.norm == "RMS" else 1e-9
        return {torch.float64: of_double, torch.float32: 1e-4}.get(self.dtype, 3e-2)


def _norm_parameters(norm: Any) -> dict[str, Tensor]:
    """The gain and bias of a norm's original module."""
    return {name: parameter.detach() for name, parameter in norm._original_component.named_parameters()}


def load(
    spec: ModelSpec, *, folder: Path | None = None, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Model:
    """Load a model folder (``folder``, else the spec's own) and check its readout.

    safetensors only, no remote code, no network. UnsupportedModelError when a weight is missing, left over or of
    another shape, when the folder brings code or an adapter, and when the closed form does not hold for it; InputError
    when the files change meanwhile. What becomes of them afterwards changes nothing in the model.
    """
    if (path := folder or spec.folder) is None:
        raise InputError(f"{spec.key} has not been downloaded.", hint="Serve it once with the network on.")
    there = folders.stamps(path)
    hf_model = loading.owned(loading.weights(path, spec.key, dtype).to(device)).eval()
    tokenizer = loading.tokenizer(path, spec.key)
    weights_sha256 = hash_files(weight_files(path, spec.key))  # not what else lies there: means, an old checkpoint
    if folders.stamps(path) != there:
        raise InputError(
            f"The files of {spec.key} changed while they were read.",
            code="folder_changed",
            hint="Load it again once they are whole.",
        )
    with loading.explained(f"{spec.key} ({type(hf_model).__name__}) cannot be served", path, spec.key, hint=None):
        told = replace(spec, dequantized=folders.dequantized(path))
        return from_objects(told, hf_model, tokenizer, weights_sha256=weights_sha256)


def from_objects(spec: ModelSpec, hf_model: Any, tokenizer: Any, *, weights_sha256: str) -> Model:
    """A Model around a transformers model and tokenizer that are already in memory (tests build random ones so)."""
    # boot_transformers would load the tokenizer again from its source; only the module bridge is needed here.
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    plain = Plain(hf_model)
    try:
        bridge = build_bridge_from_module(hf_model, type(hf_model).__name__, hf_config=hf_model.config)
    except ValueError as error:
        raise UnsupportedModelError(
            f"TransformerLens knows no {type(hf_model).__name__}.", hint="Its hooks are needed to see the activations."
        ) from error
    loading.require_parts(bridge, spec.key, type(hf_model).__name__)
    return Model(spec, bridge, plain, tokenizer, weights_sha256=weights_sha256)
