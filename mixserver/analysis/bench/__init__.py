"""Benchmarks: how fast one way of computing forces is beside another one, on this machine.

Every row of a report is a ratio of two ways that were measured in one run, in turn, evaluation by
evaluation on the same positions, so that other work on the machine slows both.

================  =====================================================================
`overhead`        the server's own time, with workers that answer at once
`mace_engines`    one MACE model in several engines, all sites or a weighted region
`lammps_steps`    the LAMMPS engine beside LAMMPS's own `run` and `fix ipi`
`speedup`         a mixed case beside the expensive or the cheap model for all atoms
`scaling`         one case with other regions, workers, beads or ranks
`gpu`             what a machine with CUDA needs for all of it
`pairing`         measures in turn, and makes ratios of it
`engines`         engines of mixserver-worker as what is measured
`force_clients`   i-PI clients as what is measured: servers, LAMMPS, i-PI's own drivers
`workloads`       crystals, weighted clusters and thermal motion
`report`, `plot`  rows and machine as values, table, JSON and figure
================  =====================================================================

Engines run in processes of their own, started by the commands that users type.
"""
