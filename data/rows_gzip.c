#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "common/memory.h"
#include "data/rows_private.h"

#define GZIP_ONLY (15 + 16)  // zlib: the largest window, gzip headers

bool rows_is_gzip(int file) {
  unsigned char magic[2];
  return pread(file, magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
}

typedef struct {
  int file;
  const char *name;
  int64_t offset;  // of the next byte to read
  unsigned char input[1 << 18], output[1 << 18];
  z_stream stream;
} gunzip_state;

// Puts the next bytes of the file into the stream; none left is no failure.
static ss_status refill(gunzip_state *state, ss_error *error) {
  ssize_t n;
  do
    n = pread(state->file, state->input, sizeof state->input, state->offset);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be read at byte %lld", state->name,
                         (long long)state->offset);
  state->stream.next_in = state->input;
  state->stream.avail_in = (uInt)n;
  state->offset += n;
  return SS_OK;
}

// Between members: is there another one? Zeros may fill up the file's last block, as gzip permits.
static ss_status another_member(gunzip_state *state, bool *another, ss_error *error) {
  *another = false;
  for (;;) {
    if (state->stream.avail_in == 0)
      SS_TRY(refill(state, error));
    if (state->stream.avail_in == 0)
      return SS_OK;
    if (*state->stream.next_in != 0)
      break;
    state->stream.next_in++;
    state->stream.avail_in--;
  }
  if (*state->stream.next_in != 0x1f)
    return ss_fail(error, SS_ERROR_INPUT, "%s: byte %lld: gzip data are followed by something else",
                   state->name, (long long)(state->offset - state->stream.avail_in));
  *another = true;
  return SS_OK;
}

ss_status rows_gunzip(int file, const char *name, int64_t most,
                      ss_status (*sink)(void *context, const char *bytes, int64_t n, ss_error *error),
                      void *context, void (*progress)(void *progress_context, int64_t done),
                      void *progress_context, ss_error *error) {
  gunzip_state *state = NULL;
  SS_TRY(ss_allocate(&state, 1, sizeof *state, "gzip buffers", error));
  state->file = file;
  state->name = name;
  if (inflateInit2(&state->stream, GZIP_ONLY) != Z_OK) {
    free(state);
    return ss_fail(error, SS_ERROR_MEMORY, "%s: zlib has no memory", name);
  }
  int64_t total = 0;
  ss_status status = SS_OK;
  for (bool more = true; status == SS_OK && more;) {
    if (state->stream.avail_in == 0) {
      status = refill(state, error);
      if (progress != NULL)
        progress(progress_context, state->offset);
    }
    if (status == SS_OK && state->stream.avail_in == 0)
      status = ss_fail(error, SS_ERROR_INPUT,
                       "%s: gzip data are cut off after %lld bytes (%lld decompressed)", name,
                       (long long)state->offset, (long long)total);
    if (status != SS_OK)
      break;
    state->stream.next_out = state->output;
    state->stream.avail_out = sizeof state->output;
    int answer = inflate(&state->stream, Z_NO_FLUSH);
    int64_t n = (int64_t)sizeof state->output - state->stream.avail_out;
    total += n;
    if (answer == Z_MEM_ERROR)
      status = ss_fail(error, SS_ERROR_MEMORY, "%s: zlib has no memory", name);
    else if (answer != Z_OK && answer != Z_STREAM_END && answer != Z_BUF_ERROR)
      status = ss_fail(error, SS_ERROR_INPUT, "%s: gzip data are corrupt near byte %lld (%s)", name,
                       (long long)(state->offset - state->stream.avail_in),
                       state->stream.msg == NULL ? "zlib says no more" : state->stream.msg);
    else if (total > most)
      status = ss_fail(error, SS_ERROR_LIMIT, "%s: more than %lld bytes when decompressed", name,
                       (long long)most);
    else if (n > 0)
      status = sink(context, (const char *)state->output, n, error);
    if (status == SS_OK && answer == Z_STREAM_END) {
      status = another_member(state, &more, error);
      if (status == SS_OK && more)
        inflateReset(&state->stream);
    }
  }
  inflateEnd(&state->stream);
  free(state);
  return status;
}

typedef struct {
  const rows *source;
  int file;
  const char *folder;
} unpack_target;

static ss_status write_plain(void *context, const char *bytes, int64_t n, ss_error *error) {
  const unpack_target *target = context;
  SS_TRY(rows_check_stop(target->source, error));
  while (n > 0) {
    ssize_t written = write(target->file, bytes, (size_t)n);
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      return ss_fail_errno(error, SS_ERROR_IO, "%s (TMPDIR): decompressed data cannot be written",
                           target->folder);
    bytes += written;
    n -= written;
  }
  return SS_OK;
}

// Decompressing is the first half of the work.
static void report(void *context, int64_t done) {
  const rows *source = context;
  if (source->options.progress != NULL)
    source->options.progress(source->options.progress_context, done, 2 * source->source_size);
}

ss_status rows_unpack(rows *source, int *file, ss_error *error) {
  const char *folder = getenv("TMPDIR");
  if (folder == NULL || folder[0] == '\0')
    folder = "/tmp";
  char *name = NULL;
  SS_TRY(ss_format(&name, error, "%s/selfspan-rows-XXXXXX", folder));
  unpack_target target = {source, mkstemp(name), folder};
  ss_status status = SS_OK;
  if (target.file < 0)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s (TMPDIR): no temporary file can be made", folder);
  else
    unlink(name);
  free(name);
  if (status == SS_OK)
    status = rows_gunzip(*file, source->path, source->options.most_bytes, write_plain, &target, report,
                         source, error);
  if (status == SS_OK) {
    close(*file);
    *file = target.file;
    (void)fcntl(target.file, F_SETFD, FD_CLOEXEC);
  } else if (target.file >= 0) {
    close(target.file);
  }
  return status;
}
