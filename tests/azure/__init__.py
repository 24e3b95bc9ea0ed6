"""A loopback Azure for tests and contributors: `served` starts one, `python -m tests.azure` serves until Ctrl-C."""
