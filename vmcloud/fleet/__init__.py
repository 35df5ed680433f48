"""The fleet: jobs and their truth in SQL, the read model of the directory, services for every door, and the server."""
