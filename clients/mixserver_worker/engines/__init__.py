"""One file per engine, its heavy imports inside."""
