"""distill.toml: its tables, how they are read and checked."""
