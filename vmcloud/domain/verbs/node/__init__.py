"""Verbs on nodes."""
