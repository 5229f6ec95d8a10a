"""The command `distbuild`: serve, scheduler run, worker run, workers, operations.

Imports everything of the server, and the worker; modules import what they need when a command
needs it, so that an error of usage costs no second.
"""
