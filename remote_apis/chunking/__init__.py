"""Content-defined chunking (REAPI 2.12 ChunkingFunction).

Each algorithm is a value that holds its parameters and makes cutters; a cutter is fed a blob in
pieces of any size and gives out its chunks. Imports numpy, which takes 0.1 s.
"""

from remote_apis.chunking.fast_cdc import FastCdc2020
from remote_apis.chunking.interface import Chunker, Cutter
from remote_apis.chunking.rep_max_cdc import RepMaxCdc

__all__ = ["Chunker", "Cutter", "FastCdc2020", "RepMaxCdc"]
