// SPDX-License-Identifier: Apache-2.0
#ifndef DISTBUILD_GIVEN_H
#define DISTBUILD_GIVEN_H

void take_shells_environment(void); // this process's parent's, as that was started
// Becomes a program: variables to set, NAME=VALUE, then `--` and the program with its arguments.
void run_with(char **arguments) __attribute__((noreturn));

#endif
