/* Preloaded into a writer: counts the calls that change files below one folder, and at a chosen one kills the process,
 * before it ("clean") or after half of its bytes ("torn"). It can also log each change, to model a loss of power.
 *
 * arm(folder, at, how, log): at < 0 never kills; how is 0 for clean, 1 for torn, 2 for a disk that is full from then on
 * instead; log is a path, or NULL. count(): calls so far. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long kill_at = -1, calls = 0;
static int how = 0, log_fd = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void arm(const char *where, long at, int manner, const char *log) {
    snprintf(folder, sizeof folder, "%s", where);
    kill_at = at;
    how = manner;
    calls = 0;
    log_fd = log ? REAL(open)(log, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
}

long count(void) { return calls; }

static int ours_path(const char *path) {
    size_t n = strlen(folder);
    return n && path && strncmp(path, folder, n) == 0;
}

static int ours(int fd) {
    char link[64], path[PATH_MAX];
    if (!folder[0] || fd == log_fd) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return ours_path(path);
}

/* One change: 'w' a write, 's' a sync, 't' a truncation or an allocation, 'r' a rename, 'o' another. */
static void record(char kind, int64_t offset, int64_t size, const void *data) {
    if (log_fd < 0) return;
    int64_t head[3] = {kind, offset, size};
    REAL(write)(log_fd, head, sizeof head);
    if (data) REAL(write)(log_fd, data, size);
}

static int due(void) { return how < 2 && kill_at >= 0 && calls == kill_at; }
static int full(void) { return how == 2 && kill_at >= 0 && calls >= kill_at; }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define BEGIN pthread_mutex_lock(&mutex); if (due() && !how) die();
#define END(kind, offset, size, data) \
    record(kind, offset, size, data); if (due()) die(); calls++; pthread_mutex_unlock(&mutex);

#define WRITER(name, off)                                                               \
    ssize_t name(int fd, const void *data, size_t size, off offset) {                   \
        if (!ours(fd)) return REAL(name)(fd, data, size, offset);                       \
        BEGIN                                                                           \
        if (full()) { calls++; pthread_mutex_unlock(&mutex); errno = ENOSPC; return -1; } \
        ssize_t done = REAL(name)(fd, data, due() ? size / 2 : size, offset);           \
        END('w', offset, done, data)                                                    \
        return done;                                                                    \
    }
WRITER(pwrite, off_t)
WRITER(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t size) {
    if (!ours(fd)) return REAL(write)(fd, data, size);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    BEGIN
    if (full()) { calls++; pthread_mutex_unlock(&mutex); errno = ENOSPC; return -1; }
    ssize_t done = REAL(write)(fd, data, due() ? size / 2 : size);
    END('w', offset, done, data)
    return done;
}

#define SIMPLE(kind, type, name, declared, passed, mine)   \
    type name declared {                                   \
        if (!(mine)) return REAL(name) passed;             \
        BEGIN                                              \
        type result = REAL(name) passed;                   \
        END(kind, 0, 0, NULL)                              \
        return result;                                     \
    }
SIMPLE('t', int, ftruncate, (int fd, off_t size), (fd, size), ours(fd))
SIMPLE('t', int, ftruncate64, (int fd, off64_t size), (fd, size), ours(fd))
SIMPLE('t', int, posix_fallocate, (int fd, off_t at, off_t size), (fd, at, size), ours(fd))
SIMPLE('t', int, posix_fallocate64, (int fd, off64_t at, off64_t size), (fd, at, size), ours(fd))
SIMPLE('s', int, fsync, (int fd), (fd), ours(fd))
SIMPLE('s', int, fdatasync, (int fd), (fd), ours(fd))
SIMPLE('r', int, rename, (const char *from, const char *to), (from, to), ours_path(to))
SIMPLE('o', int, unlink, (const char *path), (path), ours_path(path))
