// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <search.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "watch.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

// x86-64 has a second set of numbers, from here on, for 32-bit pointers.
#define OTHER_NUMBERS 0x40000000

enum what { LOOK, OPEN, OPEN2, RUN, MAKE, LINK, TURN, ALTER, SOCKET, CONNECT, SEND, FARTHER };

// `base` and `path` are numbers of arguments; -1: the working directory.
struct call { int number; enum what what; signed char base, path, flags; };

static const struct call calls[] = {
    {SYS_openat, OPEN, 0, 1, 2}, {SYS_openat2, OPEN2, 0, 1, 2},
    {SYS_newfstatat, LOOK, 0, 1, -1}, {SYS_statx, LOOK, 0, 1, -1},
    {SYS_faccessat, LOOK, 0, 1, -1}, {SYS_faccessat2, LOOK, 0, 1, -1},
    {SYS_readlinkat, LOOK, 0, 1, -1}, {SYS_statfs, LOOK, -1, 0, -1},
    {SYS_getxattr, LOOK, -1, 0, -1}, {SYS_lgetxattr, LOOK, -1, 0, -1},
    {SYS_listxattr, LOOK, -1, 0, -1}, {SYS_llistxattr, LOOK, -1, 0, -1},
    {SYS_chdir, LOOK, -1, 0, -1}, {SYS_execve, RUN, -1, 0, -1}, {SYS_execveat, RUN, 0, 1, -1},
    {SYS_mkdirat, MAKE, 0, 1, -1}, {SYS_mknodat, MAKE, 0, 1, -1}, {SYS_symlinkat, LINK, 1, 2, -1},
    {SYS_linkat, LOOK, 0, 1, -1}, {SYS_linkat, MAKE, 2, 3, -1},
    {SYS_renameat2, ALTER, 0, 1, -1}, {SYS_renameat2, TURN, 2, 3, -1},
    {SYS_unlinkat, ALTER, 0, 1, -1}, {SYS_fchmodat, ALTER, 0, 1, -1},
    {SYS_fchownat, ALTER, 0, 1, -1}, {SYS_truncate, ALTER, -1, 0, -1},
    {SYS_utimensat, ALTER, 0, 1, -1}, {SYS_setxattr, ALTER, -1, 0, -1},
    {SYS_lsetxattr, ALTER, -1, 0, -1}, {SYS_removexattr, ALTER, -1, 0, -1},
    {SYS_lremovexattr, ALTER, -1, 0, -1},
#ifdef SYS_fchmodat2
    {SYS_fchmodat2, ALTER, 0, 1, -1},
#endif
#ifdef SYS_renameat
    {SYS_renameat, ALTER, 0, 1, -1}, {SYS_renameat, TURN, 2, 3, -1},
#endif
#ifdef SYS_open
    {SYS_open, OPEN, -1, 0, 1}, {SYS_creat, MAKE, -1, 0, -1}, {SYS_stat, LOOK, -1, 0, -1},
    {SYS_lstat, LOOK, -1, 0, -1}, {SYS_access, LOOK, -1, 0, -1}, {SYS_readlink, LOOK, -1, 0, -1},
    {SYS_mkdir, MAKE, -1, 0, -1}, {SYS_mknod, MAKE, -1, 0, -1}, {SYS_symlink, LINK, -1, 1, -1},
    {SYS_link, LOOK, -1, 0, -1}, {SYS_link, MAKE, -1, 1, -1},
    {SYS_rename, ALTER, -1, 0, -1}, {SYS_rename, TURN, -1, 1, -1},
    {SYS_unlink, ALTER, -1, 0, -1}, {SYS_rmdir, ALTER, -1, 0, -1}, {SYS_chmod, ALTER, -1, 0, -1},
    {SYS_chown, ALTER, -1, 0, -1}, {SYS_lchown, ALTER, -1, 0, -1}, {SYS_utime, ALTER, -1, 0, -1},
    {SYS_utimes, ALTER, -1, 0, -1}, {SYS_futimesat, ALTER, 0, 1, -1},
#endif
    {SYS_socket, SOCKET, -1, -1, -1}, {SYS_connect, CONNECT, -1, -1, -1},
    {SYS_bind, CONNECT, -1, -1, -1}, {SYS_sendto, SEND, -1, -1, -1},
    {SYS_mount, FARTHER, -1, -1, -1}, {SYS_chroot, FARTHER, -1, -1, -1},
    {SYS_pivot_root, FARTHER, -1, -1, -1}, {SYS_unshare, FARTHER, -1, -1, -1},
    {SYS_setns, FARTHER, -1, -1, -1}, {SYS_ptrace, FARTHER, -1, -1, -1},
    {SYS_io_uring_setup, FARTHER, -1, -1, -1}, {SYS_open_by_handle_at, FARTHER, -1, -1, -1},
    {SYS_shmget, FARTHER, -1, -1, -1}, {SYS_mq_open, FARTHER, -1, -1, -1},
    {SYS_msgget, FARTHER, -1, -1, -1}, {SYS_semget, FARTHER, -1, -1, -1},
};
#define CALLS (sizeof calls / sizeof *calls)

// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which older headers lack
#define WAIT_KILLABLE (1UL << 5)
// What is watched is no stranger: without this, kernels before 5.16 make all of it slower, so that
// none of it is executed ahead.
#define SPEC_ALLOW (1UL << 2)
#define NEW_LISTENER (SECCOMP_FILTER_FLAG_NEW_LISTENER | SPEC_ALLOW)

// SECCOMP_IOCTL_NOTIF_SET_FLAGS and SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, which older headers lack
#define SET_FLAGS SECCOMP_IOW(4, uint64_t)
#define SYNC_WAKE_UP 1UL

#define MOST_THREADS 8

static pthread_mutex_t noting = PTHREAD_MUTEX_INITIALIZER; // of what follows
static void (*sink)(const char *, unsigned);
static void *told; // accesses by their text, a tree of <search.h>

static pid_t apart;           // whose accesses are told apart from those of others, if any are
static __thread int is_other; // whether what is noted now is another's

void tell_apart(pid_t process) { apart = process; }

static int compare(const void *a, const void *b) { return strcmp(a, b); }

void note_to(void (*to)(const char *, unsigned)) {
    hold_notes();
    sink = to;
    release_notes();
}

void hold_notes(void) { pthread_mutex_lock(&noting); }
void release_notes(void) { pthread_mutex_unlock(&noting); }

void note(char kind, const char *path) {
    char text[PATH_MAX + 2];
    size_t size = strlen(path) + 2;
    if (size > sizeof text) abort();
    text[0] = is_other && islower((unsigned char)kind) ? (char)toupper(kind) : kind;
    memcpy(text + 1, path, size - 1);
    hold_notes();
    if (sink && !tfind(text, &told, compare)) { // most accesses are the same over again
        char *kept = strdup(text);
        if (!kept || !tsearch(kept, &told, compare)) abort();
        sink(kept, (unsigned)size);
    }
    release_notes();
}

enum found { FOUND, NOTHING, HIDDEN };

// Whether the kernel would not find either what we could not read, or this is hidden from us.
static enum found why(void) {
    return errno == EFAULT || errno == ESRCH || errno == ENOENT ? NOTHING : HIDDEN;
}

// A program's string. It may end close before memory that is not there, so page by page.
static enum found text_of(pid_t pid, uint64_t address, char *text) {
    size_t used = 0;
    while (used < PATH_MAX) {
        size_t n = 4096 - (address + used) % 4096;
        if (n > PATH_MAX - used) n = PATH_MAX - used;
        struct iovec here = {text + used, n}, there = {(void *)(address + used), n};
        if (process_vm_readv(pid, &here, 1, &there, 1, 0) != (ssize_t)n) return why();
        if (memchr(text + used, 0, n)) return FOUND;
        used += n;
    }
    return NOTHING; // too long for the kernel too
}

