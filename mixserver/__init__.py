"""mixserver: a cheap and an expensive potential, mixed behind i-PI's socket."""

__version__ = "0.1.0"
