"""The checked-in stubs are what the .proto files generate, and say what the wire contract says.

``tests/data/wire-contract.json`` lists every fact that peers depend on. Descriptors are turned
into the same form, so that whatever one side says and the other does not is a difference.
"""

import copy
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)
from google.protobuf.message import Message

Facts = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "remote_apis" / "stubs"
PROTOS = ROOT / "third_party" / "protos"
CONTRACT: Facts = json.loads((ROOT / "tests" / "data" / "wire-contract.json").read_text("utf-8"))
CONTRACT_FILES: dict[str, Facts] = {entry["file"]: entry for entry in CONTRACT["files"]}
NAMED_LISTS = ("messages", "fields", "enums", "values", "services", "methods", "extensions")


OWN = "distbuild/"
"""Where services of this project's own are: no contract with anybody else holds them."""


def generated_files(root: Path) -> list[str]:
    """Return the names of the generated files below ``root``."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*.py*"))
    return sorted(name for name in found if "__pycache__" not in name)


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with freshly generated stubs."""
    out = tmp_path_factory.mktemp("generated") / "stubs"
    command = [sys.executable, str(ROOT / "tools" / "generate_stubs.py"), "--out", str(out)]
    subprocess.run(command, check=True, timeout=120)
    return out


def test_the_same_stub_files_are_generated(regenerated: Path) -> None:
    assert generated_files(STUBS) == generated_files(regenerated)


@pytest.mark.parametrize("name", generated_files(STUBS))
def test_checked_in_stub_is_up_to_date(name: str, regenerated: Path) -> None:
    same = (STUBS / name).read_bytes() == (regenerated / name).read_bytes()
    assert same, f"remote_apis/stubs/{name} is out of date: run `make protos`"