// The absolute path that an argument names.
static enum found path_of(const struct seccomp_notif *asked, const struct call *call, char *path) {
    char text[PATH_MAX], link[64];
    uint64_t address = asked->data.args[(int)call->path];
    if (address == 0) return NOTHING;
    enum found found = text_of((pid_t)asked->pid, address, text);
    if (found != FOUND) return found;
    if (text[0] == '/') return snprintf(path, PATH_MAX, "%s", text) < 0 ? HIDDEN : FOUND;
    // the descriptor itself is meant, whose opening was noted
    if (text[0] == 0 && (call->what != RUN || call->base < 0)) return NOTHING;
    int base = call->base < 0 ? AT_FDCWD : (int)asked->data.args[(int)call->base];
    if (base == AT_FDCWD) snprintf(link, sizeof link, "/proc/%d/cwd", (int)asked->pid);
    else snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)asked->pid, base);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) return why();
    path[n] = 0;
    if (text[0] == 0) return FOUND;
    if ((size_t)n + strlen(text) + 2 > PATH_MAX) return HIDDEN;
    path[n] = '/';
    strcpy(path + n + 1, text);
    return FOUND;
}

// Where a link leads that is made at `path`.
static void note_target(const struct seccomp_notif *asked, char *path) {
    char text[PATH_MAX];
    if (text_of((pid_t)asked->pid, asked->data.args[0], text) != FOUND) return;
    size_t n = text[0] == '/' ? 0 : (size_t)(strrchr(path, '/') - path) + 1;
    if (n + strlen(text) >= PATH_MAX) return note('!', "it makes a link whose end cannot be seen");
    strcpy(path + n, text);
    note('l', path);
}

// The interpreter of a script, which the kernel opens by itself.
static void note_interpreter(const char *path) {
    char line[256] = "";
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0) close(fd);
    if (n < 3 || line[0] != '#' || line[1] != '!') return;
    char *name = line + 2 + strspn(line + 2, " \t");
    name[strcspn(name, " \t\n")] = 0;
    if (name[0] == '/') note('x', name);
}

static void note_argument(const char *text) {
    if (strstr(text, "=native") && (strstr(text, "-m") || strstr(text, "target-cpu")))
        note('!', "it compiles for this machine's own processor");
}

// How much of what begins at an address may be read without coming to another page.
static size_t in_page(uint64_t address, size_t most) {
    size_t rest = 4096 - address % 4096;
    return rest < most ? rest : most;
}

#define AT_ONCE 256
#define BEGINNING 96

// The arguments at some addresses. Compilers and linkers get hundreds, so not one by one.
static void note_arguments(pid_t pid, const uint64_t *addresses, size_t count) {
    static __thread char beginnings[AT_ONCE][BEGINNING];
    struct iovec here[AT_ONCE], there[AT_ONCE];
    char text[PATH_MAX];
    ssize_t size = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = in_page(addresses[i], BEGINNING);
        here[i] = (struct iovec){beginnings[i], n};
        there[i] = (struct iovec){(void *)addresses[i], n};
        size += (ssize_t)n;
    }
    int is_read = process_vm_readv(pid, here, count, there, count, 0) == size;
    for (size_t i = 0; i < count; i++) {
        if (is_read && memchr(beginnings[i], 0, here[i].iov_len)) note_argument(beginnings[i]);
        else if (text_of(pid, addresses[i], text) == FOUND) note_argument(text);
    }
}

// What the paths do not say of a program that is about to be run.
static void note_run(const struct seccomp_notif *asked, const struct call *call, const char *path) {
    struct stat st;
    // what takes others' rights refuses to go on without, also where it is root's already
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
        ((st.st_mode & (S_ISUID | S_ISGID)) || getxattr(path, "security.capability", NULL, 0) > 0))
        note('!', OTHER_RIGHTS);
    note_interpreter(path);
    if (apart) return; // a compiler's arguments are known, and a linker's with them
    uint64_t at = asked->data.args[call->path + 1], addresses[AT_ONCE];
    size_t count, n;
    do {
        n = in_page(at, sizeof addresses) / sizeof *addresses;
        if (n == 0) n = 1;
        struct iovec here = {addresses, n * sizeof *addresses}, there = {(void *)at, n * sizeof *addresses};
        if (process_vm_readv((pid_t)asked->pid, &here, 1, &there, 1, 0) != (ssize_t)here.iov_len) return;
        for (count = 0; count < n && addresses[count]; count++) {}
        note_arguments((pid_t)asked->pid, addresses, count);
        at += n * sizeof *addresses;
    } while (count == n);
}

