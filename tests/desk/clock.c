// A wall clock that is CLOCK_BACK seconds behind, for a program that loads this first (LD_PRELOAD). tests/desk/screenshots
// lets a week pass with it. Everything in a process reads the clock through the kernel's vDSO, so that is where it is set
// back. Waits until a time of that clock are told the true time, or all of them would be over at once. Linux on x86-64.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static time_t back;

static int behind(clockid_t clock, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec -= back;
    return failed;
}

static int of_day(struct timeval *at, void *zone) {
    (void)zone;
    struct timespec now;
    behind(CLOCK_REALTIME, &now);
    *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

// Makes `name` of the vDSO jump to `to`.
static void lead(void *vdso, const char *name, void *to) {
    uint8_t *from = dlsym(vdso, name), jump[12] = {0x48, 0xb8, [10] = 0xff, 0xe0};  // mov rax, to; jmp rax
    memcpy(jump + 2, &to, sizeof to);
    if (!from) abort();
    memcpy(from, jump, sizeof jump);
}

__attribute__((constructor)) static void set_back(void) {
    const char *seconds = getenv("CLOCK_BACK");
    void *vdso = dlopen("linux-vdso.so.1", RTLD_NOLOAD | RTLD_NOW);
    if (!seconds || !vdso) abort();
    back = atol(seconds);
    // The kernel changes the rights of all of it or of nothing, and how large it is differs.
    void *all = (void *)getauxval(AT_SYSINFO_EHDR);
    size_t size = 4096;
    while (mprotect(all, size, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) {
        if ((size += 4096) > 65536) abort();
    }
    lead(vdso, "__vdso_clock_gettime", behind);
    lead(vdso, "__vdso_gettimeofday", of_day);
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
    if (!real) real = (int (*)(cnd_t *, mtx_t *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec truly = {until->tv_sec + back, until->tv_nsec};
    return real(condition, mutex, &truly);
}
