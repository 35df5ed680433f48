"""Since when the leading server hears the broker: a node's silence counts only for as long."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0014_parts")]

    operations = [migrations.AddField("lease", "listens_since", models.FloatField(default=0.0))]
