"""Steps as a graph, and lanes as rows; what is under way at the upgrade gets both."""

import django.db.models.deletion
from django.db import migrations, models


SESSIONS = ("console", "exec", "logs")


def lanes_of(job):
    """As the release that first had these rows made them."""
    if job.size or job.verb in SESSIONS:
        return []
    if job.ve is not None:
        image = (job.args.get("spec") or {}).get("image") if job.verb == "create" else None
        return [(f"ve:{job.ve}", False), *([(f"image:{image}", True)] if image else [])]
    if job.verb == "reconcile":
        return [("reconcile", False)]
    return [(f"node:{job.node}" if job.node else f"image:{job.args.get('image')}", False)]


def fill(apps, schema_editor):
    Job, JobLane, Step = (apps.get_model("fleet", name) for name in ("Job", "JobLane", "Step"))
    rows = []
    for job in Job.objects.exclude(state__in=("C", "-")).iterator():
        turn = 0 if job.state in "RE" or (job.state == "W" and job.tries) else 1 if job.state == "Q" else 2
        rows += [JobLane(job=job, lane=lane, shared=shared, turn=turn, rank=job.rank) for lane, shared in lanes_of(job)]
    JobLane.objects.bulk_create(rows, batch_size=500)
    for step in Step.objects.exclude(job__state="C").select_related("job").iterator():
        job = step.job
        step.key, step.first_attempt = step.verb, 1 + int(job.before.get("replans", 0))
        step.after = [step.number - 1] if step.number > 1 else []
        if step.verb == "fetch":
            step.retries = 4
        elif job.ve is not None:
            step.ve, step.native = job.ve, job.args.get("stray") or f"{job.ve_name}-{job.ve.hex[:8]}"
        step.save()


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0015_listening'),
    ]

    operations = [
        migrations.AddField(
            model_name='step',
            name='after',
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name='step',
            name='commits',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='step',
            name='gives_up',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='step',
            name='first_attempt',
            field=models.IntegerField(default=1),
        ),
        migrations.AddField(
            model_name='step',
            name='key',
            field=models.CharField(blank=True, default='', max_length=40),
        ),
        migrations.AddField(
            model_name='step',
            name='native',
            field=models.CharField(blank=True, default='', max_length=255),
        ),
        migrations.AddField(
            model_name='step',
            name='retries',
            field=models.IntegerField(default=0),
        ),
        migrations.AddField(
            model_name='step',
            name='takes',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='step',
            name='undo',
            field=models.JSONField(null=True),
        ),
        migrations.AddField(
            model_name='step',
            name='undo_of',
            field=models.IntegerField(null=True),
        ),
        migrations.AddField(
            model_name='step',
            name='ve',
            field=models.UUIDField(null=True),
        ),
        migrations.AlterField(
            model_name='step',
            name='node',
            field=models.CharField(blank=True, default='', max_length=63),
        ),
        migrations.AlterField(
            model_name='step',
            name='state',
            field=models.CharField(default='planned', max_length=10),
        ),
        migrations.AlterField(
            model_name='step',
            name='verb',
            field=models.CharField(max_length=20),
        ),
        migrations.CreateModel(
            name='JobLane',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lane', models.CharField(max_length=160)),
                ('shared', models.BooleanField(default=False)),
                ('turn', models.SmallIntegerField(default=1)),
                ('rank', models.FloatField(default=0.0)),
                ('job', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='lanes', to='fleet.job')),
            ],
            options={
                'indexes': [models.Index(fields=['lane', 'shared', 'turn', 'rank', 'job'], name='lane_in_turn')],
                'constraints': [models.UniqueConstraint(fields=('job', 'lane'), name='one_place_in_a_lane')],
            },
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
