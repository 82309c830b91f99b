"""Named tolerances, so that every test says how exact a claim is."""

SAME = 0.0
"""The same arithmetic: bit for bit."""
ROUND_TRIP = 1e-12
"""Unit conversion there and back."""
EXACT = 1e-9
"""Another order of the same sums (eV/Å)."""
FINITE_DIFFERENCE = 1e-6
"""Central differences in double precision (eV/Å)."""
FLOAT32_MODEL = 1e-4
"""An engine that computes in single precision (eV/Å)."""
