"""The recipe of the bundled model: tokenizer, rows, model, optimiser, loop, export, evaluation. See README.md."""
