"""The base of engines whose model is a torch network on a graph of atoms.

An engine says how its model is loaded, and how site energies follow from a graph (`site_model`).
The base does the rest:

1. `graph_cache` keeps a neighbour list with a skin (`edges`) and a graph per stream, pruned to what
   the sites with weight depend on and sorted by the number of edges to them (`graph`)
2. `weighted_energy` evaluates sum_i w_i e_i and its gradient on atoms and strain, summed in float64
3. `graph_engine` is a job's way to its result: weights, wanted sites, refusals, lack of memory;
   `engine` connects it with steps 1 and 2
4. `setup` chooses device, precision and threads

Only `engine`, `graph_engine` and `setup` can be imported before torch.
"""
