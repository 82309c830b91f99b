"""The NequIP and Allegro engine: how a packaged model is loaded and gives site energies.

`engines.torch` does the rest. A package of `nequip-package` holds the code of nequip, allegro and
e3nn that the model needs, so none of them has to be installed.

1. `package` reads and checks a package
2. `site_energies` evaluates the modules of the model, each layer on what later ones need
3. `self_test` compares this with the model's own result when it is loaded
"""