static uint64_t open_flags(const struct seccomp_notif *asked, const struct call *call) {
    uint64_t value = asked->data.args[(int)call->flags];
    if (call->what == OPEN) return value;
    struct iovec here = {&value, sizeof value}, there = {(void *)value, sizeof value};
    if (process_vm_readv((pid_t)asked->pid, &here, 1, &there, 1, 0) != sizeof value) return O_RDWR;
    return value;
}

// Whether paths mean something else in this call: RESOLVE_IN_ROOT.
static int leads_elsewhere(const struct seccomp_notif *asked, const struct call *call) {
    uint64_t how[3] = {0};
    if (call->what != OPEN2) return 0;
    struct iovec here = {how, sizeof how}, there = {(void *)asked->data.args[(int)call->flags], sizeof how};
    return process_vm_readv((pid_t)asked->pid, &here, 1, &there, 1, 0) == sizeof how && how[2] & 0x10;
}

static char kind_of(const struct seccomp_notif *asked, const struct call *call, const char *path) {
    struct stat st;
    int is_there = 1;
    if (call->what == LOOK) return 's';
    if (call->what == RUN) return access(path, F_OK) == 0 || errno != ENOENT ? 'x' : 's';
    if (call->what == OPEN || call->what == OPEN2) {
        uint64_t flags = open_flags(asked, call);
        if ((flags & O_TMPFILE) == O_TMPFILE || (flags & O_PATH)) return 's';
        if ((flags & O_ACCMODE) == O_RDONLY && !(flags & (O_TRUNC | O_CREAT))) return 'o';
        is_there = lstat(path, &st) == 0;
        if (is_there && (flags & O_CREAT) && (flags & O_EXCL)) return 's';
        if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC))
            return !is_there && (flags & O_CREAT) ? 'c' : 'o';
        return is_there ? 'm' : flags & O_CREAT ? 'c' : 's';
    }
    is_there = lstat(path, &st) == 0;
    if (call->what == ALTER) return is_there ? 'm' : 's';
    // what makes a directory where one is fails, and changes nothing; but by a new name for another
    return !is_there ? 'c' : S_ISDIR(st.st_mode) && call->what != TURN ? 's' : 'm';
}

static void note_connect(const struct seccomp_notif *asked) {
    struct sockaddr_un address = {0};
    size_t size = asked->data.args[2] < sizeof address ? asked->data.args[2] : sizeof address - 1;
    struct iovec here = {&address, size}, there = {(void *)asked->data.args[1], size};
    if (process_vm_readv((pid_t)asked->pid, &here, 1, &there, 1, 0) != (ssize_t)size) return;
    if (address.sun_family != AF_UNIX) return; // its socket was noted
    if (address.sun_path[0] == '/') note(access(address.sun_path, F_OK) == 0 ? 'm' : 's', address.sun_path);
    else note('!', "it talks to another program over a socket");
}

static void look_at(const struct seccomp_notif *asked) {
    char path[PATH_MAX];
    static __thread pid_t last; // who asks has often asked before
    if (apart && (pid_t)asked->pid != last) {
        last = (pid_t)asked->pid;
        snprintf(path, sizeof path, "/proc/%d/task/%d", (int)apart, (int)last);
        is_other = access(path, F_OK) != 0;
    }
    if (asked->data.arch != ARCHITECTURE || asked->data.nr >= OTHER_NUMBERS)
        note('!', "it runs a program of another architecture");
    for (size_t i = 0; i < CALLS; i++) {
        const struct call *call = calls + i;
        if (call->number != asked->data.nr) continue;
        if (call->what == SOCKET) {
            if (asked->data.args[0] != AF_UNIX) note('!', "it opens a network socket");
        } else if (call->what == CONNECT) {
            note_connect(asked);
        } else if (call->what == SEND) {
            if (asked->data.args[4]) note('!', "it talks to another program over a socket");
        } else if (call->what == FARTHER) {
            snprintf(path, sizeof path, "it uses system call %d", asked->data.nr);
            note('!', path);
        } else {
            enum found found = leads_elsewhere(asked, call) ? HIDDEN : path_of(asked, call, path);
            if (found == HIDDEN) note('!', "it names a file that cannot be seen");
            if (found != FOUND) continue;
            if (strncmp(path, VARIABLES, sizeof VARIABLES - 1) == 0) {
                note('v', path + sizeof VARIABLES - 1);
                continue;
            }
            note(kind_of(asked, call, path), path);
            if (call->what == RUN) note_run(asked, call, path);
            if (call->what == LINK) note_target(asked, path);
        }
    }
}

