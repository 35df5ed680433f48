"""Verbs on VEs."""
