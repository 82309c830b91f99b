"""The LAMMPS engine.

The chain from a commands file to results:

1. `commands` reads the potential (`text`, `variables`, `files`), `precision` its precision
2. `capabilities` tries it in LAMMPS: cutoff, receptive field, site energies, weighting scheme
3. `weighting` weights site energies: `scheme`, then SNAP, many-body and pairwise terms
4. `instance_pool` keeps one `instance` per set of atoms (`setup`, `box`, `criteria`)
5. `compiled` evaluates SNAP and weighted pairs on CPUs in code of its own, where it can
6. `library` is the binding to the shared library, which `loading` loads

`engine` connects them to jobs, `mpi` to other ranks. `descriptors` and `descriptor_rows` compute
SNAP descriptors for fits.
"""
