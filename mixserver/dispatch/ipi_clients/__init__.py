"""Clients of the i-PI protocol, as LAMMPS's fix ipi and ASE's SocketClient, as workers."""
