"""What a model says of a perfect crystal: lattice, elastic constants, phonons, vacancy.

Asks for forces through one function and knows nothing of who evaluates them.
"""
