"""The MACE engine: how a model is loaded and gives site energies; `engines.torch` does the rest.

1. `model` reads and checks the model file
2. `site_energies` evaluates the layers, with faster `kernels` in place of some of mace's modules
3. `self_test` compares this with mace's own result when the model is loaded; on a difference the
   engine falls back to mace's own modules
"""
