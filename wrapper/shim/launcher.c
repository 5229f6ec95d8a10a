// SPDX-License-Identifier: Apache-2.0
// Stands in a build script's place, with the script beside it.
//
// It asks the user's daemon whether this run's result is known, and if so puts it in place without
// a run. Otherwise it runs the script and tells the daemon what that read. Without a daemon, or
// outside of a build with the wrapper, it becomes the script.
//
// `--watch FILE PROGRAM ARGUMENTS` runs any program so, and writes what it read to a file;
// `--watch-most` does so without what watch.h calls not all. `--asked LIBRARY` before the program
// loads a library into compilers that tells for which variables they ask (asked.c).
//
// Its own file ends with: DISTBUILD_HOME, the script's name in the same directory and the
// workspace, each ended by NUL, then their length in all (u32) and the mark.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "watch.h"

#define MARK "distbld1"
#define BATCH (1 << 16)

static char **arguments;
static char script[PATH_MAX], workspace[PATH_MAX];
static int daemon_fd = -1;
static char batch[BATCH + PATH_MAX];
static uint32_t batched;

static void become_script(void) {
    execv(script, arguments);
    fprintf(stderr, "error: cannot run %s: %s\n", script, strerror(errno));
    _exit(127);
}

static int read_own_end(void) {
    static char end[3 * PATH_MAX];
    char tail[4 + sizeof MARK - 1];
    // cargo starts scripts by absolute paths, which serves where /proc is not mounted
    if (readlink("/proc/self/exe", script, sizeof script - 1) < 0) snprintf(script, sizeof script, "%s", arguments[0]);
    int fd = open(script, O_RDONLY | O_CLOEXEC);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    if (size < (off_t)sizeof tail || pread(fd, tail, sizeof tail, size - (off_t)sizeof tail) != sizeof tail) return -1;
    uint32_t length = u32(tail);
    if (memcmp(tail + 4, MARK, sizeof MARK - 1) != 0 || length > sizeof end) return -1;
    if (pread(fd, end, length, size - (off_t)sizeof tail - length) != (ssize_t)length) return -1;
    close(fd);
    char *name = end + strlen(end) + 1, *root = name + strlen(name) + 1;
    char *slash = strrchr(script, '/');
    if (!slash || strlen(end) >= sizeof home || root >= end + length) return -1;
    if (snprintf(slash + 1, sizeof script - (size_t)(slash + 1 - script), "%s", name) < 0) return -1;
    strcpy(home, end);
    snprintf(workspace, sizeof workspace, "%s", root);
    return 0;
}

static void flush_accesses(void) {
    if (batched) send_frame(daemon_fd, 'A', batch, batched);
    batched = 0;
}

static void batch_access(const char *data, unsigned size) {
    if (batched + size > BATCH) flush_accesses();
    if (size > sizeof batch - batched) return; // longer than paths can be
    memcpy(batch + batched, data, size);
    batched += size;
}

static pid_t child;
static volatile sig_atomic_t is_told_to_end;
static void pass_on(int number) {
    is_told_to_end = 1;
    if (child > 0) kill(child, number);
}

static int not_all;

// Put this process under watch, once the listener is received at the socket's other end.
static void be_watched(pid_t parent, int socket) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    int listener = watch_self(not_all), error = errno;
    char byte = 0, space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (listener >= 0) {
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &listener, sizeof(int));
    }
    byte = (char)(listener >= 0 ? 0 : error);
    if (sendmsg(socket, &message, 0) != 1 || read(socket, &byte, 1) != 1) _exit(1);
}

// Have the program load a library, by a descriptor: paths may have what separates the names.
static int preload(const char *library) {
    char value[PATH_MAX];
    const char *others = getenv("LD_PRELOAD");
    int fd = open(library, O_RDONLY);
    if (fd < 0) return 0;
    snprintf(value, sizeof value, PRELOADED "%d%s%s", fd, others ? ":" : "", others ? others : "");
    return setenv("LD_PRELOAD", value, 1) == 0;
}

