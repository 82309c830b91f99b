"""Workers: what runs beside the GPU. Imports the wire of mixserver and one engine, no more."""
