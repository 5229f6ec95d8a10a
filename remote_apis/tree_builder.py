"""Build the canonical Directory messages of an input root from paths."""

from __future__ import annotations

from dataclasses import dataclass, field

from remote_apis.digest import Digest
from remote_apis.digest_functions import DigestFunction
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb


@dataclass(slots=True)
class TreeBuilder:
    """Collects files, symbolic links and whole directories by relative path, then digests them.

    Names sort by their UTF-8 bytes and messages serialise in tag order, so that equal content
    always has equal digests (REAPI 2.12 Directory). A directory given by digest is taken as it
    is; nothing may be added inside it.
    """

    function: DigestFunction
    _files: dict[str, tuple[Digest, bool]] = field(default_factory=dict)
    _links: dict[str, str] = field(default_factory=dict)
    _directories: dict[str, TreeBuilder | Digest] = field(default_factory=dict)

    def add_file(self, path: str, digest: Digest, *, executable: bool = False) -> None:
        """A file at `a/b/name`. Raises InvalidRequest when the path is taken by another."""
        parent, name = self._parent(path)
        if parent._files.get(name, (digest, executable)) != (digest, executable):
            raise InvalidRequest(f"two different files at {path} in one input root")
        parent._claim(name, parent._files, path)
        parent._files[name] = (digest, executable)

    def add_symlink(self, path: str, target: str) -> None:
        """A symbolic link at `path`. Raises InvalidRequest when the path is taken."""
        parent, name = self._parent(path)
        if parent._links.get(name, target) != target:
            raise InvalidRequest(f"two different links at {path} in one input root")
        parent._claim(name, parent._links, path)
        parent._links[name] = target

    def add_directory(self, path: str, digest: Digest) -> None:
        """A finished directory at `path`. Raises InvalidRequest when the path is taken."""
        parent, name = self._parent(path)
        if parent._directories.get(name, digest) != digest:
            raise InvalidRequest(f"two different directories at {path} in one input root")
        parent._claim(name, parent._directories, path)
        parent._directories[name] = digest

    def make_directory(self, path: str) -> None:
        """An empty directory, unless something is in it already."""
        parent, name = self._parent(path)
        if name not in parent._directories:
            parent._claim(name, parent._directories, path)
            parent._directories[name] = TreeBuilder(self.function)

    def build(self, blobs: dict[Digest, bytes]) -> Digest:
        """The digest of the directory; every Directory message made is added to `blobs`."""
        message = re_pb.Directory()
        for name in sorted(self._files, key=str.encode):
            digest, executable = self._files[name]
            message.files.add(name=name, digest=digest.to_message(), is_executable=executable)
        for name in sorted(self._directories, key=str.encode):
            child = self._directories[name]
            found = child if isinstance(child, Digest) else child.build(blobs)
            message.directories.add(name=name, digest=found.to_message())
        for name in sorted(self._links, key=str.encode):
            message.symlinks.add(name=name, target=self._links[name])
        data = message.SerializeToString(deterministic=True)
        digest = Digest.of(data, self.function)
        blobs[digest] = data
        return digest

    def _claim(self, name: str, kind: object, path: str) -> None:
        for other in (self._files, self._links, self._directories):
            if other is not kind and name in other:
                raise InvalidRequest(f"two different entries at {path} in one input root")

    def _parent(self, path: str) -> tuple[TreeBuilder, str]:
        *parents, name = path.split("/")
        builder = self
        for part in parents:
            child = builder._directories.setdefault(part, TreeBuilder(self.function))
            if isinstance(child, Digest):
                raise InvalidRequest(f"{path} lies inside a directory that is already finished")
            builder._claim(part, builder._directories, path)
            builder = child
        return builder, name