static void set_variables(char *variables, uint32_t size) {
    for (char *p = variables; p < variables + size; p += strlen(p) + 1) putenv(p);
}

// The script under watch: `ends` are the pipes of its output.
static void start_script(pid_t parent, int ends[2][2], int socket, char *variables, uint32_t size) {
    dup2(ends[0][1], 1);
    dup2(ends[1][1], 2);
    set_variables(variables, size);
    char library[PATH_MAX];
    setenv(IN_SCRIPT, "1", 1);
    if (snprintf(library, sizeof library, "%s/bin/asked-variables.so", home) < 0 || !preload(library)) unsetenv(IN_SCRIPT);
    be_watched(parent, socket);
    become_script();
}

static int receive_listener(int socket) {
    char byte = 0, space[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    int listener = -1;
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1) {
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        if (head && head->cmsg_type == SCM_RIGHTS) memcpy(&listener, CMSG_DATA(head), sizeof(int));
        else {
            char words[128];
            snprintf(words, sizeof words, "this machine does not let programs be watched: %s", strerror(byte));
            note('!', words);
        }
    }
    if (write(socket, "", 1) != 1) return -1;
    return listener;
}

// One read of the script's output: kept, and told to the daemon. 0 at its end.
static int take(int fd, FILE *kept, char kind) {
    static char buffer[1 << 16];
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) return 1;
    if (n <= 0) return 0;
    fwrite(buffer, 1, (size_t)n, kept);
    hold_notes();
    send_frame(daemon_fd, kind, buffer, (uint32_t)n);
    release_notes();
    return 1;
}

// Until the script has ended and said its last; its wait status.
static int attend(int listener, int out, int err, FILE *kept[2]) {
    int ended = (int)syscall(SYS_pidfd_open, child, 0), status = 0;
    int is_served = listener < 0 || serve_all(listener);
    struct pollfd on[4] = {
        {out, POLLIN, 0}, {err, POLLIN, 0}, {ended, POLLIN, 0}, {is_served ? -1 : listener, POLLIN, 0}};
    while (on[0].fd >= 0 || on[1].fd >= 0 || on[2].fd >= 0) {
        if (poll(on, 4, -1) < 0) continue;
        if (on[3].revents && !serve(listener)) on[3].fd = -1;
        if (on[0].revents && !take(out, kept[0], 'O')) on[0].fd = -1;
        if (on[1].revents && !take(err, kept[1], 'E')) on[1].fd = -1;
        if (on[2].revents) {
            while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
            on[2].fd = -1;
        }
    }
    // what it leaves running must be answered for as long as it runs; some is about to end
    if (listener >= 0 && !is_done(listener, 200)) {
        note('!', "it leaves a program running");
        if (fork() == 0) {
            setsid();
            if (chdir("/") != 0) _exit(1);
            for (int fd = 0; fd < 3; fd++) close(fd);
            close(daemon_fd);
            serve_unseen(listener);
            _exit(0);
        }
    }
    note_to(NULL);
    return status;
}

static int can_wait(void) {
    int probe = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (probe >= 0) close(probe);
    return probe >= 0;
}

static FILE *accesses;
static void write_access(const char *data, unsigned size) { fwrite(data, 1, size, accesses); }

// Run a program with this one's own input and output. Without a file it was not watched.
static void watch_program(const char *file, char **program) {
    int pair[2], is_ready = 0;
    const char *library = NULL;
    if (strcmp(program[0], "--asked") == 0 && program[1] && program[2]) {
        library = program[1];
        program += 2;
    }
    accesses = can_wait() ? fopen(file, "we") : NULL;
    if (accesses && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        note_to(write_access);
        pid_t self = getpid();
        child = fork();
        is_ready = child >= 0;
        if (child == 0 && library) preload(library);
        if (child == 0) be_watched(self, pair[1]);
        if (child > 0) {
            signal(SIGTERM, pass_on);
            signal(SIGHUP, pass_on);
            close(pair[1]);
            tell_apart(child);
            int status = attend(receive_listener(pair[0]), -1, -1, NULL);
            if (ferror(accesses) | fclose(accesses)) unlink(file);
            exit_as(status);
        }
    }
    if (!is_ready) unlink(file);
    execv(program[0], program);
    fprintf(stderr, "error: cannot run %s: %s\n", program[0], strerror(errno));
    _exit(127);
}

