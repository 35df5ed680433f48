"""Jobs that are behind others in their lanes, and indexes for the turns of the scheduler."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0011_arrays'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='job',
            name='job_by_turn',
        ),
        migrations.AddField(
            model_name='job',
            name='behind',
            field=models.BooleanField(default=False),
        ),
        migrations.AlterField(
            model_name='job',
            name='ve',
            field=models.UUIDField(null=True),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(models.F('state'), models.F('behind'), models.OrderBy(models.F('priority'), descending=True), models.F('rank'), models.F('id'), name='job_by_turn'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('cancel_requested_at__isnull', False)), fields=['state'], name='job_cancelled'),
        ),
    ]
