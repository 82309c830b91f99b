"""Properties of bulk crystals with one model: lattice, elastic constants, phonons, vacancy.

Evaluates frames through one function (`EvaluateFn`) and does not know which workers evaluate them.
"""
