"""SNAP in compiled code: the site energies of LAMMPS's pair style, several times faster on a CPU.

LAMMPS evaluates one neighbour of one atom at a time. Here each instruction works on eight atoms
(`lanes`), and forces come from one backward pass through the recursion of the Wigner matrices
instead of three derivatives of it. Site weights are factors, sites of weight 0 are left out, and
any number of different weights costs nothing.

* `choice` decides at start, and compares with LAMMPS
* `snap_files` reads LAMMPS's files and refuses what the code does not know
* `couplings` makes the tables of the recursion and of the products
* `wigner`, `products` and `snap_kernel` evaluate blocks of eight atoms
* `snap` and `pairs` divide one set of atoms into tasks; `verlet` keeps neighbour lists
* `team` does the tasks on several threads, `atoms` has what they add up
* `potential` puts it together, on all MPI ranks, with what is left to LAMMPS

Needs numba. Notation and definitions as in A. P. Thompson et al., J. Comput. Phys. 285, 316 (2015),
doi:10.1016/j.jcp.2014.12.018, and in LAMMPS's ML-SNAP package.
"""
