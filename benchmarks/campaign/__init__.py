"""The fault campaign: random work on a whole cloud while its parts are killed, frozen and cut off (docs/reliability.md)."""
