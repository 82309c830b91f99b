"""Trains a large and a small network together so that they agree on bulk environments.

Data loading, losses, optimisers and averages are those of the networks' own packages; what is here
is the loop that couples two of them. `mixserver cotrain` starts it as a program.
"""
