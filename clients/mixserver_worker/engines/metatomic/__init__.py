"""The metatomic engine: how an exported model is loaded and gives site energies.

`engines.torch` does the rest.

1. `model` reads and checks a model
2. `site_energies` gives it atoms and the neighbour lists that it asks for
3. `self_test` compares this with the model's own result, also for how far it looks
"""
