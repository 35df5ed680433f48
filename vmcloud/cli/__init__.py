"""The command line. It knows REST only; everything a command does not need is imported when it is needed."""
