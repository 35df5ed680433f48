"""Whether a cloud at rest is as it promised: looked at from outside, by rules that know nothing of the product's code.

Imports nothing of vmcloud, workers, monitor or ldap_schema (import-linter sees to that). What it knows of the product is what
docs/design.md says: tables, entries, lists, files.
"""
