"""Where a store keeps each blob in a file of its own, and how another process takes a copy."""

from __future__ import annotations

import os
import stat

from remote_apis.digest import Digest
from remote_apis.file_copy import copy_bytes

DIRECTORY_HEADER = "distbuild-blob-directory-bin"
"""Initial metadata of GetCapabilities: the store's directory, for clients on the server's machine.

A client that can read it copies blobs from there. Nobody has to: what it finds may be damaged, or
be another directory of that name, and so counts only with the right hash.
"""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def blob_path(directory: str, digest: Digest) -> str:
    """Where the blob's file is, if there is one, in a store's directory."""
    function, hash_, size = digest
    return f"{directory}/cas/{function.label}/{hash_[:2]}/{hash_}_{size}"


def copy_blob(path: str, target: int, digest: Digest) -> bool:
    """Copy the file at `path` to an empty file, open for reading too, if it is the blob. Blocks.

    The copy is hashed, not the file, which others may write to. After False it is worth nothing.
    Raises OSError.
    """
    source = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            return False
        copy_bytes(source, target)
    finally:
        os.close(source)
    if os.fstat(target).st_size != digest.size:
        return False
    return digest.function.hash_mapped(target, digest.size) == digest.hash
