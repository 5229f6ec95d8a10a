"""`cargo distbuild …` and the program for RUSTC_WRAPPER.

Starts with every build, so modules import what they need when they need it. May import all of
the wrapper.
"""
