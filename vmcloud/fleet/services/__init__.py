"""One service per thing people can do; every door (form, shell, API) calls these and nothing else.

Each checks, then writes; what is refused leaves no trace. Errors are those of :mod:`vmcloud.domain.errors`.
"""
