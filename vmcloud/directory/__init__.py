"""The directory port: the one global store of what is wanted, placed and seen.

:class:`~vmcloud.directory.port.Store` is what the rest of vmcloud sees; :class:`~vmcloud.directory.store.Directory` keeps it in
LDAP, :class:`~vmcloud.directory.fake.FakeDirectory` in memory for tests; :mod:`~vmcloud.directory.watch` follows changes.
"""
