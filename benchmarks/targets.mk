bench: $(STAMP) ## run the benchmarks and write docs/performance.md (some minutes; close other programs)
	@$(BIN)/python -m benchmarks.report
