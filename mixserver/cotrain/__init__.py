"""Co-training: a small network that agrees with a large one on the bulk, so that they can be mixed.

The networks are trained by a program of the worker package. The structures, the molecular dynamics
and the report are those of `mixserver.distill`.
"""
