"""A cheap SNAP from the expensive model, by constrained least squares.

Data flows one way: recipe, reference crystal, structures, labels, descriptor rows, equations,
solution, potential files, report. Labels come through the dispatcher; no engine is imported.
"""
