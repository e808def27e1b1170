"""The induction lab: what happens to confidence when a text repeats itself (paper section 5; METHODS section 5).

    sequences      texts that repeat themselves: natural, random, the user's own, with a corrupted second copy
    measure        metrics and last-layer activations of a batch of rows, clean or hooked
    curves         mean and band over rows, by position
    differences    which last-layer neurons change from the first copy to the repeat
    clipped        those changes taken back: entropy and loss of the repeat, with frozen-LN twin and random controls
    heads          induction scores of attention heads, attention patterns
    head_ablation  heads that read BOS (or their mean, or nothing) at one query, and what the neurons do then
    attribution    which head, MLP or embedding a last-layer neuron's pre-activation comes from
    natural        6-grams that occur twice in a natural text, and aligned curves over both occurrences

Long work is a generator of `steps.Progress` whose return value is the result, so that whoever runs it can stop between
two batches; `steps.complete` runs one to its end.
"""
