"""The job server and scheduler. One leads: it admits, places, sends, closes jobs, watches the directory and reconciles.

``loop`` waits and calls the others; ``inbox`` brings reports and watch events; ``leader`` holds the lease; ``projection`` writes
the read model; ``sweep_claims``, ``schedule``, ``orders``, ``replies``, ``finish`` are a job's way; ``mend`` carries out the
plan that reconcile makes.
"""
