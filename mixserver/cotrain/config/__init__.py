"""The recipe cotrain.toml."""
