// SPDX-License-Identifier: Apache-2.0
// The program that cargo starts in place of rustc.
//
// It hands its arguments, environment and working directory to the user's daemon over a Unix
// socket and does what the daemon answers: replay output and exit, or run rustc here. Whatever
// goes wrong before that ends in plain rustc, as if it had not been there.
//
// `--from-shell SHELL CARGO …` is for cargo-distbuild-wrapper, which cargo's process CARGO started,
// and `--with SHELL NAME=VALUE… -- cargo …` for cargo-distbuild: given.c.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "given.h"

static char **rustc; // the command as cargo meant it: argv[1..]

#define METADATA "\"emit\":\"metadata\""
static int metadata_is_out; // cargo has heard of it, and must not again

static void rustc_without_metadata(void);

static void plain_rustc(void) {
    if (metadata_is_out) rustc_without_metadata();
    execvp(rustc[0], rustc);
    fprintf(stderr, "error: cannot run %s: %s\n", rustc[0], strerror(errno));
    _exit(127);
}

struct pair { char *from, *to; };

static FILE *held; // what a compile on trial has said so far
static char *held_data;
static size_t held_size;

static void release_held(void) {
    if (held && fclose(held) == 0) write_all(2, held_data, held_size);
    held = NULL;
    free(held_data);
    held_data = NULL;
}

static void say(const char *data, size_t size) {
    if (held) fwrite(data, 1, size, held);
    else write_all(2, data, size);
}

// Writes a line with every `from` turned into its `to`: the canonical paths of shared artifacts
// become the user's own in what rustc says.
static void write_replaced(const char *line, size_t size, struct pair *pairs, uint32_t count) {
    char *out = NULL;
    size_t out_size = 0;
    FILE *memory = open_memstream(&out, &out_size);
    if (!memory) { say(line, size); return; }
    for (size_t i = 0; i < size;) {
        uint32_t k = 0;
        size_t n = 0;
        for (; k < count; k++) {
            n = strlen(pairs[k].from);
            if (n > 0 && n <= size - i && memcmp(line + i, pairs[k].from, n) == 0) break;
        }
        if (k < count) { fputs(pairs[k].to, memory); i += n; }
        else fputc(line[i++], memory);
    }
    if (fclose(memory) == 0) say(out, out_size);
    free(out);
}

static pid_t child_pid;
static void (*pipe_before)(int); // what SIGPIPE did when cargo started us
static volatile sig_atomic_t is_told_to_end;
static void pass_on(int number) {
    is_told_to_end = 1;
    if (child_pid > 0) kill(child_pid, number);
}

