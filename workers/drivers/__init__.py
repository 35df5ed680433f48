"""Drivers: node-local code for one kind each, behind the interface in :mod:`workers.drivers.base`."""
