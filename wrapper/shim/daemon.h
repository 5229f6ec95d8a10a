// SPDX-License-Identifier: Apache-2.0
// The user's daemon, as the programs that cargo starts talk to it; wrapper/daemon/protocol.py is
// the other end.
//
// Request: u32 length, then NUL-ended strings: version ("2" of the shim, "S2" of a build script's
// launcher), parent pid, cwd, argc, arguments, environment. Frames in both directions: one byte
// kind, u32 length, payload; integers are little endian.
//   to the program: O stdout, E stderr, W a line for the user, X exit code (u32),
//                   L exec the real program as it was called; of a build script, variables to set
//   to the shim:    F say what came so far: it has the unit's metadata, and cargo may go on
//                   T run: u32 count of replacements, pairs of strings, then the arguments
//                   H the same on trial: what it says is held back until it has announced its
//                   metadata or ended; then X lets it stand, and T takes its place
//   to a launcher:  R run the build script and watch it: variables to set, NAME=VALUE; when it has
//                   ended, X lets it stand, and L has it run once more, unwatched
//   to the daemon:  O, E pieces of what it says, A accesses (watch.h), X its wait status (u32)
#ifndef DISTBUILD_DAEMON_H
#define DISTBUILD_DAEMON_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

extern char home[4096]; // DISTBUILD_HOME, set before anything else here is called
extern pid_t cargo;     // where it is not this process's parent

int daemon_socket(void);          // connected, or -1; has the daemon start where it does not run
void daemon_begin(void);          // has it start where it does not run; returns at once
int send_request(int fd, const char *version, int argc, char *const *argv);
int send_frame(int fd, char kind, const char *data, uint32_t size);
int read_frame(int fd, char *kind, char **payload, uint32_t *size); // NUL-ended, to be freed
int write_all(int fd, const char *data, size_t size);
uint32_t u32(const char *p);
void tell_user(const char *text, uint32_t size);
void exit_as(int status) __attribute__((noreturn));

#endif
