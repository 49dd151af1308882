/* Moves the clock of one process: loaded by LD_PRELOAD, told by a file of two 64-bit offsets in nanoseconds that the
   bench may change at any moment. The first is added to the wall clock, the second to the monotonic clocks. The real
   time is asked by the raw system call, so this library never calls itself. Without the file nothing is moved. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offsets;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("FLOODGATE_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) offsets = map;
}

static int64_t offset_of(clockid_t id) {
    if (!offsets) return 0;
    switch (id) {
    case CLOCK_REALTIME: case CLOCK_REALTIME_COARSE: case CLOCK_TAI: return offsets[0];
    case CLOCK_MONOTONIC: case CLOCK_MONOTONIC_COARSE: case CLOCK_MONOTONIC_RAW: case CLOCK_BOOTTIME: return offsets[1];
    default: return 0; /* the CPU's time is nobody's business */
    }
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, id, at);
    if (failed) return failed;
    int64_t ns = (int64_t)at->tv_nsec + offset_of(id) % 1000000000;
    int64_t carry = ns < 0 ? -1 : ns >= 1000000000;
    at->tv_sec += offset_of(id) / 1000000000 + carry;
    at->tv_nsec = (long)(ns - carry * 1000000000);
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return (time_t)-1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
