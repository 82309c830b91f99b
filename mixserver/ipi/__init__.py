"""Everything about i-PI: its process and session, its input and output files."""
