"""This machine's cloud: making its data directory, supervising its parts, saying how they are."""
