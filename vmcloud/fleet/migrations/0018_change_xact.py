"""On PostgreSQL, each row of the feed bears the number of the transaction that wrote it. Django's model does not know it: the
database fills it in, and only :mod:`vmcloud.fleet.services.feed` reads it."""

from django.db import migrations

ADD = (
    "ALTER TABLE fleet_change ADD COLUMN xact xid8 NOT NULL DEFAULT pg_current_xact_id()",
    "CREATE INDEX change_by_xact ON fleet_change (xact, id)",
)
REMOVE = ("ALTER TABLE fleet_change DROP COLUMN xact",)


def _run(*statements):
    def run(apps, schema_editor):
        if schema_editor.connection.vendor == "postgresql":
            for statement in statements:
                schema_editor.execute(statement)

    return run


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0017_audit'),
    ]

    operations = [
        migrations.RunPython(_run(*ADD), _run(*REMOVE)),
    ]
