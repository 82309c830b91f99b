"""The fitted potential as files that LAMMPS and the worker read."""
