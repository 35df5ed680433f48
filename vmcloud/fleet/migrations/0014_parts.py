"""Indexes of parts that the scheduler and the list of jobs make use of."""


from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0013_keep'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='job',
            name='one_part_of_an_index',
        ),
        migrations.RemoveIndex(
            model_name='job',
            name='job_part',
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(models.F('array'), models.F('state'), models.F('behind'), models.OrderBy(models.F('priority'), descending=True), models.F('rank'), models.F('id'), condition=models.Q(('array__isnull', False)), name='job_part'),
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.UniqueConstraint(condition=models.Q(('array__isnull', False)), fields=('array', 'index'), name='one_part_of_an_index'),
        ),
    ]
