/* A disk that is full on demand: while the file DISK_FULL_MARK exists, whatever would take room under DISK_PREFIX fails
 * with ENOSPC. Preloaded into the process under test, since a small file system of its own would need root. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int refused(int fd) {
  const char *mark = getenv("DISK_FULL_MARK"), *prefix = getenv("DISK_PREFIX");
  struct stat seen;
  char link[64], path[4096];
  if (!mark || !prefix || stat(mark, &seen) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return strncmp(path, prefix, strlen(prefix)) == 0;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FULL(fd)       \
  if (refused(fd)) {   \
    errno = ENOSPC;    \
    return -1;         \
  }

int posix_fallocate(int, off_t, off_t);
int posix_fallocate64(int, off64_t, off64_t);
int fallocate(int, int, off_t, off_t);
int fallocate64(int, int, off64_t, off64_t);

ssize_t write(int fd, const void *bytes, size_t count) { REAL(write); FULL(fd); return real(fd, bytes, count); }
ssize_t writev(int fd, const struct iovec *parts, int count) { REAL(writev); FULL(fd); return real(fd, parts, count); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { REAL(pwrite); FULL(fd); return real(fd, bytes, count, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { REAL(pwrite64); FULL(fd); return real(fd, bytes, count, at); }
int fallocate(int fd, int mode, off_t at, off_t length) { REAL(fallocate); FULL(fd); return real(fd, mode, at, length); }
int fallocate64(int fd, int mode, off64_t at, off64_t length) { REAL(fallocate64); FULL(fd); return real(fd, mode, at, length); }
int posix_fallocate(int fd, off_t at, off_t length) { REAL(posix_fallocate); return refused(fd) ? ENOSPC : real(fd, at, length); }
int posix_fallocate64(int fd, off64_t at, off64_t length) { REAL(posix_fallocate64); return refused(fd) ? ENOSPC : real(fd, at, length); }
