"""The worker: the agent on a node. Takes orders from its own queue, keeps a journal, drives the guests of this machine."""
