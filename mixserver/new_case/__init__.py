"""New cases: from a structure or a LAMMPS input to a folder that `mixserver check` accepts."""
