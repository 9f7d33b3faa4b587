// A wall clock that is CLOCK_BACK seconds behind, for a program that loads this first (LD_PRELOAD). tests/desk/screenshots
// lets a week pass with it. Waits by that clock are told the true time, or they would all be over at once.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>

static time_t back(void) {
    static time_t seconds = -1;
    if (seconds < 0) seconds = getenv("CLOCK_BACK") ? atol(getenv("CLOCK_BACK")) : 0;
    return seconds;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int clock_gettime(clockid_t clock, struct timespec *at) {
    REAL(clock_gettime);
    int failed = real(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec -= back();
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    REAL(gettimeofday);
    int failed = real(at, zone);
    if (!failed) at->tv_sec -= back();
    return failed;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    REAL(cnd_timedwait);
    struct timespec truly = {until->tv_sec + back(), until->tv_nsec};
    return real(condition, mutex, &truly);
}
