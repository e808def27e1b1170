"""A method for every question, made from app.registry by `make client`. Do not edit."""

from typing import Any, Literal

from app.atlas.view import (
    FrequencyOnPrompt,
    FrequencyView,
    NeuronsView,
    NullspaceShares,
    ReproduceView,
    SpectrumView,
    WalkView,
)
from app.core.jobs_view import AnswerJob
from app.core.view import EffectsView, TokensView, TraceView
from app.effects.view import DoseView, HeatmapView, JointView, LedgerView, LensView
from app.generate.dial_view import DialView
from app.generate.view import GenerateView
from app.induction.view import AttributionView, HeadAblationView, HeadsView, InductionView, NaturalView
from app.neuron.view import Live, NeuronView, Sample
from app.prompt.story_view import StoryView
from app.server.view import CheckView
from app.why.view import CircuitView, WhyCompareView, WhyTextView, WhyView
from nullscope.wire import Prompt, Wire, part


class Questions(Wire):
    """What can be asked of a model; the fields are described at /api/v1/openapi.json."""

    def tokens(self, prompt: Prompt, *, prepend_bos: bool | None = None) -> TokensView:
        """The prompt cut into tokens, beside the limit."""
        return self._ask_prompt(
            TokensView,
            "tokens",
            prompt,
            {
                "prepend_bos": prepend_bos,
            },
        )

    def trace(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        interventions: list[dict[str, Any]] | tuple[()] = (),
        neurons: list[str] | tuple[()] = (),
        top_k: int = 10,
        store: bool = False,
    ) -> TraceView:
        """Per-token entropy, loss, LN scale, KL to the unigram distribution; clean and intervened."""
        return self._ask_prompt(
            TraceView,
            "trace",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "interventions": interventions,
                "neurons": neurons,
                "top_k": top_k,
            },
            store=store,
        )

    def story(self) -> StoryView:
        """The paper's story in five steps: logits scaled, the LN scale held, a direction nobody reads, an entropy
        neuron and a frequency neuron turned, each exact."""
        return self._ask_get(StoryView, "story", {})

    def effects(
        self,
        prompt: Prompt,
        *,
        sort: str = "d_entropy.total",
        order: Literal["abs_desc", "desc", "asc"] = "abs_desc",
        offset: int = 0,
        limit: int = 50,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        position: int | None = None,
        baseline: Literal["mean", "prompt_mean", "zero"] | float = "mean",
        neurons: Literal["all"] | list[str] = "all",
        store: bool = False,
        **bounds: float,
    ) -> EffectsView:
        """Every last-layer neuron ablated by itself at one token: the exact effect and its parts."""
        return self._ask_prompt(
            EffectsView,
            "effects",
            prompt,
            {
                "sort": sort,
                "order": order,
                "offset": offset,
                "limit": limit,
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "position": position,
                "baseline": baseline,
                "neurons": neurons,
                **bounds,
            },
            store=store,
        )

    def heatmap(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        baseline: Literal["mean", "prompt_mean", "zero"] | float = "mean",
        neurons: Literal["all"] | list[str] = "all",
        metric: Literal["d_entropy", "d_loss", "d_kl_unigram", "kl"] = "d_entropy",
        part: Literal["total", "direct", "mlp_norm", "ln_mediated", "ln_only", "frequency_mediated"] = "total",
        sort: Literal["max_abs", "mean_abs", "mean", "neuron"] = "max_abs",
        limit: int = 64,
        store: bool = False,
    ) -> HeatmapView:
        """Every token by every last-layer neuron, each ablated by itself; the first rows by a column."""
        return self._ask_prompt(
            HeatmapView,
            "heatmap",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "baseline": baseline,
                "neurons": neurons,
                "metric": metric,
                "part": part,
                "sort": sort,
                "limit": limit,
            },
            store=store,
        )

    def joint(
        self,
        prompt: Prompt,
        neurons: list[str],
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        position: int | None = None,
        baseline: Literal["mean", "prompt_mean", "zero"] | float = "mean",
        store: bool = False,
    ) -> JointView:
        """A set of last-layer neurons ablated together, exactly, beside the sum of its neurons alone."""
        return self._ask_prompt(
            JointView,
            "joint",
            prompt,
            {
                "neurons": neurons,
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "position": position,
                "baseline": baseline,
            },
            store=store,
        )

    def dose(
        self,
        prompt: Prompt,
        neurons: list[str],
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        position: int | None = None,
        low: float | None = None,
        high: float | None = None,
        steps: int = 41,
        store: bool = False,
    ) -> DoseView:
        """A set's activations clamped from low to high: entropy, loss, LN scale and top-1 probability over the
        dose."""
        return self._ask_prompt(
            DoseView,
            "dose",
            prompt,
            {
                "neurons": neurons,
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "position": position,
                "low": low,
                "high": high,
                "steps": steps,
            },
            store=store,
        )

    def ledger(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        position: int | None = None,
        k: int | None = None,
        limit: int = 50,
        store: bool = False,
    ) -> LedgerView:
        """The squared LN scale at a token, split exactly over embedding, heads, MLPs, biases, and null and row
        space."""
        return self._ask_prompt(
            LedgerView,
            "ledger",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "position": position,
                "k": k,
                "limit": limit,
            },
            store=store,
        )

    def lens(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        scale: Literal["own", "frozen"] = "own",
        of: Literal["stream", "block"] = "stream",
        top_k: int = 5,
        store: bool = False,
    ) -> LensView:
        """The prompt read out behind every attention and MLP: entropy, loss, KL to the end, LN scale, top tokens."""
        return self._ask_prompt(
            LensView,
            "lens",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "scale": scale,
                "of": of,
                "top_k": top_k,
            },
            store=store,
        )

    def why(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        target: Literal["entropy", "loss", "log_prob"] = "entropy",
        token_id: int | None = None,
        token: str | None = None,
        baseline: Literal["reference", "prompt"] = "reference",
        interventions: list[dict[str, Any]] | tuple[()] = (),
        position: int | None = None,
        neurons: int = 12,
        ablate: bool = False,
        store: bool = False,
    ) -> WhyView:
        """A prediction's entropy, loss or log-probability split exactly over all that wrote to the stream."""
        return self._ask_prompt(
            WhyView,
            "why",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "target": target,
                "token_id": token_id,
                "token": token,
                "baseline": baseline,
                "interventions": interventions,
                "position": position,
                "neurons": neurons,
                "ablate": ablate,
            },
            store=store,
        )

    def start_why(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        target: Literal["entropy", "loss", "log_prob"] = "entropy",
        token_id: int | None = None,
        token: str | None = None,
        baseline: Literal["reference", "prompt"] = "reference",
        interventions: list[dict[str, Any]] | tuple[()] = (),
        position: int | None = None,
        neurons: int = 12,
        ablate: bool = False,
    ) -> AnswerJob[WhyView]:
        """As a job: `follow` it, then ask for `why_job`."""
        return self._ask_prompt(
            AnswerJob[WhyView],
            "why/jobs",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "target": target,
                "token_id": token_id,
                "token": token,
                "baseline": baseline,
                "interventions": interventions,
                "position": position,
                "neurons": neurons,
                "ablate": ablate,
            },
        )

    def why_job(self, name: str) -> AnswerJob[WhyView]:
        """How far it is, and its result once it has finished."""
        return self._get(AnswerJob[WhyView], f"{self.path}/why/jobs/{part(name)}")

    def cancel_why(self, name: str) -> AnswerJob[WhyView]:
        """Stop it after the step that it is at."""
        return self._post(AnswerJob[WhyView], f"{self.path}/why/jobs/{part(name)}/cancel", {})

    def why_text(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        target: Literal["entropy", "loss", "log_prob"] = "entropy",
        token_id: int | None = None,
        token: str | None = None,
        baseline: Literal["reference", "prompt"] = "reference",
        interventions: list[dict[str, Any]] | tuple[()] = (),
        limit: int = 12,
        store: bool = False,
    ) -> WhyTextView:
        """The same split at every position of the prompt."""
        return self._ask_prompt(
            WhyTextView,
            "why/text",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "target": target,
                "token_id": token_id,
                "token": token,
                "baseline": baseline,
                "interventions": interventions,
                "limit": limit,
            },
            store=store,
        )

    def start_why_text(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        target: Literal["entropy", "loss", "log_prob"] = "entropy",
        token_id: int | None = None,
        token: str | None = None,
        baseline: Literal["reference", "prompt"] = "reference",
        interventions: list[dict[str, Any]] | tuple[()] = (),
        limit: int = 12,
    ) -> AnswerJob[WhyTextView]:
        """As a job: `follow` it, then ask for `why_text_job`."""
        return self._ask_prompt(
            AnswerJob[WhyTextView],
            "why/text/jobs",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "target": target,
                "token_id": token_id,
                "token": token,
                "baseline": baseline,
                "interventions": interventions,
                "limit": limit,
            },
        )

    def why_text_job(self, name: str) -> AnswerJob[WhyTextView]:
        """How far it is, and its result once it has finished."""
        return self._get(AnswerJob[WhyTextView], f"{self.path}/why/text/jobs/{part(name)}")

    def cancel_why_text(self, name: str) -> AnswerJob[WhyTextView]:
        """Stop it after the step that it is at."""
        return self._post(AnswerJob[WhyTextView], f"{self.path}/why/text/jobs/{part(name)}/cancel", {})

    def why_compare(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        ln_scale: Literal["median"] | float | None = None,
        target: Literal["entropy", "loss", "log_prob"] = "entropy",
        token_id: int | None = None,
        token: str | None = None,
        baseline: Literal["reference", "prompt"] = "reference",
        interventions: list[dict[str, Any]] | tuple[()] = (),
        position: int | None = None,
        other_position: int | None = None,
        other_text: str | None = None,
        other_interventions: list[dict[str, Any]] | tuple[()] = (),
        other_ln_scale: Literal["median"] | float | None = None,
        neurons: int = 12,
        store: bool = False,
    ) -> WhyCompareView:
        """What makes the difference between two predictions, of one text or of two: each part's share here less
        there."""
        return self._ask_prompt(
            WhyCompareView,
            "why/compare",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "ln_scale": ln_scale,
                "target": target,
                "token_id": token_id,
                "token": token,
                "baseline": baseline,
                "interventions": interventions,
                "position": position,
                "other_position": other_position,
                "other_text": other_text,
                "other_interventions": other_interventions,
                "other_ln_scale": other_ln_scale,
                "neurons": neurons,
            },
            store=store,
        )

    def circuit(
        self,
        prompt: Prompt,
        component: str,
        *,
        prepend_bos: bool | None = None,
        of: Literal["activation", "entropy", "loss"] = "activation",
        position: int | None = None,
        average: bool = False,
        baseline: Literal["reference", "prompt"] = "reference",
        hops: int = 3,
        width: int = 200,
        most: int = 24,
        check: bool = False,
        store: bool = False,
    ) -> CircuitView:
        """What drives a neuron, or a component's share of the entropy: back over hops, edges checked on demand."""
        return self._ask_prompt(
            CircuitView,
            "circuit",
            prompt,
            {
                "component": component,
                "prepend_bos": prepend_bos,
                "of": of,
                "position": position,
                "average": average,
                "baseline": baseline,
                "hops": hops,
                "width": width,
                "most": most,
                "check": check,
            },
            store=store,
        )

    def start_circuit(
        self,
        prompt: Prompt,
        component: str,
        *,
        prepend_bos: bool | None = None,
        of: Literal["activation", "entropy", "loss"] = "activation",
        position: int | None = None,
        average: bool = False,
        baseline: Literal["reference", "prompt"] = "reference",
        hops: int = 3,
        width: int = 200,
        most: int = 24,
        check: bool = False,
    ) -> AnswerJob[CircuitView]:
        """As a job: `follow` it, then ask for `circuit_job`."""
        return self._ask_prompt(
            AnswerJob[CircuitView],
            "circuit/jobs",
            prompt,
            {
                "component": component,
                "prepend_bos": prepend_bos,
                "of": of,
                "position": position,
                "average": average,
                "baseline": baseline,
                "hops": hops,
                "width": width,
                "most": most,
                "check": check,
            },
        )

    def circuit_job(self, name: str) -> AnswerJob[CircuitView]:
        """How far it is, and its result once it has finished."""
        return self._get(AnswerJob[CircuitView], f"{self.path}/circuit/jobs/{part(name)}")

    def cancel_circuit(self, name: str) -> AnswerJob[CircuitView]:
        """Stop it after the step that it is at."""
        return self._post(AnswerJob[CircuitView], f"{self.path}/circuit/jobs/{part(name)}/cancel", {})

    def generate(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        max_new_tokens: int = 64,
        written: list[int] | tuple[()] = (),
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        stop: list[str] | tuple[()] = (),
        stop_at_eos: bool = True,
        interventions: list[dict[str, Any]] | tuple[()] = (),
        apply_to: Literal["all", "prompt", "new"] = "all",
        neurons: list[str] | tuple[()] = (),
        top_neurons: int = 0,
        alternatives: int = 5,
        store: bool = False,
    ) -> GenerateView:
        """The prompt continued, with the confidence of every written token and the neurons that set it."""
        return self._ask_prompt(
            GenerateView,
            "generate",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "max_new_tokens": max_new_tokens,
                "written": written,
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "seed": seed,
                "stop": stop,
                "stop_at_eos": stop_at_eos,
                "interventions": interventions,
                "apply_to": apply_to,
                "neurons": neurons,
                "top_neurons": top_neurons,
                "alternatives": alternatives,
            },
            store=store,
        )

    def dial(
        self,
        prompt: Prompt,
        dials: list[dict[str, Any]],
        *,
        prepend_bos: bool | None = None,
        max_new_tokens: int = 40,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        seeds: int = 1,
        stop_at_eos: bool = True,
        twins: bool = True,
        store: bool = False,
    ) -> DialView:
        """The prompt continued with neurons turned up or down, beside the temperature and the random neurons of the
        same change of entropy."""
        return self._ask_prompt(
            DialView,
            "dial",
            prompt,
            {
                "dials": dials,
                "prepend_bos": prepend_bos,
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "seed": seed,
                "seeds": seeds,
                "stop_at_eos": stop_at_eos,
                "twins": twins,
            },
            store=store,
        )

    def start_dial(
        self,
        prompt: Prompt,
        dials: list[dict[str, Any]],
        *,
        prepend_bos: bool | None = None,
        max_new_tokens: int = 40,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        seeds: int = 1,
        stop_at_eos: bool = True,
        twins: bool = True,
    ) -> AnswerJob[DialView]:
        """As a job: `follow` it, then ask for `dial_job`."""
        return self._ask_prompt(
            AnswerJob[DialView],
            "dial/jobs",
            prompt,
            {
                "dials": dials,
                "prepend_bos": prepend_bos,
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "seed": seed,
                "seeds": seeds,
                "stop_at_eos": stop_at_eos,
                "twins": twins,
            },
        )

    def dial_job(self, name: str) -> AnswerJob[DialView]:
        """How far it is, and its result once it has finished."""
        return self._get(AnswerJob[DialView], f"{self.path}/dial/jobs/{part(name)}")

    def cancel_dial(self, name: str) -> AnswerJob[DialView]:
        """Stop it after the step that it is at."""
        return self._post(AnswerJob[DialView], f"{self.path}/dial/jobs/{part(name)}/cancel", {})

    def neurons(
        self,
        *,
        sort: str = "norm_over_logit_var",
        order: Literal["abs_desc", "desc", "asc"] = "desc",
        offset: int = 0,
        limit: int = 50,
        layer: int | None = None,
        k: int | None = None,
        sweep: str | None = None,
        label: Literal["entropy", "token-frequency", "prediction", "suppression", "partition"] | None = None,
        neurons: str = "",
        **bounds: float,
    ) -> NeuronsView:
        """Every MLP neuron by its weights: filtered, sorted, a page at a time, with labels and their conditions."""
        return self._ask_get(
            NeuronsView,
            "neurons",
            {
                "sort": sort,
                "order": order,
                "offset": offset,
                "limit": limit,
                "layer": layer,
                "k": k,
                "sweep": sweep,
                "label": label,
                "neurons": neurons,
                **bounds,
            },
        )

    def spectrum(self, *, k: int | None = None, vocab_centred: bool = True) -> SpectrumView:
        """Singular values of W_U, the knee and how steep it is, rho by layer, random controls."""
        return self._ask_get(
            SpectrumView,
            "spectrum",
            {
                "k": k,
                "vocab_centred": vocab_centred,
            },
        )

    def nullspace(
        self, *, k: int | None = None, vocab_centred: bool = True, layer: int | None = None
    ) -> NullspaceShares:
        """How much of what a layer's neurons, the heads and the embeddings write lies in the null space."""
        return self._ask_get(
            NullspaceShares,
            "nullspace",
            {
                "k": k,
                "vocab_centred": vocab_centred,
                "layer": layer,
            },
        )

    def walk(
        self,
        prompt: Prompt,
        *,
        prepend_bos: bool | None = None,
        position: int | None = None,
        direction: int | None = None,
        reach: float = 8.0,
        vocab_centred: bool = True,
    ) -> WalkView:
        """A prompt's last residual stream moved along one singular vector of W_U: LN scale, entropy, log-
        probabilities."""
        return self._ask_prompt(
            WalkView,
            "walk",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "position": position,
                "direction": direction,
                "reach": reach,
                "vocab_centred": vocab_centred,
            },
        )

    def frequency(self) -> FrequencyView:
        """Where the token counts come from, the neurons' alignment with them, softmax(b_U) against them."""
        return self._ask_get(FrequencyView, "frequency", {})

    def frequency_on(
        self, prompt: Prompt, *, prepend_bos: bool | None = None, neuron: str | None = None, position: int | None = None
    ) -> FrequencyOnPrompt:
        """KL(P_freq ‖ P) over a prompt, and the distribution with one neuron ablated at a token."""
        return self._ask_prompt(
            FrequencyOnPrompt,
            "frequency",
            prompt,
            {
                "prepend_bos": prepend_bos,
                "neuron": neuron,
                "position": position,
            },
        )

    def reproduce(self) -> ReproduceView:
        """Values that the literature publishes for this model beside what is found here; 404 where there are none."""
        return self._ask_get(ReproduceView, "reproduce", {})

    def neuron(self, neuron: str, *, k: int | None = None, sweep: str | None = None) -> NeuronView:
        """One neuron: weights, cosines with every singular vector, direct logit effect, frequency, sweep evidence."""
        return self._ask_get(
            NeuronView,
            f"neurons/{part(neuron)}",
            {
                "k": k,
                "sweep": sweep,
            },
        )

    def neuron_on(self, neuron: str, prompt: Prompt, *, prepend_bos: bool | None = None) -> Live:
        """One neuron on a prompt: its activation, its effect on entropy token by token, and its activation held
        fixed."""
        return self._ask_prompt(
            Live,
            f"neurons/{part(neuron)}",
            prompt,
            {
                "prepend_bos": prepend_bos,
            },
        )

    def neuron_sample(self, neuron: str) -> Sample:
        """Where in the model's sample text a neuron is most active, and where it changes entropy most."""
        return self._ask_get(Sample, f"neurons/{part(neuron)}/sample", {})

    def induction(
        self,
        *,
        kind: Literal["natural", "random", "text"] = "natural",
        text: str | None = None,
        seed: int = 0,
        rows: int = 16,
        length: int | None = None,
        copies: int = 2,
        separator: str = "",
        corrupt: int = 0,
        corrupt_at: list[int] | tuple[()] = (),
        neurons: list[str] | tuple[()] = (),
        clip: list[str] | tuple[()] = (),
        controls: int = 20,
        limit: int = 50,
        store: bool = False,
    ) -> InductionView:
        """Repeated text: curves by position, every last-layer neuron by its weighted difference, clipped ablation."""
        return self._ask_post(
            InductionView,
            "induction",
            {
                "kind": kind,
                "text": text,
                "seed": seed,
                "rows": rows,
                "length": length,
                "copies": copies,
                "separator": separator,
                "corrupt": corrupt,
                "corrupt_at": corrupt_at,
                "neurons": neurons,
                "clip": clip,
                "controls": controls,
                "limit": limit,
            },
            store=store,
        )

    def heads(
        self,
        *,
        seed: int = 0,
        rows: int = 8,
        length: int | None = None,
        pattern: str | None = None,
        store: bool = False,
    ) -> HeadsView:
        """Induction scores of every attention head, and one head's pattern."""
        return self._ask_post(
            HeadsView,
            "heads",
            {
                "seed": seed,
                "rows": rows,
                "length": length,
                "pattern": pattern,
            },
            store=store,
        )

    def attribution(
        self,
        neuron: str,
        *,
        kind: Literal["natural", "random", "text"] = "natural",
        text: str | None = None,
        seed: int = 0,
        rows: int = 16,
        length: int | None = None,
        copies: int = 2,
        separator: str = "",
        corrupt: int = 0,
        corrupt_at: list[int] | tuple[()] = (),
        store: bool = False,
    ) -> AttributionView:
        """A last-layer neuron's pre-activation, split exactly over heads, MLPs and the embedding (norm scale
        frozen)."""
        return self._ask_post(
            AttributionView,
            "induction/attribution",
            {
                "neuron": neuron,
                "kind": kind,
                "text": text,
                "seed": seed,
                "rows": rows,
                "length": length,
                "copies": copies,
                "separator": separator,
                "corrupt": corrupt,
                "corrupt_at": corrupt_at,
            },
            store=store,
        )

    def head_ablation(
        self,
        heads: list[str],
        neurons: list[str],
        *,
        kind: Literal["natural", "random", "text"] = "natural",
        text: str | None = None,
        seed: int = 0,
        rows: int = 4,
        length: int | None = None,
        copies: int = 2,
        separator: str = "",
        corrupt: int = 0,
        corrupt_at: list[int] | tuple[()] = (),
        mode: Literal["bos", "mean", "zero"] = "bos",
        random: int = 3,
        queries: int = 32,
        store: bool = False,
    ) -> HeadAblationView:
        """BOS, mean or zero ablation of heads, each query of the repeat by itself, against random heads."""
        return self._ask_post(
            HeadAblationView,
            "induction/ablation",
            {
                "heads": heads,
                "neurons": neurons,
                "kind": kind,
                "text": text,
                "seed": seed,
                "rows": rows,
                "length": length,
                "copies": copies,
                "separator": separator,
                "corrupt": corrupt,
                "corrupt_at": corrupt_at,
                "mode": mode,
                "random": random,
                "queries": queries,
            },
            store=store,
        )

    def start_head_ablation(
        self,
        heads: list[str],
        neurons: list[str],
        *,
        kind: Literal["natural", "random", "text"] = "natural",
        text: str | None = None,
        seed: int = 0,
        rows: int = 4,
        length: int | None = None,
        copies: int = 2,
        separator: str = "",
        corrupt: int = 0,
        corrupt_at: list[int] | tuple[()] = (),
        mode: Literal["bos", "mean", "zero"] = "bos",
        random: int = 3,
        queries: int = 32,
    ) -> AnswerJob[HeadAblationView]:
        """As a job: `follow` it, then ask for `head_ablation_job`."""
        return self._ask_post(
            AnswerJob[HeadAblationView],
            "induction/ablation/jobs",
            {
                "heads": heads,
                "neurons": neurons,
                "kind": kind,
                "text": text,
                "seed": seed,
                "rows": rows,
                "length": length,
                "copies": copies,
                "separator": separator,
                "corrupt": corrupt,
                "corrupt_at": corrupt_at,
                "mode": mode,
                "random": random,
                "queries": queries,
            },
        )

    def head_ablation_job(self, name: str) -> AnswerJob[HeadAblationView]:
        """How far it is, and its result once it has finished."""
        return self._get(AnswerJob[HeadAblationView], f"{self.path}/induction/ablation/jobs/{part(name)}")

    def cancel_head_ablation(self, name: str) -> AnswerJob[HeadAblationView]:
        """Stop it after the step that it is at."""
        return self._post(AnswerJob[HeadAblationView], f"{self.path}/induction/ablation/jobs/{part(name)}/cancel", {})

    def natural_repeats(
        self, *, text: str | None = None, clip: list[str] | tuple[()] = (), passages: int = 64, store: bool = False
    ) -> NaturalView:
        """6-grams that occur twice in the sample text, or in your own: both occurrences laid over each other."""
        return self._ask_post(
            NaturalView,
            "induction/natural",
            {
                "text": text,
                "clip": clip,
                "passages": passages,
            },
            store=store,
        )

    def check(self) -> CheckView:
        """The identities that the numbers rest on, tried live on the resident weights."""
        return self._ask_get(CheckView, "check", {})
