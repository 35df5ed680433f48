"""The herald: the process beside the leader that tells others what happened. ``gather`` finds it in the feed · ``outbox`` keeps
what webhooks are to be told, and how that went · ``post`` sends one message · ``events`` calls the hooks at the server ·
``process`` is all of it together. It runs only while there is somebody to tell; neither jobs nor the leader wait for it."""
