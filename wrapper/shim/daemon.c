// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"

extern char **environ;
char home[4096];

int write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int read_all(int fd, char *data, size_t size) {
    while (size > 0) {
        ssize_t n = read(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

int send_frame(int fd, char kind, const char *data, uint32_t size) {
    char head[5] = {kind, (char)size, (char)(size >> 8), (char)(size >> 16), (char)(size >> 24)};
    return write_all(fd, head, 5) || write_all(fd, data, size) ? -1 : 0;
}

uint32_t u32(const char *p) {
    const unsigned char *b = (const unsigned char *)p;
    return b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
}

// Whether a daemon is there that is another user's: there will be no other.
static int is_others;

// A path under the home directory may be longer than a socket address holds: go through a
// descriptor of the directory.
static int connect_daemon(void) {
    int dir = open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/daemon.sock", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        is_others = errno == EACCES;
        close(fd);
        fd = -1;
    }
    close(dir);
    return fd;
}

// Whether there is what starts the daemon: launchers outlive the home that they are of.
static int can_start(void) {
    char program[PATH_MAX + 32];
    snprintf(program, sizeof program, "%s/bin/start-daemon", home);
    return access(program, R_OK) == 0;
}

// Starts the daemon in a session of its own; of many started at once one stays (it holds a lock).
static void start_daemon(void) {
    char program[PATH_MAX + 32];
    snprintf(program, sizeof program, "%s/bin/start-daemon", home);
    pid_t child = fork();
    if (child == 0) {
        if (fork() != 0) _exit(0);
        setsid();
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++) dup2(null, fd);
        // cargo's jobserver and the like must not stay open in the daemon
        syscall(SYS_close_range, 3, ~0U, 0);
        execl("/bin/sh", "sh", program, (char *)NULL);
        _exit(127);
    }
    if (child > 0) waitpid(child, NULL, 0);
}

// Whether a start failed within the last minute: start-daemon leaves a mark, and so does a shim
// that waited in vain. Without it each rustc of a build would wait again.
static int start_failed(int mark_now) {
    char mark[PATH_MAX + 32];
    struct stat st;
    snprintf(mark, sizeof mark, "%s/daemon.failed", home);
    if (mark_now) close(open(mark, O_WRONLY | O_CREAT | O_TRUNC, 0600));
    return stat(mark, &st) == 0 && time(NULL) - st.st_mtime < 60;
}

// Whether `cargo distbuild` has had one start for this build.
static int is_starting(void) {
    const char *said = getenv("DISTBUILD_STARTING");
    return said && *said;
}

int daemon_socket(void) {
    int fd = connect_daemon();
    if (fd < 0 && is_others) start_failed(1);
    if (fd >= 0 || start_failed(0) || !can_start()) return fd;
    int start_at = is_starting() ? 1000 : 0; // it may have been killed
    for (int waited = 0; waited < 10000; waited += 5) {
        if (waited == start_at) start_daemon();
        struct timespec pause = {0, 5 * 1000 * 1000};
        nanosleep(&pause, NULL);
        if ((fd = connect_daemon()) >= 0 || start_failed(0)) return fd;
    }
    start_failed(1);
    return -1;
}

void daemon_begin(void) {
    int fd = connect_daemon();
    if (fd >= 0) close(fd);
    else if (!is_others && !is_starting() && !start_failed(0)) start_daemon();
}

pid_t cargo;
static pid_t caller(void) { return cargo ? cargo : getppid(); }

int send_request(int fd, const char *version, int argc, char *const *argv) {
    char cwd[PATH_MAX];
    if (!getcwd(cwd, sizeof cwd)) return -1;
    char *data = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&data, &size);
    if (!out) return -1;
    fprintf(out, "%s%c%d%c%s%c%d%c", version, 0, (int)caller(), 0, cwd, 0, argc, 0);
    for (int i = 0; i < argc; i++) fwrite(argv[i], 1, strlen(argv[i]) + 1, out);
    for (char **e = environ; *e; e++) fwrite(*e, 1, strlen(*e) + 1, out);
    if (fclose(out) != 0 || size > UINT32_MAX) return -1;
    uint32_t n = (uint32_t)size;
    char head[4] = {(char)n, (char)(n >> 8), (char)(n >> 16), (char)(n >> 24)};
    int failed = write_all(fd, head, 4) || write_all(fd, data, size);
    free(data);
    return failed ? -1 : 0;
}

// cargo keeps what comes on our stderr and shows it again with every later build, so a word to
// the user goes to cargo's own stderr, where that can be had.
void tell_user(const char *text, uint32_t size) {
    int target = -1;
#if defined(SYS_pidfd_open) && defined(SYS_pidfd_getfd)
    int parent = (int)syscall(SYS_pidfd_open, caller(), 0);
    if (parent >= 0) target = (int)syscall(SYS_pidfd_getfd, parent, 2, 0);
#endif
    if (target < 0) {
        char name[64];
        struct stat st;
        snprintf(name, sizeof name, "/proc/%d/fd/2", (int)caller());
        // a file would be written at an offset of our own, over cargo's words
        if (stat(name, &st) == 0 && !S_ISREG(st.st_mode)) target = open(name, O_WRONLY | O_APPEND);
    }
    if (target < 0 || write_all(target, text, size) != 0) write_all(2, text, size);
}

int read_frame(int fd, char *kind, char **payload, uint32_t *size) {
    char head[5];
    if (read_all(fd, head, 5) != 0) return -1;
    *kind = head[0];
    *size = u32(head + 1);
    *payload = malloc((size_t)*size + 1);
    if (!*payload || read_all(fd, *payload, *size) != 0) return -1;
    (*payload)[*size] = 0;
    return 0;
}

// Ends as another process ended.
void exit_as(int status) {
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        kill(getpid(), WTERMSIG(status));
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}
