"""Verbs on the cloud as a whole."""
