"""What every driver must do, whatever its kind (:mod:`workers.drivers.base`): the same cases against each.

A kind joins with one :class:`~tests.contract.driver.bench.Bench`. A case that needs a power of the kind says so
(``@pytest.mark.power(Power.SNAPSHOT)``); it is skipped only where the table of kinds (``vmcloud/domain/kinds.py``) says that the
kind has it not, or the driver's own probe that this node has it not.
"""
