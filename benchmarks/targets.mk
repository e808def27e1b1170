bench: $(STAMP) ## run the benchmarks and write docs/performance.md (some minutes; close other programs)
	@$(BIN)/python -m benchmarks.report

bench-real: $(STAMP) ## the same on SmolLM2 and Gemma 3, where `nullscope get` and `make real-packages` have put them
	@$(BIN)/python -m benchmarks.report real
