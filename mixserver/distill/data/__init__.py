"""Reference data of a fit: structures, their labels and groups."""
