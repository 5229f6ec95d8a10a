// SPDX-License-Identifier: Apache-2.0
// Loaded into compilers and build scripts under watch: tells the watcher for which variables macros
// and scripts ask.
//
// No system call says that a variable was read, but almost all reading is by getenv(3). So each name
// that is asked for is opened as a file that is never there; the watcher notes that (watch.h). In a
// compiler only what others' code asks for, as the stack tells: the nearest that is neither C's
// library nor Rust's. What starts the compiler, such as rustup, hands this library on; what a
// compiler or script starts does not have it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include "watch.h"

extern char **environ;

// Of the C compiler's runtime, which compilers have loaded; set once that is known.
static _Unwind_Reason_Code (*backtrace)(_Unwind_Trace_Fn, void *);
static _Unwind_Ptr (*address_of)(struct _Unwind_Context *);

static int tells_all; // of a script

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
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) close((int)fd);
    errno = before;
}

enum code { UNKNOWN, LIBRARY, COMPILER, OTHERS };
struct place { uintptr_t address; enum code code; };

static enum code code_of(const char *path) {
    static const char *const libraries[] = {"/libstd-", "/libc.so", "/libgcc_s.so", "/asked-variables", PRELOADED};
    static const char *const compilers[] = {"/librustc_driver-", "/libLLVM"};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        if (strstr(path, libraries[i])) return LIBRARY;
    for (size_t i = 0; i < sizeof compilers / sizeof *compilers; i++)
        if (strstr(path, compilers[i])) return COMPILER;
    return *path ? OTHERS : COMPILER; // the program itself has no name
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

char *getenv(const char *name) {
    if (tells_all) {
        tell(name);
    } else if (backtrace) {
        struct place caller = {0, UNKNOWN};
        backtrace(look_at_caller, &caller);
        if (caller.code != COMPILER) tell(name);
    }
    return value_of(name);
}

char *secure_getenv(const char *name) { return getenv(name); }

static int is_compiler(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    return strstr(info->dlpi_name, "/librustc_driver") != NULL;
}

__attribute__((constructor)) static void begin(void) {
    char *preloaded = value_of("LD_PRELOAD");
    if (!preloaded || strncmp(preloaded, PRELOADED, sizeof PRELOADED - 1) != 0) return;
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
