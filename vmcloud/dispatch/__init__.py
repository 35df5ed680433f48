"""The transport port. Only this package knows Celery, kombu and the broker."""
