"""How a job whose end was asked for is to end, signals to it; and the default queue as a row like all others."""

from typing import Any

from django.db import migrations, models

from vmcloud.domain.queueing import DEFAULT_QUEUE


def default_queue(apps: Any, schema_editor: Any) -> None:
    """Make its row, where nobody has altered it yet."""
    apps.get_model("fleet", "QueueRow").objects.get_or_create(name=DEFAULT_QUEUE, defaults={"data": {}})


class Migration(migrations.Migration):
    dependencies = [("fleet", "0007_queues")]

    operations = [
        migrations.AddField("job", "ending", models.CharField(blank=True, default="", max_length=8)),
        migrations.AddField("job", "signal", models.CharField(blank=True, default="", max_length=8)),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(models.Q(("ending", ""), _negated=True), models.Q(("signal", ""), _negated=True), _connector="OR"),
                fields=["state"],
                name="job_by_ending",
            ),
        ),
        migrations.RunPython(default_queue, migrations.RunPython.noop),
    ]
