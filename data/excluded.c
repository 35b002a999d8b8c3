#include "data/excluded.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/file.h"
#include "common/memory.h"

static int compare_hashes(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static ss_status content_hash(const char *text, int64_t n, uint64_t *hash, int64_t *kept, ss_error *error) {
  char *bare = NULL;
  SS_TRY(ss_allocate(&bare, n + 1, 1, "content", error));
  *kept = 0;
  for (int64_t k = 0; k < n; k++)
    if (text[k] != ' ' && (text[k] < '\t' || text[k] > '\r'))
      bare[(*kept)++] = text[k];
  *hash = XXH3_64bits(bare, (size_t)*kept);
  free(bare);
  return SS_OK;
}

ss_status excluded_read(excluded_list *list, const char *path, ss_error *error) {
  char *text = NULL;
  size_t size = 0;
  ss_status status = ss_read_file(path, &text, &size, error);
  for (size_t first = 0; status == SS_OK && first < size;) {
    const char *newline = memchr(text + first, '\n', size - first);
    size_t end = newline == NULL ? size : (size_t)(newline - text);
    uint64_t hash = 0;
    int64_t kept = 0;
    status = content_hash(text + first, (int64_t)(end - first), &hash, &kept, error);
    if (status == SS_OK && kept > 0)
      status = ss_grow(&list->hashes, &list->capacity, list->n + 1, sizeof hash, "excluded contents", error);
    if (status == SS_OK && kept > 0)
      list->hashes[list->n++] = hash;
    first = end + 1;
  }
  free(text);
  if (status == SS_OK && list->n > 0)
    qsort(list->hashes, (size_t)list->n, sizeof *list->hashes, compare_hashes);
  return status;
}

ss_status excluded_has(const excluded_list *list, const char *text, int64_t n, bool *has, ss_error *error) {
  uint64_t hash = 0;
  int64_t kept = 0;
  *has = false;
  if (list->n == 0)
    return SS_OK;
  SS_TRY(content_hash(text, n, &hash, &kept, error));
  *has = bsearch(&hash, list->hashes, (size_t)list->n, sizeof hash, compare_hashes) != NULL;
  return SS_OK;
}

void excluded_free(excluded_list *list) {
  free(list->hashes);
  memset(list, 0, sizeof *list);
}
