"""Corpus sweeps: what ablating every neuron does over a text, with intervals (paper sections 3 and 4; METHODS section
3).

config    SweepConfig: what is asked for          plan      shards of rows, drawn tokens
worker    one shard on one model                  hooked    neurons of earlier layers, by forward passes
measures, sums, baselines, result                 what is measured, summed, merged and read
run       start, run, read, partial: a run folder from documents to result
"""

from analysis.sweep.config import SweepBaseline, SweepConfig
from analysis.sweep.measures import CONDITIONS, EXAMPLE_LISTS, MEASURES, SAMPLED
from analysis.sweep.result import Result

__all__ = ["CONDITIONS", "EXAMPLE_LISTS", "MEASURES", "SAMPLED", "Result", "SweepBaseline", "SweepConfig"]
