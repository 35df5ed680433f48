"""The directory's schema, tree, access rules and migrations."""
