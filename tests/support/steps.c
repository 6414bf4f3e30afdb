/* The steps by which a process makes its files durable, and makes them come and go: syncs, renames, unlinks, cuts and the
 * lines of commit logs, of files under STEPS_PREFIX, counted across all threads. With STEPS_KILL=n the process dies before the
 * n-th of them, as of kill -9; with STEPS_LOG each is a line of that file, a sync once it is over, the others before they
 * are made; with STEPS_REFUSE=n each n-th sync of a file that is written in pieces (hot files, segments) fails with EIO,
 * while the file STEPS_REFUSE_MARK exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long steps, syncs;

static long number(const char *name) {
  const char *text = getenv(name);
  return text ? atol(text) : 0;
}

static const char *known(const char *path) {
  const char *prefix = getenv("STEPS_PREFIX");
  return prefix && strncmp(path, prefix, strlen(prefix)) == 0 ? path + strlen(prefix) : NULL;
}

static const char *opened(int fd, char *path, size_t room) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, room - 1);
  if (length < 0) return NULL;
  path[length] = 0;
  return known(path);
}

static void note(const char *what, const char *path) {
  const char *log = getenv("STEPS_LOG");
  char line[4200];
  if (!log) return;
  int length = snprintf(line, sizeof line, "%s %s\n", what, path);
  int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  syscall(SYS_write, fd, line, length);
  close(fd);
}

static void step(void) {
  long kill_at = number("STEPS_KILL");
  if (atomic_fetch_add(&steps, 1) + 1 == kill_at) kill(getpid(), SIGKILL);
}

static int ends(const char *path, const char *end) {
  size_t all = strlen(path), some = strlen(end);
  return all >= some && strcmp(path + all - some, end) == 0;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define SYNC(name)                                                                     \
  int name(int fd) {                                                                   \
    REAL(name);                                                                        \
    char path[4096];                                                                   \
    const char *file = opened(fd, path, sizeof path);                                  \
    if (!file) return real(fd);                                                        \
    step();                                                                            \
    long refuse = number("STEPS_REFUSE");                                              \
    int pieces = ends(file, ".arrow") || ends(file, ".commits") || ends(file, ".seg"); \
    if (refuse && pieces && access(getenv("STEPS_REFUSE_MARK"), F_OK) == 0 &&          \
        (atomic_fetch_add(&syncs, 1) + 1) % refuse == 0) {                             \
      note("refused", file);                                                           \
      errno = EIO;                                                                     \
      return -1;                                                                       \
    }                                                                                  \
    int result = real(fd);                                                             \
    note("synced", file);                                                              \
    return result;                                                                     \
  }

SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
  REAL(rename);
  if (known(to)) {
    step();
    note("renamed", known(to));
  }
  return real(from, to);
}

int unlink(const char *path) {
  REAL(unlink);
  if (known(path)) {
    step();
    note("unlinked", known(path));
  }
  return real(path);
}

static void cut(int fd) {
  char path[4096];
  const char *file = opened(fd, path, sizeof path);
  if (file) {
    step();
    note("cut", file);
  }
}

int ftruncate(int fd, off_t length) { REAL(ftruncate); cut(fd); return real(fd, length); }
int ftruncate64(int fd, off64_t length) { REAL(ftruncate64); cut(fd); return real(fd, length); }

ssize_t write(int fd, const void *bytes, size_t count) {
  REAL(write);
  char path[4096];
  const char *file = opened(fd, path, sizeof path);
  if (file && ends(file, ".commits")) {
    step();
    note("written", file);
  }
  return real(fd, bytes, count);
}
