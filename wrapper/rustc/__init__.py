"""What the wrapper knows of rustc's command line and of the files it reads and writes.

Pure: no file is opened here. May import nothing else of the project.
"""
