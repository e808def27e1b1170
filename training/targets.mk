# The bundled model. Included by the Makefile; training/README.md says what each step does.
TEXT ?= ../shared/data/text/train
EVAL ?= ../shared/data/text/eval
RUN ?= training/runs/demo
DEMO ?= models/demo
TRAIN_THREADS ?= 1
TRAIN = nice -n 19 $(BIN)/python -m

.PHONY: train-demo demo-bar train-dropout

train-demo: $(STAMP) ## train the bundled model from the books in TEXT (hours; goes on where it stopped)
	$(TRAIN) training.texts --text $(TEXT) --run $(RUN)
	$(TRAIN) training.loop --run $(RUN) --threads $(TRAIN_THREADS) --compile
	$(TRAIN) training.export --run $(RUN) --to $(DEMO)
	$(TRAIN) training.companions --run $(RUN) --model $(DEMO)
	$(TRAIN) training.history --run $(RUN) --model $(DEMO)
	$(TRAIN) training.bar --model $(DEMO) --text $(EVAL) --card $(DEMO)/figures.json

demo-bar: $(STAMP) ## print each line of the bundled model's bar with its figure, pass or miss (minutes)
	$(BIN)/python -m training.bar --model $(DEMO) --text $(EVAL)

train-dropout: $(STAMP) ## the appendix run: the same recipe with dropout 0.1, for its spectrum
	$(TRAIN) training.texts --text $(TEXT) --run $(RUN)-dropout
	$(TRAIN) training.loop --run $(RUN)-dropout --set shape.dropout=0.1 --threads $(TRAIN_THREADS) --compile
	$(TRAIN) training.spectra --run $(RUN) --dropped $(RUN)-dropout --model $(DEMO)
