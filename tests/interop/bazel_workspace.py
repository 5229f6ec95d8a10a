"""The workspaces that the bazel tests build, and the two repositories bazel insists on."""

from __future__ import annotations

from pathlib import Path

from .bazel import stub_repositories
from .files import write_files

# bazel 4 fetches rules_cc and a coverage tool. Re-exporting its native rules is all we need.
_CC_RULES = "binary import library proto_library test toolchain toolchain_suite"  # each after cc_
_RULES_CC = "".join(f"cc_{rule} = native.cc_{rule}\n" for rule in _CC_RULES.split())
_RULES_CC += "objc_library = native.objc_library\n"
_COVERAGE = """
[filegroup(name = name, srcs = ["empty"], visibility = ["//visibility:public"])
 for name in ("coverage_report_generator", "lcov_merger")]
"""
_STUBS = {
    "rules_cc": {"WORKSPACE": "", "cc/BUILD": "", "cc/defs.bzl": _RULES_CC},
    "remote_coverage_tools": {"WORKSPACE": "", "BUILD": _COVERAGE, "empty": ""},
}
_PROJECT_BUILD = """
load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")
load(":tree.bzl", "tree")
genrule(name = "upper", srcs = ["words.txt"], outs = ["out/upper.txt"],
        cmd = "tr a-z A-Z < $< > $@")
genrule(name = "tool", outs = ["say.sh"], executable = True,
        cmd = "printf '#!/bin/sh\\\\necho said\\\\n' > $@")
genrule(name = "said", outs = ["said.txt"], exec_tools = [":tool"],
        cmd = "$(location :tool) > $@")
tree(name = "leaves", src = ":upper")
sh_test(name = "shell_test", size = "small", srcs = ["shell_test.sh"],
        data = [":upper", ":leaves"])
cc_library(name = "greeting", srcs = ["greeting.cc"], hdrs = ["greeting.h"])
cc_binary(name = "hello", srcs = ["hello.cc"], deps = [":greeting"])
cc_test(name = "greeting_test", size = "small", srcs = ["greeting_test.cc"],
        deps = [":greeting"])
"""
_TREE = """
def _tree(ctx):
    out = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(inputs = [ctx.file.src], outputs = [out], command = \"\"\"
        mkdir -p "$2/deep/empty" && cp "$1" "$2/deep/leaf" && cp "$1" "$2/other"
    \"\"\", arguments = [ctx.file.src.path, out.path])
    return DefaultInfo(files = depset([out]), runfiles = ctx.runfiles([out]))

tree = rule(_tree, attrs = {"src": attr.label(allow_single_file = True)})
"""
_PROJECT = {
    "WORKSPACE": "",
    "BUILD": _PROJECT_BUILD,
    "tree.bzl": _TREE,
    "words.txt": "hello world\n",
    "shell_test.sh": (
        "#!/bin/sh\nset -e\ngrep WORLD out/upper.txt\ncmp leaves/deep/leaf leaves/other\n"
    ),
    "greeting.h": "const char *greeting();\n",
    "greeting.cc": '#include "greeting.h"\nconst char *greeting() { return "hello"; }\n',
    "hello.cc": '#include <cstdio>\n#include "greeting.h"\nint main() { std::puts(greeting()); }\n',
    "greeting_test.cc": (
        '#include <cstring>\n#include "greeting.h"\n'
        'int main() { return std::strcmp(greeting(), "hello"); }\n'
    ),
}


def write_workspace(directory: Path, files: dict[str, str]) -> Path:
    """A workspace with these files, and beside it the repositories that bazel wants to load."""
    workspace = write_files(directory / "workspace", {"WORKSPACE": "", **files})
    for name, path in stub_repositories(workspace).items():
        write_files(path, _STUBS[name])
    return workspace


def write_project(directory: Path) -> Path:
    """Genrules (one runs a built tool), a directory output, C++ and tests of both kinds."""
    return write_workspace(directory, _PROJECT)
