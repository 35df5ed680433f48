"""How fast the cloud is: ``benchmarks/run NAME…``. Each benchmark measures raw tools beside the cloud, in the same run."""
