"""Generate the protobuf and gRPC stubs in ``remote_apis/stubs`` from ``third_party/protos``.

Run it as ``python tools/generate_stubs.py``, or with ``--out DIR`` to write elsewhere. The
descriptors keep the standard proto file names; only the Python modules move, below
``remote_apis.stubs``, so that they cannot collide with packages named ``build`` or ``google``.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO_DIR = ROOT / "third_party" / "protos"
STUBS_DIR = ROOT / "remote_apis" / "stubs"
STUBS_PACKAGE = "remote_apis.stubs"

STUBS_DOCSTRING = '''\
"""Stubs generated from third_party/protos by tools/generate_stubs.py (``make protos``).

Nothing below this package is ever edited by hand: change the .proto files and generate again.
"""
'''

_MESSAGES_ALONE = "longrunning import operations_proto_pb2"

_LOCAL_IMPORT = re.compile(
    r"^(\s*from )((?:build|buildbarn|distbuild|google\.bytestream)(?:\.\w+)* import )", re.M
)


def proto_names() -> list[str]:
    """Return the names of our proto files, relative to the include root and sorted."""
    return sorted(path.relative_to(PROTO_DIR).as_posix() for path in PROTO_DIR.rglob("*.proto"))


def include_dirs(scratch: Path) -> list[Path]:
    """Return where protoc looks for files: ours, grpcio-tools' and googleapis-common-protos'.

    The last of these ships ``google/longrunning/operations.proto`` under another file name, so
    a copy with the standard name is put below ``scratch``.
    """
    well_known = Path(str(files("grpc_tools") / "_proto"))
    common = Path(str(files("google.rpc") / "status.proto")).parents[2]
    renamed = scratch / "google" / "longrunning" / "operations.proto"
    renamed.parent.mkdir(parents=True)
    shutil.copyfile(common / "google" / "longrunning" / "operations_proto.proto", renamed)
    return [PROTO_DIR, well_known, common, scratch]


def run_protoc(includes: Sequence[Path], out: Path) -> None:
    """Compile all proto files into modules, type stubs and gRPC modules below ``out``."""
    arguments = ["protoc", *(f"--proto_path={path}" for path in includes)]
    arguments += [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main([*arguments, *proto_names()]) != 0:
        raise SystemExit("protoc failed")


def relocate_imports(source: str) -> str:
    """Make imports of our own generated modules point below ``remote_apis.stubs``."""
    # googleapis-common-protos' own operations_pb2 has the same messages, and imports grpc for them
    source = source.replace("longrunning import operations_pb2", _MESSAGES_ALONE)
    return _LOCAL_IMPORT.sub(rf"\1{STUBS_PACKAGE}.\2", source)


def relocate_tree(out: Path) -> None:
    """Relocate the imports of every generated file below ``out``."""
    for path in sorted(out.rglob("*.py*")):
        path.write_text(relocate_imports(path.read_text("utf-8")), "utf-8", newline="\n")


def add_packages(out: Path) -> None:
    """Give ``out`` and every directory below it an ``__init__.py``."""
    (out / "__init__.py").write_text(STUBS_DOCSTRING, "utf-8", newline="\n")
    for directory in out.rglob("*/"):
        (directory / "__init__.py").touch()


def clear(out: Path) -> None:
    """Remove earlier output, refusing to remove a directory that is anything else."""
    if not out.exists():
        return
    marker = out / "__init__.py"
    if any(out.iterdir()) and not (
        marker.is_file() and marker.read_text("utf-8") == STUBS_DOCSTRING
    ):
        raise SystemExit(f"{out} holds something other than generated stubs")
    shutil.rmtree(out)


def generate(out: Path) -> None:
    """Replace the directory ``out`` by freshly generated stubs."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch, "stubs")
        fresh.mkdir()
        run_protoc(include_dirs(Path(scratch, "include")), fresh)
        relocate_tree(fresh)
        add_packages(fresh)
        clear(out)
        shutil.copytree(fresh, out)


def main(argv: Sequence[str]) -> None:
    """Parse the command line and generate the stubs."""
    parser = argparse.ArgumentParser(description="Generate the protobuf and gRPC stubs.")
    parser.add_argument("--out", type=Path, default=STUBS_DIR, help="default: %(default)s")
    generate(parser.parse_args(argv).out)


if __name__ == "__main__":
    main(sys.argv[1:])
