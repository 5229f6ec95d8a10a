// SPDX-License-Identifier: Apache-2.0
// Loaded into compilers and build scripts under watch: tells the watcher for which variables macros
// and scripts ask, and whether macros ask for the time, random numbers and the like.
//
// No system call says that a variable was read, but almost all reading is by getenv(3). So each name
// that is asked for is opened as a file that is never there; the watcher notes that (watch.h). In a
// compiler only what others' code asks for, as the stack tells: the nearest that is neither C's
// library nor Rust's. What starts the compiler, such as rustup, hands this library on; what a
// compiler or script starts does not have it.
//
// The same for what changes from run to run and takes no system call with a path. What is none of a
// variable's name begins with `=`.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

#include "watch.h"

extern char **environ;

// Of the C compiler's runtime, which compilers have loaded; set once that is known.
static _Unwind_Reason_Code (*backtrace)(_Unwind_Trace_Fn, void *);
static _Unwind_Ptr (*address_of)(struct _Unwind_Context *);

static int tells_all; // of a script

// The C library's own function, for which one of the same name stands in here.
#define NEXT(name) \
    static __typeof__(name) *next_##name; \
    if (!next_##name) *(void **)&next_##name = dlsym(RTLD_NEXT, #name)

// Allocators ask before there is an allocator, so without any help of the C library's.
static char *value_of(const char *name) {
    size_t size = strlen(name);
    for (char **each = environ; each && *each && size; each++)
        if (strncmp(*each, name, size) == 0 && (*each)[size] == '=') return *each + size + 1;
    return NULL;
}

static void tell(const char *name) {
    char path[1024];
    int before = errno;
    snprintf(path, sizeof path, VARIABLES "%s", name);
    NEXT(syscall);
    long fd = next_syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) close((int)fd);
    errno = before;
}

enum code { UNKNOWN, LIBRARY, COMPILER, OTHERS };
struct place { uintptr_t address; enum code code; };

static int begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static enum code code_of(const char *path) {
    static const char *const libraries[] = {"libstd-", "libc.so", "libgcc_s.so", "asked-variables"};
    static const char *const compilers[] = {"librustc_driver-", "libLLVM"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (!*path) return COMPILER; // the program itself has no name
    if (begins(path, PRELOADED)) return LIBRARY;
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        if (begins(name, libraries[i])) return LIBRARY;
    for (size_t i = 0; i < sizeof compilers / sizeof *compilers; i++)
        if (begins(name, compilers[i])) return COMPILER;
    return OTHERS;
}

static int find_code(struct dl_phdr_info *object, size_t size, void *asked) {
    struct place *place = asked;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = object->dlpi_phdr + i;
        uintptr_t begin = object->dlpi_addr + part->p_vaddr;
        if (part->p_type != PT_LOAD || place->address < begin || place->address >= begin + part->p_memsz) continue;
        place->code = code_of(object->dlpi_name);
        return 1;
    }
    return (void)size, 0;
}

static _Unwind_Reason_Code look_at_caller(struct _Unwind_Context *context, void *asked) {
    struct place *place = asked;
    place->address = (uintptr_t)address_of(context);
    place->code = UNKNOWN;
    dl_iterate_phdr(find_code, place);
    return place->code == LIBRARY ? _URC_NO_REASON : _URC_END_OF_STACK;
}

// Of what others' code asks for in a compiler.
static void tell_of_others(const char *name) {
    if (!backtrace) return;
    struct place caller = {0, UNKNOWN};
    backtrace(look_at_caller, &caller);
    if (caller.code != COMPILER) tell(name);
}

// The state of Rust's hash maps says nothing, and is all that is asked for with this flag.
#define INSECURE 4
static void tell_of_random(unsigned long flags) {
    if (!(flags & INSECURE)) tell_of_others("=random numbers");
}

char *getenv(const char *name) {
    if (tells_all) tell(name);
    else tell_of_others(name);
    return value_of(name);
}

char *secure_getenv(const char *name) { return getenv(name); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(clock_gettime);
    // others count from when the machine was started, and say nothing but how much later it is
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI) tell_of_others("=the time");
    return next_clock_gettime(clock, now);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    NEXT(gettimeofday);
    tell_of_others("=the time");
    return next_gettimeofday(now, zone);
}

time_t time(time_t *now) {
    NEXT(time);
    tell_of_others("=the time");
    return next_time(now);
}

pid_t getpid(void) {
    NEXT(getpid);
    tell_of_others("=the number of its process");
    return next_getpid();
}

int uname(struct utsname *system) {
    NEXT(uname);
    tell_of_others("=the machine's name");
    return next_uname(system);
}

int gethostname(char *name, size_t size) {
    NEXT(gethostname);
    tell_of_others("=the machine's name");
    return next_gethostname(name, size);
}

ssize_t getrandom(void *buffer, size_t size, unsigned flags) {
    NEXT(getrandom);
    tell_of_random(flags);
    return next_getrandom(buffer, size, flags);
}

int getentropy(void *buffer, size_t size) {
    NEXT(getentropy);
    tell_of_others("=random numbers");
    return next_getentropy(buffer, size);
}

long syscall(long number, ...) {
    NEXT(syscall);
    long given[6];
    va_list all;
    va_start(all, number);
    for (int i = 0; i < 6; i++) given[i] = va_arg(all, long);
    va_end(all);
    if (number == SYS_getrandom) tell_of_random((unsigned long)given[2]);
    if (number == SYS_clock_gettime || number == SYS_gettimeofday) tell_of_others("=the time");
    if (number == SYS_getpid) tell_of_others("=the number of its process");
    return next_syscall(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

static int is_compiler(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    return strstr(info->dlpi_name, "/librustc_driver") != NULL;
}

__attribute__((constructor)) static void begin(void) {
    char *preloaded = value_of("LD_PRELOAD");
    if (!preloaded || !begins(preloaded, PRELOADED)) return;
    int is_script = value_of(IN_SCRIPT) != NULL;
    if (!is_script && !dl_iterate_phdr(is_compiler, NULL)) return;
    unsetenv(IN_SCRIPT);
    close(atoi(preloaded + sizeof PRELOADED - 1));
    char *rest = strchr(preloaded, ':');
    if (rest) setenv("LD_PRELOAD", rest + 1, 1);
    else unsetenv("LD_PRELOAD");
    if ((tells_all = is_script)) return tell("");
    *(void **)&address_of = dlsym(RTLD_DEFAULT, "_Unwind_GetIP");
    if (address_of) *(void **)&backtrace = dlsym(RTLD_DEFAULT, "_Unwind_Backtrace");
    if (backtrace) tell("");
}