static void run_watched(char *variables, uint32_t size) {
    int ends[2][2], pair[2];
    if (!can_wait()) become_script();
    char *data[2], kind = 0, *payload = NULL;
    size_t sizes[2];
    FILE *kept[2] = {open_memstream(data, sizes), open_memstream(data + 1, sizes + 1)};
    if (!kept[0] || !kept[1] || pipe2(ends[0], O_CLOEXEC) || pipe2(ends[1], O_CLOEXEC) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) become_script();
    note_to(batch_access);
    void (*pipe_before)(int) = signal(SIGPIPE, SIG_DFL);
    pid_t self = getpid();
    child = fork();
    if (child < 0) become_script();
    if (child == 0) start_script(self, ends, pair[1], variables, size);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, pass_on);
    signal(SIGHUP, pass_on);
    close(ends[0][1]);
    close(ends[1][1]);
    close(pair[1]);
    int status = attend(receive_listener(pair[0]), ends[0][0], ends[1][0], kept);
    // the build is over: nobody is to run it again, and into the directory of the next one
    if (is_told_to_end && status != 0) exit_as(status);
    flush_accesses();
    char code[4] = {(char)status, (char)(status >> 8), (char)(status >> 16), (char)(status >> 24)};
    send_frame(daemon_fd, 'X', code, 4);
    uint32_t answered = 0;
    int is_there = read_frame(daemon_fd, &kind, &payload, &answered) == 0;
    if ((is_there && kind == 'L') || (!is_there && status != 0)) {
        signal(SIGPIPE, pipe_before);
        become_script();
    }
    if (fclose(kept[0]) || fclose(kept[1])) _exit(1);
    if (write_all(1, data[0], sizes[0]) || write_all(2, data[1], sizes[1])) _exit(1);
    exit_as(status);
}

static void obey(void) {
    char *data[2], kind, *payload;
    size_t sizes[2];
    uint32_t size;
    FILE *kept[2] = {open_memstream(data, sizes), open_memstream(data + 1, sizes + 1)};
    while (kept[0] && kept[1] && read_frame(daemon_fd, &kind, &payload, &size) == 0) {
        if (kind == 'R') run_watched(payload, size);
        if (kind == 'L') {
            set_variables(payload, size);
            break;
        }
        if (kind == 'O') fwrite(payload, 1, size, kept[0]);
        if (kind == 'E') fwrite(payload, 1, size, kept[1]);
        if (kind == 'W') tell_user(payload, size);
        if (kind == 'X' && size == 4 && !fclose(kept[0]) && !fclose(kept[1])) {
            if (write_all(1, data[0], sizes[0]) || write_all(2, data[1], sizes[1])) _exit(1);
            _exit((int)u32(payload));
        }
        free(payload);
    }
    become_script();
}

int main(int argc, char **argv) {
    arguments = argv;
    if (argc < 1 || read_own_end() != 0) {
        not_all = argc > 3 && strcmp(argv[1], "--watch-most") == 0;
        if (not_all || (argc > 3 && strcmp(argv[1], "--watch") == 0)) watch_program(argv[2], argv + 3);
        // by itself it can be asked whether it could do its work here
        if (argc == 2 && strcmp(argv[1], "--can-watch") == 0) return watch_self(0) < 0;
        fputs("error: this file was cut; remove the target directory\n", stderr);
        return 1;
    }
    // cargo passes these on to build scripts; without them it is a build without the wrapper
    if (!getenv("RUSTC_WRAPPER") && !getenv("RUSTC_WORKSPACE_WRAPPER")) become_script();
    char *request[] = {script, workspace};
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    daemon_fd = daemon_socket();
    int is_asked = daemon_fd >= 0 && send_request(daemon_fd, "S2", 2, request) == 0;
    signal(SIGPIPE, before);
    if (!is_asked) become_script();
    obey();
}
