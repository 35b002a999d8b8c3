// A file's bytes as read-only memory, for formats that are read in place.
#ifndef SELFSPAN_COMMON_MAP_FILE_H
#define SELFSPAN_COMMON_MAP_FILE_H

#include <stddef.h>

#include "common/error.h"

typedef struct {
  const unsigned char *bytes;  // NULL for an empty file
  size_t n;
} ss_mapping;

// Maps a regular file. It must not shrink while it is mapped.
ss_status ss_map_file(const char *path, ss_mapping *out, ss_error *error);
// A zeroed mapping is allowed.
void ss_unmap(ss_mapping *mapping);

#endif
