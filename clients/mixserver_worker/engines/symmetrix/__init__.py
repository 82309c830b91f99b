"""MACE models on the compiled kernels of symmetrix-xl.

The chain from a model file to results:

1. `package` imports symmetrix-xl and checks that it has the interface used here
2. `conversion` writes the model in its format; `model_cache` keeps the result by fingerprint
3. `active_edges` reduces a graph with skin to the atoms and edges of one evaluation
4. `stages` evaluates weighted sites, stage by stage, with pruned layers; `repulsion` adds ZBL
5. `whole` evaluates sites of equal weight with code compiled for the model, which is faster
6. `self_test` compares weighted, pruned sites with mace's own module when the model is loaded

`engine` connects them to jobs, `choice` falls back to the torch engine.
"""
