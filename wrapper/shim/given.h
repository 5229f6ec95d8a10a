// SPDX-License-Identifier: Apache-2.0
#ifndef DISTBUILD_GIVEN_H
#define DISTBUILD_GIVEN_H

#include <sys/types.h>

void take_environment_of(pid_t shell); // this process's parent's, as that was started
// Becomes a program: variables to set, NAME=VALUE, then `--` and the program with its arguments.
void run_with(char **arguments) __attribute__((noreturn));

#endif
