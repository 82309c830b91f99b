"""i-PI as mixserver runs it (``-m mixserver.ipi.host``), with a thermostat outside the core.

The only package that runs i-PI's simulation code. `langevin` is the arithmetic, without i-PI;
`thermostat` installs it in a simulation, `extras` reads the lambda of its atoms, `temperatures`
records the temperatures of the regions, `signals` makes i-PI react to signals while it waits,
`sockets` lets it survive a killed driver.
"""

from mixserver.core.ipi_import import import_ipi

import_ipi()  # before any module here imports parts of it
