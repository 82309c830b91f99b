"""i-PI with a Langevin thermostat that leaves the core alone; run it as ``-m mixserver.ipi_host``.

The only room that runs i-PI's code. `langevin` is the arithmetic and knows no i-PI; `thermostat`
puts it into a simulation, `lambdas` finds out which atoms it acts on, `temperatures` writes down
what came of it.
"""
