"""The program that cargo starts in place of rustc: its source, and how it gets installed.

May import wrapper.home and nothing else of the project, for it runs once for every build.
"""
