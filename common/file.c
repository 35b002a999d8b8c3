#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/folder.h"
#include "common/memory.h"

#define HASH_BUFFER (1 << 20)

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == NULL ? path : slash + 1;
}

// *out = the folder part of `path`, "." when it has none.
static ss_status folder_of(const char *path, char **out, ss_error *error) {
  const char *base = base_name(path);
  if (base == path)
    return ss_format(out, error, ".");
  int length = (int)(base - path) - 1;
  return length == 0 ? ss_format(out, error, "/") : ss_format(out, error, "%.*s", length, path);
}

ss_status ss_temporary_path(const char *path, char **out, ss_error *error) {
  const char *base = base_name(path);
  if (base[0] == '\0')
    return ss_fail(error, SS_ERROR_IO, "%s: cannot write: a folder, expected a file name", path);
  char *folder = NULL;
  SS_TRY(folder_of(path, &folder, error));
  ss_remove_dead_temporaries(folder, base);
  free(folder);
  return ss_format(out, error, "%.*s.%s.tmp-%ld", (int)(base - path), path, base, (long)getpid());
}

static ss_status sync_path(const char *path, int flags, ss_error *error) {
  int file = open(path, flags | O_CLOEXEC);
  if (file < 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  // Some file systems refuse to sync a folder (EINVAL); the rename is then as durable as it gets.
  if (fsync(file) != 0 && errno != EINVAL && errno != EROFS) {
    ss_fail_errno(error, SS_ERROR_IO, "%s: cannot flush to disk", path);
    close(file);
    return SS_ERROR_IO;
  }
  if (close(file) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot close", path);
  return SS_OK;
}

static ss_status commit(const char *temporary, const char *path, ss_error *error) {
  struct stat status;
  // Renaming over a device node would replace the node itself.
  if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
    return ss_fail(error, SS_ERROR_IO, "%s: cannot write: %s, expected a regular file", path,
                   S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
  SS_TRY(sync_path(temporary, O_RDWR, error));
  if (rename(temporary, path) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot rename %s to it", path, temporary);
  char *folder = NULL;
  SS_TRY(folder_of(path, &folder, error));
  ss_status result = sync_path(folder, O_RDONLY, error);
  free(folder);
  return result;
}

ss_status ss_commit_file(const char *temporary, const char *path, ss_error *error) {
  ss_status status = commit(temporary, path, error);
  if (status != SS_OK)
    unlink(temporary);
  return status;
}

static ss_status write_bytes(const char *target, int flags, const char *path, const void *data, size_t size,
                             ss_error *error) {
  int file = open(target, O_WRONLY | O_CLOEXEC | flags, 0666);
  if (file < 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  const char *next = data;
  while (size > 0) {
    ssize_t written = write(file, next, size);
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0) {
      ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
      close(file);
      return SS_ERROR_IO;
    }
    next += written;
    size -= (size_t)written;
  }
  if (close(file) != 0)  // network file systems report a full disk here
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot write", path);
  return SS_OK;
}

ss_status ss_write_file(const char *path, const void *data, size_t size, ss_error *error) {
  struct stat info;
  // Devices and pipes (/dev/stdout) have no previous content to protect.
  if (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
    return write_bytes(path, 0, path, data, size, error);
  char *temporary = NULL;
  SS_TRY(ss_temporary_path(path, &temporary, error));
  ss_status status = write_bytes(temporary, O_CREAT | O_TRUNC, path, data, size, error);
  if (status == SS_OK)
    status = ss_commit_file(temporary, path, error);
  else
    unlink(temporary);
  free(temporary);
  return status;
}

ss_status ss_read_file(const char *path, char **out, size_t *size, ss_error *error) {
  FILE *file = fopen(path, "rb");
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  struct stat info;
  char *bytes = NULL;
  int64_t capacity = 0, length = 0;
  // The stated size is only a hint: pipes state none.
  int64_t hint = fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode) ? (int64_t)info.st_size : 0;
  ss_status status = ss_grow(&bytes, &capacity, hint + 2, 1, path, error);
  while (status == SS_OK) {
    size_t got = fread(bytes + length, 1, (size_t)(capacity - length - 1), file);
    length += (int64_t)got;
    if (ferror(file))
      status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot read", path);
    else if (feof(file))
      break;
    else
      status = ss_grow(&bytes, &capacity, capacity + 1, 1, path, error);
  }
  fclose(file);
  if (status != SS_OK) {
    free(bytes);
    return status;
  }
  bytes[length] = '\0';
  *out = bytes;
  *size = (size_t)length;
  return SS_OK;
}

ss_status ss_read_text(const char *path, char **out, ss_error *error) {
  size_t size = 0;
  int64_t line = 1;
  SS_TRY(ss_read_file(path, out, &size, error));
  if (strlen(*out) == size)
    return SS_OK;
  for (const char *at = *out; *at != '\0'; at++)
    line += *at == '\n';
  free(*out);
  *out = NULL;
  return ss_fail(error, SS_ERROR_INPUT, "%s:%lld: a zero byte, expected text", path, (long long)line);
}

static ss_status make_directory(const char *path, ss_error *error) {
  struct stat info;
  if (mkdir(path, 0777) == 0)
    return SS_OK;
  int code = errno;
  if (stat(path, &info) == 0) {
    if (S_ISDIR(info.st_mode))
      return SS_OK;
    return ss_fail(error, SS_ERROR_IO, "%s: cannot create the folder: a file has that name", path);
  }
  errno = code;
  return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot create the folder", path);
}

ss_status ss_make_directories(const char *path, ss_error *error) {
  if (path[0] == '\0')
    return SS_OK;
  char *partial = NULL;
  SS_TRY(ss_format(&partial, error, "%s", path));
  ss_status status = SS_OK;
  for (char *slash = strchr(partial + 1, '/'); slash != NULL && status == SS_OK;
       slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    status = make_directory(partial, error);
    *slash = '/';
  }
  if (status == SS_OK)
    status = make_directory(partial, error);
  free(partial);
  return status;
}

bool ss_file_exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0;
}

bool ss_ends_in(const char *name, const char *ending) {
  size_t n = strlen(name), n_ending = strlen(ending);
  return n >= n_ending && strcmp(name + n - n_ending, ending) == 0;
}

static ss_status hash_stream(FILE *file, const char *path, XXH3_state_t *state, char *buffer, char out[33],
                             ss_error *error) {
  XXH3_128bits_reset(state);
  size_t got;
  while ((got = fread(buffer, 1, HASH_BUFFER, file)) > 0)
    XXH3_128bits_update(state, buffer, got);
  if (ferror(file))
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot read", path);
  XXH128_hash_t hash = XXH3_128bits_digest(state);
  snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
  return SS_OK;
}

ss_status ss_hash_file(const char *path, char out[33], ss_error *error) {
  FILE *file = fopen(path, "rb");
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  XXH3_state_t *state = XXH3_createState();
  char *buffer = malloc(HASH_BUFFER);
  ss_status status = state == NULL || buffer == NULL
                         ? ss_fail(error, SS_ERROR_MEMORY, "%s: out of memory while hashing", path)
                         : hash_stream(file, path, state, buffer, out, error);
  free(buffer);
  XXH3_freeState(state);
  fclose(file);
  return status;
}

static ss_status sidecar_path(const char *path, char **out, ss_error *error) {
  if (strchr(path, '\n') != NULL || strchr(path, '\\') != NULL)
    return ss_fail(error, SS_ERROR_IO, "%s: a hash line cannot hold a name with newline or backslash", path);
  return ss_format(out, error, "%s.xxh128", path);
}

// Writes the sidecar of `path` for the content that now lies at `content`. With keep_old the line of the file that is about
// to be replaced stays below: until the rename is done either content may lie under the name.
static ss_status write_sidecar(const char *content, const char *path, bool keep_old, ss_error *error) {
  char hash[33], *sidecar = NULL, *line = NULL, *old = NULL;
  size_t n_old = 0;
  SS_TRY(ss_hash_file(content, hash, error));
  SS_TRY(sidecar_path(path, &sidecar, error));
  ss_status status = SS_OK;
  if (keep_old && ss_file_exists(path) && ss_file_exists(sidecar))
    status = ss_read_file(sidecar, &old, &n_old, error);
  if (status == SS_OK)
    status = ss_format(&line, error, "%s  %s\n%.*s", hash, base_name(path),
                       old == NULL ? 0 : (int)(strcspn(old, "\n") + 1), old == NULL ? "" : old);
  if (status == SS_OK)
    status = ss_write_file(sidecar, line, strlen(line), error);
  free(old);
  free(line);
  free(sidecar);
  return status;
}

ss_status ss_write_hash(const char *path, ss_error *error) {
  return write_sidecar(path, path, false, error);
}

ss_status ss_commit_file_hashed(const char *temporary, const char *path, ss_error *error) {
  bool replaces = ss_file_exists(path);
  ss_status status = write_sidecar(temporary, path, true, error);
  if (status != SS_OK) {
    unlink(temporary);
    return status;
  }
  SS_TRY(ss_commit_file(temporary, path, error));
  return replaces ? write_sidecar(path, path, false, error) : SS_OK;
}

// "HASH  NAME\n" at the start of a text.
static bool is_hash_line(const char *line) {
  return strspn(line, "0123456789abcdef") == 32 && line[32] == ' ' && line[33] == ' ' && line[34] != '\n' &&
         strchr(line, '\n') != NULL;
}

ss_status ss_check_hash(const char *path, ss_error *error) {
  char hash[33], *sidecar = NULL, *line = NULL;
  size_t size = 0;
  SS_TRY(ss_hash_file(path, hash, error));
  SS_TRY(sidecar_path(path, &sidecar, error));
  ss_status status = SS_OK;
  if (!ss_file_exists(sidecar))
    status = ss_fail(error, SS_ERROR_INPUT, "%s: its hash file %s is missing, so it cannot be verified", path,
                     sidecar);
  else
    status = ss_read_file(sidecar, &line, &size, error);
  // A second line is the replaced file's: a replacement was killed between sidecar and rename.
  const char *second = line == NULL ? NULL : strchr(line, '\n');
  if (status == SS_OK && (!is_hash_line(line) || (second[1] != '\0' && !is_hash_line(second + 1))))
    status = ss_fail(error, SS_ERROR_INPUT, "%s: malformed, expected one line \"HASH  NAME\"", sidecar);
  if (status == SS_OK && strncmp(line, hash, 32) != 0 && strncmp(second + 1, hash, 32) != 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: damaged: XXH128 is %s, %s says %.32s", path, hash, sidecar,
                     line);
  free(line);
  free(sidecar);
  return status;
}