// What was ignored stays so, for us and for the compiler, as in a job in the background.
static void forward_signal(int number) {
    struct sigaction before, forward = {.sa_handler = pass_on};
    if (sigaction(number, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(number, &forward, NULL);
}

// Takes the lines about metadata out of some whole lines; what is left of them.
static size_t drop_metadata(char *lines, size_t size) {
    size_t left = 0;
    for (size_t i = 0; i < size;) {
        char *end = memchr(lines + i, '\n', size - i);
        size_t n = end ? (size_t)(end - lines) + 1 - i : size - i;
        if (!memmem(lines + i, n, METADATA, sizeof METADATA - 1)) {
            memmove(lines + left, lines + i, n);
            left += n;
        }
        i += n;
    }
    return left;
}

// Copies rustc's stderr line by line to ours and, as it is, to the daemon.
static void forward_stderr(int from, int daemon, struct pair *pairs, uint32_t count) {
    size_t used = 0, room = 1 << 16;
    char *buffer = malloc(room);
    ssize_t n;
    while (buffer && ((n = read(from, buffer + used, room - used)) > 0 || (n < 0 && errno == EINTR))) {
        if (n < 0) continue;
        if (daemon >= 0 && send_frame(daemon, 'E', buffer + used, (uint32_t)n) != 0) daemon = -1;
        used += (size_t)n;
        char *last = memrchr(buffer, '\n', used);
        if (last) {
            size_t whole = (size_t)(last - buffer) + 1;
            size_t left = metadata_is_out ? drop_metadata(buffer, whole) : whole;
            write_replaced(buffer, left, pairs, count);
            // all macros have run by then: whatever comes after is the compiler's own word
            if (held && memmem(buffer, left, METADATA, sizeof METADATA - 1)) release_held();
            memmove(buffer, buffer + whole, used - whole);
            used -= whole;
        }
        if (used == room) buffer = realloc(buffer, room *= 2);
    }
    if (buffer && used) write_replaced(buffer, used, pairs, count);
}

// Runs what a T or H frame says; its wait status.
static int run_once(int daemon, char *payload, uint32_t size) {
    char *end = payload + size, *p = payload + 4;
    uint32_t count = u32(payload), argc = 0;
    struct pair *pairs = calloc(count + 1, sizeof *pairs);
    char **args = calloc(size + 1, sizeof *args);
    int ends[2];
    if (!pairs || !args || pipe2(ends, O_CLOEXEC) != 0) plain_rustc();
    for (uint32_t i = 0; i < count; i++) {
        pairs[i].from = p; p += strlen(p) + 1;
        pairs[i].to = p; p += strlen(p) + 1;
    }
    for (; p < end; p += strlen(p) + 1) args[argc++] = p;
    pid_t self = getpid();
    forward_signal(SIGTERM);
    forward_signal(SIGINT);
    forward_signal(SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    child_pid = fork();
    if (child_pid < 0) plain_rustc();
    if (child_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self) _exit(1);
        signal(SIGPIPE, pipe_before);
        dup2(ends[1], 2);
        execvp(args[0], args);
        fprintf(stderr, "error: cannot run %s: %s\n", args[0], strerror(errno));
        fflush(stderr);
        _exit(127);
    }
    close(ends[1]);
    forward_stderr(ends[0], daemon, pairs, count);
    int status = 0;
    while (waitpid(child_pid, &status, 0) < 0 && errno == EINTR) {}
    return status;
}

// rustc as cargo called it, but for what cargo has heard already.
static void rustc_without_metadata(void) {
    size_t size = 4;
    for (char **a = rustc; *a; a++) size += strlen(*a) + 1;
    char *payload = calloc(size + 1, 1), *p = payload + 4;
    if (!payload) _exit(1);
    for (char **a = rustc; *a; a++) p = stpcpy(p, *a) + 1;
    exit_as(run_once(-1, payload, (uint32_t)size));
}

static void run_tracked(int daemon, char *payload, uint32_t size, int on_trial) {
    for (;;) {
        if (on_trial) held = open_memstream(&held_data, &held_size);
        int s = run_once(daemon, payload, size);
        if (on_trial && is_told_to_end && s != 0) { // Ctrl-C: it is not to run once more
            release_held();
            exit_as(s);
        }
        char code[4] = {(char)s, (char)(s >> 8), (char)(s >> 16), (char)(s >> 24)};
        send_frame(daemon, 'X', code, 4);
        // the daemon answers when it has noted the outputs, or goes away
        char kind = 0;
        int answered = read_frame(daemon, &kind, &payload, &size) == 0;
        if (held && !answered && s != 0) plain_rustc(); // nobody is there to say what it meant
        if (!held || (kind != 'T' && kind != 'H') || size < 4) {
            release_held();
            exit_as(s);
        }
        fclose(held);
        held = NULL;
        free(held_data);
        held_data = NULL;
        on_trial = kind == 'H';
    }
}

// Does what the daemon says. Output is held back until the exit code is known: a daemon that dies
// before leaves no trace, and rustc starts afresh.
static void obey(int fd) {
    char *kept[2] = {NULL, NULL};
    size_t sizes[2] = {0, 0};
    FILE *streams[2] = {open_memstream(&kept[0], &sizes[0]), open_memstream(&kept[1], &sizes[1])};
    if (!streams[0] || !streams[1]) plain_rustc();
    for (;;) {
        char kind, *payload = NULL;
        uint32_t size = 0;
        if (read_frame(fd, &kind, &payload, &size) != 0) plain_rustc();
        switch (kind) {
        case 'O': fwrite(payload, 1, size, streams[0]); break;
        case 'E': fwrite(payload, 1, size, streams[1]); break;
        case 'F': // from here on it cannot be as if nothing had been
            for (int i = 0; i < 2; i++) {
                if (fclose(streams[i]) != 0 || write_all(i + 1, kept[i], sizes[i])) _exit(1);
                if (!(streams[i] = open_memstream(&kept[i], &sizes[i]))) _exit(1);
            }
            metadata_is_out = 1;
            break;
        case 'W': tell_user(payload, size); break;
        case 'X':
            if (size != 4 || fclose(streams[0]) != 0 || fclose(streams[1]) != 0) plain_rustc();
            if (write_all(1, kept[0], sizes[0]) || write_all(2, kept[1], sizes[1])) _exit(1);
            _exit((int)u32(payload));
        case 'H': case 'T': if (size >= 4) run_tracked(fd, payload, size, kind == 'H'); plain_rustc(); break;
        default: plain_rustc();
        }
        free(payload);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fputs("usage: set RUSTC_WRAPPER to this program; cargo gives it the rustc to run\n", stderr);
        return 2;
    }
    if (argc > 4 && strcmp(argv[1], "--from-shell") == 0) {
        take_environment_of((pid_t)atoi(argv[2]));
        cargo = (pid_t)atoi(argv[3]);
        argv += 3;
        argc -= 3;
    } else if (argc > 3 && strcmp(argv[1], "--with") == 0) {
        take_environment_of((pid_t)atoi(argv[2]));
        run_with(argv + 3);
    }
    rustc = argv + 1;
    ssize_t n = readlink("/proc/self/exe", home, sizeof home - 1);
    // the daemon's directory is two levels above this program
    for (int level = 0; level < 2 && n > 0; level++) {
        while (n > 0 && home[n - 1] != '/') n--;
        if (n > 0) home[--n] = 0;
    }
    if (!getenv("CARGO_CRATE_NAME")) {
        // no unit of cargo's: it asks the compiler what it can do, and has units for us afterwards
        if (n > 0) daemon_begin();
        plain_rustc();
    }
    pipe_before = signal(SIGPIPE, SIG_IGN);
    int fd = n > 0 ? daemon_socket() : -1;
    int ready = fd >= 0 && send_request(fd, "2", argc - 1, rustc) == 0;
    signal(SIGPIPE, pipe_before);
    if (!ready) plain_rustc();
    obey(fd);
}
