"""Job arrays: an array is a row, and so is each of its parts; dependencies that count parts."""


from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0010_hooks'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='array',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='index',
            field=models.IntegerField(null=True),
        ),
        migrations.AddField(
            model_name='job',
            name='indices',
            field=models.TextField(blank=True, default=''),
        ),
        migrations.AddField(
            model_name='job',
            name='size',
            field=models.IntegerField(default=0),
        ),
        migrations.AddField(
            model_name='job',
            name='slots',
            field=models.IntegerField(default=0),
        ),
        migrations.AddField(
            model_name='joblink',
            name='count',
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='joblink',
            name='type',
            field=models.CharField(max_length=20),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(models.F('array'), models.F('state'), models.OrderBy(models.F('priority'), descending=True), models.F('rank'), models.F('id'), condition=models.Q(('array__isnull', False)), name='job_part'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('array', None)), fields=['-id'], name='job_no_part'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(condition=models.Q(('size__gt', 0)), fields=['state'], name='job_array'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.UniqueConstraint(fields=('array', 'index'), name='one_part_of_an_index'),
        ),
    ]
