# The finished sweep that ships with the bundled model: every last-layer neuron over its sample text.
# Included by the Makefile; `make demo-sweep` takes a minute or two on two cores.
SWEEP_PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
SWEEP_OUT := models/demo/sweep

.PHONY: demo-sweep
demo-sweep: ## recompute models/demo/sweep for the weights in models/demo
	rm -rf $(SWEEP_OUT).new
	$(SWEEP_PYTHON) -m app sweep run $(SWEEP_OUT).new --shard-rows 8 --sample-tokens 256 --executor processes --workers 2 --compact
	rm -rf $(SWEEP_OUT)
	mv $(SWEEP_OUT).new $(SWEEP_OUT)
