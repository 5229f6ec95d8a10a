"""What an action asks for by platform properties, and which worker gets it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_apis.container_image import canonical_image, parse_image
from remote_apis.errors import InvalidRequest
from remote_apis.stubs.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb
from server.scheduler.matching import explain, matches, selecting
from server.scheduler.values import Offer, Requirement
from worker.platform import PlatformWishes, parse_platform

SHA = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "canonical", "engine_name"),
    [
        ("docker://debian", "docker.io/library/debian:latest", None),
        ("debian:12", "docker.io/library/debian:12", None),
        ("docker://docker.io/library/debian:12", "docker.io/library/debian:12", None),
        ("index.docker.io/tools/cc", "docker.io/tools/cc:latest", None),
        ("docker://quay.io/a/b_c/d-e:v1.2-x", "quay.io/a/b_c/d-e:v1.2-x", None),
        ("localhost:5000/a", "localhost:5000/a:latest", None),
        ("localhost/a", "localhost/a:latest", None),
        (f"docker://gcr.io/p/i@{SHA}", SHA, f"gcr.io/p/i@{SHA}"),
        (f"i:tag@{SHA}", SHA, f"docker.io/library/i@{SHA}"),
        (SHA, SHA, SHA),
    ],
)
def test_names(text: str, canonical: str, engine_name: str | None) -> None:
    image = parse_image(text)
    assert (image.canonical, image.engine_name) == (canonical, engine_name or canonical)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("oci:/i/layout", "path:/i/layout"),
        ("oci:/i/layout:1.2", "path:/i/layout:1.2"),
        ("oci-archive:/i/x.tar", "path:/i/x.tar"),
        ("docker-archive:/i//y/../x.tar", "path:/i/x.tar"),
        ("/i/x.tar", "path:/i/x.tar"),
        ("//i/x.tar", "path:/i/x.tar"),
    ],
)
def test_paths(text: str, canonical: str) -> None:
    image = parse_image(text)
    assert (image.canonical, image.engine_name) == (canonical, None)


@pytest.mark.parametrize(
    "text",
    [
        "docker://", "http://x/y", "oci:layout", "docker://Upper", "docker://a b", "--privileged",
        "docker://a:", f"a@{SHA[:-1]}", "a@md5:00", "docker://../x", "a\0b", "x" * 5000,
        "docker://-v", "oci:",
    ],
)  # fmt: skip
def test_what_is_no_image(text: str) -> None:
    with pytest.raises(InvalidRequest, match="container-image"):
        parse_image(text)
    assert canonical_image(text) == text


@given(st.text())
def test_any_text_is_an_image_or_refused(text: str) -> None:
    try:
        image = parse_image(text)
    except InvalidRequest:
        return
    # Nothing that an engine could take for an option.
    assert image.engine_name is None or image.engine_name[0].isalnum()
    if image.engine_name is not None:
        assert parse_image(image.canonical).canonical == image.canonical


def action(*properties: tuple[str, str]) -> re_pb.Action:
    message = re_pb.Action()
    for name, value in properties:
        message.platform.properties.add(name=name, value=value)
    return message


@pytest.mark.parametrize(
    ("properties", "wishes"),
    [
        ([], {}),
        ([("OSFamily", "linux"), ("Pool", "x"), ("ISA", "x86-64")], {}),
        ([("container-image", "")], {}),
        ([("container-image", "none")], {}),
        ([("container-image", "debian")], {"image": parse_image("debian")}),
        ([("dockerNetwork", "off")], {}),
        ([("dockerNetwork", "standard")], {"network": True}),
        ([("requires-network", "")], {"network": True}),
        ([("requires-network", "1"), ("dockerNetwork", "off")], {"network": True}),
        ([("network", "on")], {"network": True}),
        ([("network", "off")], {}),
        ([("dockerRunAsRoot", "true")], {"as_root": True}),
        ([("dockerRunAsRoot", "False"), ("dockerPrivileged", "false")], {}),
    ],
)
def test_wishes(properties: list[tuple[str, str]], wishes: dict[str, object]) -> None:
    expected = PlatformWishes(**wishes)  # type: ignore[arg-type]
    assert parse_platform(action(*properties), re_pb.Command()) == expected
    command = re_pb.Command()
    command.platform.CopyFrom(action(*properties).platform)
    assert parse_platform(re_pb.Action(), command) == expected
    # An action's own platform, even an empty one, hides that of the command (REAPI 2.12 Action).
    empty = re_pb.Action()
    empty.platform.SetInParent()
    assert parse_platform(empty, command) == PlatformWishes()


@pytest.mark.parametrize(
    ("properties", "what"),
    [
        ([("dockerPrivileged", "true")], "dockerPrivileged is refused"),
        ([("dockerNetwork", "host")], "neither off nor standard"),
        ([("dockerRunAsRoot", "maybe")], "neither true nor false"),
        ([("container-image", "a"), ("container-image", "b")], "'a', 'b'"),
        ([("container-image", "http://a")], "http://a"),
    ],
)
def test_wishes_that_are_refused(properties: list[tuple[str, str]], what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        parse_platform(action(*properties), re_pb.Command())


def does_match(wanted: list[tuple[str, str]], *offered: tuple[str, str]) -> bool:
    platform = selecting(tuple(sorted(wanted)))
    return matches(Requirement("", platform), Offer("", tuple(sorted(offered))))


PLAIN = (("Arch", "x86_64"), ("ISA", "x86-64"), ("OSFamily", "linux"))


@pytest.mark.parametrize(
    "wanted",
    [
        [("OSFamily", "Linux")],
        [("OSFamily", "linux"), ("Arch", "amd64"), ("ISA", "x86_64")],
        [("Pool", "default")],
        [("dockerNetwork", "standard"), ("dockerRunAsRoot", "true"), ("dockerPrivileged", "true")],
        [("requires-network", ""), ("network", "on"), ("cache-silo-key", "x")],
        [("container-image", "")],
        [("container-image", "none")],
    ],
)
def test_what_makes_no_worker_unfit(wanted: list[tuple[str, str]]) -> None:
    assert does_match(wanted, *PLAIN)


@pytest.mark.parametrize(
    "wanted",
    [
        [("OSFamily", "windows")],
        [("Arch", "arm64")],
        [("Pool", "big")],
        [("container-image", "debian")],
    ],
)
def test_what_does(wanted: list[tuple[str, str]]) -> None:
    assert not does_match(wanted, *PLAIN)


def test_images_are_matched_by_what_they_mean() -> None:
    wanted = [("container-image", "docker://debian:12")]
    assert does_match(wanted, *PLAIN, ("container-image", "docker.io/library/debian:12"))
    assert does_match(wanted, *PLAIN, ("container-image", "*"))
    # As a Buildbarn worker announces the one that it runs in.
    assert does_match(wanted, *PLAIN, ("container-image", "docker://debian:12"))
    assert not does_match(wanted, *PLAIN, ("container-image", "docker://debian:11"))
    pinned = [("container-image", f"docker://mirror.example/debian@{SHA}")]
    assert does_match(pinned, *PLAIN, ("container-image", SHA))


def test_pools_are_kept_apart() -> None:
    assert not does_match([("Pool", "default")], *PLAIN, ("Pool", "big"))
    assert does_match([("Pool", "default")], *PLAIN, ("Pool", "default"))
    assert does_match([], *PLAIN, ("Pool", "big"))


def test_an_image_that_nobody_has_is_named() -> None:
    offer = Offer("", (*PLAIN, ("container-image", "docker.io/library/debian:12")))
    said = explain(Requirement("", (("container-image", "docker://fedora"),)), [offer])
    assert "docker://fedora" in said and "docker.io/library/debian:12" in said
