"""Which atoms are expensive, and how much: seeds, shells, profiles, memory."""
