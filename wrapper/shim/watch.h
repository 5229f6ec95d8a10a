// SPDX-License-Identifier: Apache-2.0
// Sees which paths a program and all that it starts ask the kernel for.
//
// A seccomp filter hands system calls that name files to the watcher, which notes them and lets
// them go on. An access is one byte of kind, the path, absolute, and NUL:
//   s whether it is there, or what a link says    o opened to be read    x run as a program
//   c made where nothing was    m something that was there may be changed or removed
//   l where a link leads that is made    v a variable that was asked for: its name, and no path
//   ! what may reach farther than paths tell, in words
// After `tell_apart` the kinds of what other processes than the one named ask for are capitals.
#ifndef DISTBUILD_WATCH_H
#define DISTBUILD_WATCH_H

#include <sys/types.h>

// Said of programs that do less under watch than they would otherwise: sudo and its kind.
#define OTHER_RIGHTS "it runs a program with another user's rights"

// What asked.c opens to say that a variable was asked for, before its name; without a name it says
// that it is at work.
#define VARIABLES "/.distbuild-variable/"
// How the library of asked.c is named to whom it is loaded into, before its descriptor.
#define PRELOADED "/proc/self/fd/"
// Set where that is a build script.
#define IN_SCRIPT "DISTBUILD_IN_SCRIPT"

// Puts this process and its children under watch; the descriptor for `serve`, or -1 with errno.
// `not_all`: without whether files are there, what links say, and what changes or removes files,
// which compilers and linkers ask and do by the thousand.
int watch_self(int not_all);

void tell_apart(pid_t process);

// Answers calls at the descriptor from now on, in threads of this process; how many there are.
int serve_all(int listener);

// Waits for one call and answers it; 0 when there will be no other.
int serve(int listener);

// Waits so long at most, or for ever if negative, until no watched process is left; whether that is so.
int is_done(int listener, int milliseconds);

// Answers calls without noting them, until no watched process is left.
void serve_unseen(int listener);

// Where accesses go, from any thread; each one is told once. To NULL none is told any more.
void note_to(void (*sink)(const char *data, unsigned size));
void note(char kind, const char *path);

// In between nothing is told.
void hold_notes(void);
void release_notes(void);

#endif