// Whether the kernel lets noted calls go on (5.5) and says when nobody is left (5.8).
static int is_recent(void) {
    struct utsname system;
    unsigned major = 0, minor = 0;
    if (uname(&system) != 0 || sscanf(system.release, "%u.%u", &major, &minor) != 2) return 0;
    return major > 5 || (major == 5 && minor >= 8);
}

// Whether a call is one of those that `not_all` leaves out.
static int is_left_out(int number) {
    for (size_t i = 0; i < CALLS; i++)
        if (calls[i].number == number && (calls[i].what == LOOK || calls[i].what == ALTER)) return 1;
    return 0;
}

int watch_self(int not_all) {
    struct sock_filter filter[CALLS + 6];
    size_t n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, CALLS + 3);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, OTHER_NUMBERS, CALLS + 1, 0);
    for (size_t i = 0; i < CALLS; i++) {
        unsigned number = not_all && is_left_out(calls[i].number) ? UINT32_MAX : (unsigned)calls[i].number;
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, (unsigned char)(CALLS - i), 0);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog program = {(unsigned short)n, filter};
    if (!is_recent()) {
        errno = ENOSYS;
        return -1;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    // a signal that comes while a call is looked at must not end the call; before Linux 5.19 it may
    int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, NEW_LISTENER | WAIT_KILLABLE, &program);
    if (listener < 0 && errno == EINVAL)
        listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, NEW_LISTENER, &program);
    return listener;
}

#define SOME 256

// Who asks and who answers take turns on one processor, which is half the time, from Linux 6.6 on.
// But where several programs ask in turn, all of them would be on that one.
static void choose_processors(int listener, pid_t asks) {
    static pid_t last, before;
    static unsigned count, returned;
    static int is_one;
    hold_notes();
    if (asks != last) {
        returned += asks == before;
        before = last;
        last = asks;
    }
    if (count++ % SOME == 0) {
        int are_several = returned > SOME / 8;
        if (is_one == are_several) ioctl(listener, SET_FLAGS, are_several ? 0 : SYNC_WAKE_UP);
        is_one = !are_several;
        returned = 0;
    }
    release_notes();
}

int is_done(int listener, int milliseconds) {
    struct pollfd on = {listener, 0, 0};
    return poll(&on, 1, milliseconds) > 0 && on.revents & (POLLHUP | POLLERR);
}

// Waits for a call and answers it; 0 when there will be no other.
static int answer(int listener, int notes) {
    struct seccomp_notif asked = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0)
        return (errno == EINTR || errno == ENOENT) && !is_done(listener, 0);
    if (notes) { // else this is a fork, in which a thread that is not may hold the lock
        choose_processors(listener, (pid_t)asked.pid);
        look_at(&asked);
    }
    struct seccomp_notif_resp reply = {.id = asked.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply); // fails for who was killed meanwhile
    return 1;
}

int serve(int listener) { return answer(listener, 1); }

// A thread's. One that waits may not hear that nobody is left: it ends with this process.
static void *serve_on(void *listener) {
    while (serve((int)(intptr_t)listener)) {}
    return NULL;
}

int serve_all(int listener) {
    pthread_t thread;
    int count = 0;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    while (count < processors && count < MOST_THREADS &&
           pthread_create(&thread, NULL, serve_on, (void *)(intptr_t)listener) == 0) count++;
    return count;
}

void serve_unseen(int listener) {
    struct pollfd on = {listener, POLLIN, 0};
    while (poll(&on, 1, -1) < 0 || (!(on.revents & (POLLHUP | POLLERR)) && answer(listener, 0))) {}
}
