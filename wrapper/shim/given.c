// SPDX-License-Identifier: Apache-2.0
// The environment that a shell between cargo, or the user, and us was given.
//
// A shell hands on no variable whose name it could not have, such as CFLAGS_x86_64-unknown-linux-gnu
// or CARGO_BIN_EXE_my-program, and has values of its own for others: IFS, OPTIND, PPID, PWD. What it
// was started with the kernel has noted.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "given.h"

extern char **environ;

// All of a file, which has no size, with a NUL after it; or NULL.
static char *read_all_of(const char *path, size_t *size) {
    size_t room = 1 << 16, used = 0;
    char *data = malloc(room);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (data && n > 0 && (n = read(fd, data + used, room - used - 1)) > 0) {
        used += (size_t)n;
        if (room - used < 2) data = realloc(data, room *= 2);
    }
    if (fd >= 0) close(fd);
    if (!data || n < 0 || used == 0) return NULL;
    data[used] = 0;
    *size = used;
    return data;
}

void take_environment_of(pid_t shell) {
    char path[64];
    size_t size = 0, count = 0;
    if (getppid() != shell) return; // it was killed, and what is our parent now is a stranger
    snprintf(path, sizeof path, "/proc/%d/environ", (int)shell);
    char *data = read_all_of(path, &size), **names = data ? calloc(size + 1, sizeof *names) : NULL;
    if (!names) return; // where /proc is not to be had: what the shell handed on
    for (char *p = data; p < data + size; p += strlen(p) + 1)
        if (strchr(p, '=')) names[count++] = p;
    environ = names;
}

void run_with(char **arguments) {
    // who stops the shell means cargo, and `cargo run` becomes the program
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    for (; *arguments && strcmp(*arguments, "--") != 0; arguments++) putenv(*arguments);
    if (!*arguments || !*++arguments) _exit(2);
    execvp(*arguments, arguments);
    fprintf(stderr, "error: cannot run %s: %s\n", *arguments, strerror(errno));
    _exit(127);
}