def test_generator_refuses_a_directory_it_did_not_make(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("keep me", "utf-8")
    command = [sys.executable, str(ROOT / "tools" / "generate_stubs.py"), "--out", str(tmp_path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "holds something other than generated stubs" in result.stderr
    assert precious.read_text("utf-8") == "keep me"


def without_empty(facts: Facts) -> Facts:
    """Drop what is unset, which the contract leaves out."""
    return {key: value for key, value in facts.items() if value not in (None, "", False, [])}


def options_of(options: Message) -> Facts:
    """Return the options that are set."""
    return {field.name: value for field, value in options.ListFields()}


def type_facts(field: FieldDescriptorProto, type_key: str, name_key: str) -> Facts:
    """Return the type of a field, and the name of that type if it has one."""
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return {type_key: kind, name_key: field.type_name.removeprefix(".")}


def map_entry_of(field: FieldDescriptorProto, parent: DescriptorProto) -> DescriptorProto | None:
    """Return the implicit entry message of a map field, or None for any other field."""
    for nested in parent.nested_type:
        if nested.options.map_entry and field.type_name.endswith(f".{parent.name}.{nested.name}"):
            return nested
    return None


def field_facts(field: FieldDescriptorProto, parent: DescriptorProto) -> Facts:
    """Describe one field in the form of the contract."""
    facts = {"name": field.name, "number": field.number, **options_of(field.options)}
    facts["required"] = field.label == FieldDescriptorProto.LABEL_REQUIRED
    facts["optional"] = field.proto3_optional
    facts["default"] = field.default_value
    if field.HasField("oneof_index"):
        facts["oneof"] = parent.oneof_decl[field.oneof_index].name
    entry = map_entry_of(field, parent)
    if entry is None:
        facts |= type_facts(field, "type", "type_name")
        facts["repeated"] = field.label == FieldDescriptorProto.LABEL_REPEATED
    else:
        key, value = entry.field
        facts |= {"type": "map", **type_facts(key, "key", "key_type_name")}
        facts |= type_facts(value, "value", "value_type_name")
    return without_empty(facts)


def enum_facts(enum: EnumDescriptorProto) -> Facts:
    """Describe an enum in the form of the contract."""
    facts = {
        "name": enum.name,
        "reserved": [[span.start, span.end] for span in enum.reserved_range],
        "reserved_names": list(enum.reserved_name),
        "values": [
            {"name": value.name, "number": value.number, **options_of(value.options)}
            for value in enum.value
        ],
    }
    return without_empty({**facts, **options_of(enum.options)})


def message_facts(message: DescriptorProto) -> Facts:
    """Describe a message, with the messages nested in it, in the form of the contract."""
    facts = {
        "name": message.name,
        # The end of a descriptor's range is exclusive, that of the contract's is inclusive.
        "reserved": [[span.start, span.end - 1] for span in message.reserved_range],
        "reserved_names": list(message.reserved_name),
        "fields": [field_facts(field, message) for field in message.field],
        "enums": [enum_facts(enum) for enum in message.enum_type],
        "messages": [
            message_facts(nested) for nested in message.nested_type if not nested.options.map_entry
        ],
        "extension_ranges": [[span.start, span.end] for span in message.extension_range],
        "extensions": [field_facts(field, message) for field in message.extension],
    }
    return without_empty({**facts, **options_of(message.options)})


def method_facts(method: MethodDescriptorProto) -> Facts:
    """Describe a method in the form of the contract."""
    facts = {
        "name": method.name,
        "request": method.input_type.removeprefix("."),
        "response": method.output_type.removeprefix("."),
        "client_streaming": method.client_streaming,
        "server_streaming": method.server_streaming,
    }
    return without_empty({**facts, **options_of(method.options)})


def service_facts(service: ServiceDescriptorProto) -> Facts:
    """Describe a service in the form of the contract."""
    methods = [method_facts(method) for method in service.method]
    return {"name": service.name, "methods": methods, **options_of(service.options)}


def file_facts(file: FileDescriptorProto) -> Facts:
    """Describe a whole file in the form of the contract."""
    facts = {
        "file": file.name,
        "package": file.package,
        "syntax": file.syntax,
        "deps": list(file.dependency),
        "public_deps": list(file.public_dependency),
        "weak_deps": list(file.weak_dependency),
        "messages": [message_facts(message) for message in file.message_type],
        "enums": [enum_facts(enum) for enum in file.enum_type],
        "services": [service_facts(service) for service in file.service],
        "extensions": [field_facts(field, DescriptorProto()) for field in file.extension],
    }
    return without_empty({**facts, **options_of(file.options)})


def flatten(facts: Facts, where: str = "") -> Iterator[tuple[str, object]]:
    """Yield every single fact under a path such as ``messages.Digest.fields.hash.number``.

    An empty list says as much as none: the contract has both.
    """
    for key, value in facts.items():
        if key in NAMED_LISTS:
            for item in value:
                yield from flatten(item, f"{where}{key}.{item['name']}.")
        elif value != []:
            yield f"{where}{key}", value


def differences(expected: Facts, found: Facts) -> list[str]:
    """Return a line for every fact that only one side has or that the sides disagree on."""
    left, right = dict(flatten(expected)), dict(flatten(found))
    return [
        f"{path}: contract says {left.get(path)!r}, descriptor says {right.get(path)!r}"
        for path in sorted(left.keys() | right.keys())
        if left.get(path) != right.get(path)
    ]


def described(name: str) -> Facts:
    """Describe the descriptor of a checked-in stub by its proto file name."""
    dotted = name.removesuffix(".proto").replace("/", ".")
    module = importlib.import_module(f"remote_apis.stubs.{dotted}_pb2")
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file_facts(file)


def test_the_contract_lists_every_proto_file_and_no_other() -> None:
    protos = {path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto")}
    stubs = {path.relative_to(STUBS).as_posix() for path in STUBS.rglob("*_pb2.py")}
    standard = {name for name in protos if not name.startswith(OWN)}
    assert standard == set(CONTRACT_FILES)
    assert stubs == {name.replace(".proto", "_pb2.py") for name in protos}


def test_the_contract_knows_nothing_of_our_own_services() -> None:
    needed = {need for entry in CONTRACT_FILES.values() for need in entry.get("deps", ())}
    assert not any(name.startswith(OWN) for name in needed | set(CONTRACT_FILES))


@pytest.mark.parametrize("name", sorted(CONTRACT_FILES))
def test_descriptor_says_exactly_what_the_contract_says(name: str) -> None:
    found = differences(CONTRACT_FILES[name], described(name))
    assert not found, "\n".join(found)


def renumber(facts: Facts) -> None:
    """Give a field another number."""
    facts["messages"][0]["fields"][0]["number"] = 99


def drop_message(facts: Facts) -> None:
    """Leave out a message."""
    del facts["messages"][0]


def add_method(facts: Facts) -> None:
    """Invent a method."""
    facts["services"][0]["methods"].append({"name": "Extra"})


def free_reserved_number(facts: Facts) -> None:
    """Forget about a reserved number."""
    executing = facts["messages"][1]["messages"][0]
    del executing["reserved"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (renumber, "messages.SynchronizeRequest.fields.worker_id.number"),
        (drop_message, "messages.SynchronizeRequest.name"),
        (add_method, "services.OperationQueue.methods.Extra.name"),
        (free_reserved_number, "messages.CurrentState.messages.Executing.reserved"),
    ],
)
def test_comparison_notices_a_change_on_either_side(
    change: Callable[[Facts], None], where: str
) -> None:
    original = CONTRACT_FILES["buildbarn/remoteworker/remoteworker.proto"]
    changed = copy.deepcopy(original)
    change(changed)
    for found in (differences(original, changed), differences(changed, original)):
        assert any(line.startswith(f"{where}: ") for line in found), found
