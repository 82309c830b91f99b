"""Site weights for LAMMPS potentials: `scheme` finds the way, `site_weights` evaluates it.

A potential is split into terms (`split_styles`):

* SNAP: one atom type per weight (`snap`, types from `atom_types` and `visibility`, very many
  weights in `passes` and `snap_passes`)
* EAM, Stillinger-Weber, Tersoff, Vashishta, UF3 (`many_body`): files in which a site counts or not
  (`counted_files`); sites of any other weight one by one (`environments`)
* pairwise remainder (`pair_term`): embedded as EAM (`pair_as_eam`, tables from `eam_tables` and
  `dimers`) or, where that is not exact, pair by pair (`pairwise`, forces of tables from `tables`)
"""
