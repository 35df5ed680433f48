"""Attacks on a whole cloud: what one user, node or stranger may not bring about."""
