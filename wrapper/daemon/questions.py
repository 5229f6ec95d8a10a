"""What `cargo distbuild` asks the daemon in place of a compile: the first argument of a call."""

SLOTS = "distbuild:slots"
"""How many units the call's server compiles at a time, as a decimal number."""
