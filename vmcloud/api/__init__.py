"""The REST API. ``v1`` is the contract of ``/api/v1``: thin doors over :mod:`vmcloud.fleet.services`."""
