#include "common/map_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

ss_status ss_map_file(const char *path, ss_mapping *out, ss_error *error) {
  struct stat about;
  *out = (ss_mapping){NULL, 0};
  int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not wait for its writer
  if (descriptor < 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  ss_status status = SS_OK;
  if (fstat(descriptor, &about) != 0)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot read", path);
  else if (!S_ISREG(about.st_mode))
    status = ss_fail(error, SS_ERROR_IO, "%s: is not a file", path);
  else if (about.st_size > 0) {
    void *bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (bytes == MAP_FAILED)
      status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot map", path);
    else
      *out = (ss_mapping){bytes, (size_t)about.st_size};
  }
  close(descriptor);
  return status;
}

void ss_unmap(ss_mapping *mapping) {
  if (mapping->bytes != NULL)
    munmap((void *)mapping->bytes, mapping->n);
  *mapping = (ss_mapping){NULL, 0};
}
