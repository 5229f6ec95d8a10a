// Asks the kernel for files in every way there is, each by the name of its call, below argv[1];
// says which. What becomes of the calls does not matter.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char buffer[1 << 16], path[4096], to[4096];
static const char *dir;

static void say(const char *name, const char *at) {
    snprintf(path, sizeof path, "%s/%s", at, name);
    snprintf(to, sizeof to, "%s/%s.to", at, name);
    puts(name);
}

#define PLAIN(call, ...) do { say(#call, dir); syscall(SYS_##call, __VA_ARGS__); } while (0)
#define AT(call, ...) do { say(#call, "sub/.."); syscall(SYS_##call, __VA_ARGS__); } while (0)

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    dir = argv[1];
    int at = open(dir, O_PATH | O_DIRECTORY);
    struct open_how how = {.flags = O_RDONLY};
    char *args[] = {path, NULL}, *none[] = {NULL};
    AT(openat, at, path, O_RDONLY);
    AT(openat2, at, path, &how, sizeof how);
    AT(newfstatat, at, path, buffer, 0);
    AT(statx, at, path, 0, 0, buffer);
    AT(faccessat, at, path, 0);
    AT(faccessat2, at, path, 0, 0);
    AT(readlinkat, at, path, buffer, 10);
    AT(mkdirat, at, path, 0700);
    AT(mknodat, at, path, S_IFIFO | 0600, 0);
    AT(symlinkat, "elsewhere", at, path);
    AT(linkat, at, path, at, to, 0);
    AT(renameat2, at, path, at, to, 0);
    AT(unlinkat, at, path, 0);
    AT(fchmodat, at, path, 0600);
    AT(fchownat, at, path, -1, -1, 0);
    AT(utimensat, at, path, NULL, 0);
    AT(execveat, at, path, args, none, 0);
    PLAIN(statfs, path, buffer);
    PLAIN(getxattr, path, "user.x", buffer, 10);
    PLAIN(lgetxattr, path, "user.x", buffer, 10);
    PLAIN(listxattr, path, buffer, 10);
    PLAIN(llistxattr, path, buffer, 10);
    PLAIN(setxattr, path, "user.x", "", 0, 0);
    PLAIN(lsetxattr, path, "user.x", "", 0, 0);
    PLAIN(removexattr, path, "user.x");
    PLAIN(lremovexattr, path, "user.x");
    PLAIN(truncate, path, 0);
    PLAIN(chdir, path);
    PLAIN(execve, path, args, none);
#ifdef SYS_renameat
    AT(renameat, at, path, at, to);
#endif
#ifdef SYS_open
    PLAIN(open, path, O_RDONLY);
    PLAIN(creat, path, 0600);
    PLAIN(stat, path, buffer);
    PLAIN(lstat, path, buffer);
    PLAIN(access, path, 0);
    PLAIN(readlink, path, buffer, 10);
    PLAIN(mkdir, path, 0700);
    PLAIN(mknod, path, S_IFIFO | 0600, 0);
    PLAIN(symlink, "elsewhere", path);
    PLAIN(link, path, to);
    PLAIN(rename, path, to);
    PLAIN(unlink, path);
    PLAIN(rmdir, path);
    PLAIN(chmod, path, 0600);
    PLAIN(chown, path, -1, -1);
    PLAIN(lchown, path, -1, -1);
    PLAIN(utime, path, NULL);
    PLAIN(utimes, path, NULL);
    AT(futimesat, at, path, NULL);
#endif
    return 0;
}
