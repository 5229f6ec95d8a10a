// SPDX-License-Identifier: Apache-2.0
// What bubblewrap runs in an action's sandbox: sets limits, gives up root for good, and becomes
// the command with exactly the environment that it asks for.
//
//   become [user=ID] [cpu=SECONDS] [data=BYTES] [fsize=BYTES] [nproc=COUNT] --
//          [NAME=VALUE ...] -- PROGRAM [ARGUMENT ...]
//
// One exec in place of prlimit, setpriv and env. Exits with 125 when it cannot, 127 when there is
// no such program, 126 when it cannot be run.
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what) {
    fprintf(stderr, "distbuild-become: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static void give_up_root(unsigned long id) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    // bubblewrap hands on ambient capabilities: those, and with the user all others, go here
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)) fail("privileges");
    if (setgroups(0, NULL)) fail("groups");
    if (setresgid(id, id, id)) fail("group");
    if (setresuid(id, id, id)) fail("user");
    if (syscall(SYS_capset, &header, none)) fail("capabilities");
}

static void limit(int resource, unsigned long value) {
    struct rlimit both = {value, value};
    if (setrlimit(resource, &both)) fail("limit");
}

static unsigned long number(const char *text) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || end == text || *end) errno = EINVAL, fail(text);
    return value;
}

int main(int count, char **arguments) {
    unsigned long user = 0;
    int at = 1;
    for (; at < count && strcmp(arguments[at], "--"); at++) {
        char *value = strchr(arguments[at], '=');
        if (!value) errno = EINVAL, fail(arguments[at]);
        *value++ = 0;
        if (!strcmp(arguments[at], "user")) user = number(value);
        else if (!strcmp(arguments[at], "cpu")) limit(RLIMIT_CPU, number(value));
        else if (!strcmp(arguments[at], "data")) limit(RLIMIT_DATA, number(value));
        else if (!strcmp(arguments[at], "fsize")) limit(RLIMIT_FSIZE, number(value));
        else if (!strcmp(arguments[at], "nproc")) limit(RLIMIT_NPROC, number(value));
        else errno = EINVAL, fail(arguments[at]);
    }
    char **environment = arguments + at + 1;
    for (at++; at < count && strcmp(arguments[at], "--"); at++)
        ;
    if (at + 1 >= count) {
        fprintf(stderr, "distbuild-become runs commands in a worker's sandbox, and is started by it\n");
        return 2;
    }
    char **command = arguments + at + 1;
    arguments[at] = NULL;
    if (user) give_up_root(user);
    environ = environment;
    execvp(command[0], command);
    int code = errno == ENOENT ? 127 : 126;
    fprintf(stderr, "%s: %s\n", command[0], strerror(errno));
    return code;
}
