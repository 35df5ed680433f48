"""The pure core: words, rules and decisions of a vmcloud. Imports nothing of ours and does no input or output."""
