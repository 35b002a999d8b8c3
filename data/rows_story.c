// CNN/DailyMail's first form: a file an article, "@highlight" lines before its highlights.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/memory.h"
#include "data/rows_private.h"

#define DEEPEST 2  // levels of subfolders
#define MARK "@highlight"

// Bytes of the name without ".story" or ".story.gz"; 0 where it ends otherwise.
static size_t stem_length(const char *name) {
  static const char *const endings[] = {".story", ".story.gz"};
  for (int k = 0; k < 2; k++) {
    size_t n = strlen(name), ending = strlen(endings[k]);
    if (n > ending && strcmp(name + n - ending, endings[k]) == 0)
      return n - ending;
  }
  return 0;
}

static ss_status add_name(rows *source, const char *name, ss_error *error) {
  SS_TRY(ss_grow(&source->places, &source->capacity, source->n_place + 1, sizeof *source->places, "row index",
                 error));
  source->places[source->n_place++] = (rows_place){.offset = source->names.n, .line = 1};
  return rows_buffer_add(&source->names, name, (int64_t)strlen(name) + 1, error);
}

static ss_status list_folder(rows *source, const char *below, int depth, ss_error *error) {
  char *path = NULL;
  SS_TRY(ss_format(&path, error, "%s%s%s", source->path, below[0] == '\0' ? "" : "/", below));
  DIR *folder = opendir(path);
  ss_status status = SS_OK;
  if (folder == NULL)
    status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be opened", path);
  while (status == SS_OK) {
    errno = 0;
    const struct dirent *entry = readdir(folder);
    if (entry == NULL) {
      if (errno != 0)
        status = ss_fail_errno(error, SS_ERROR_IO, "%s: cannot be read", path);
      break;
    }
    if (entry->d_name[0] == '.')
      continue;
    char *name = NULL;
    status = ss_format(&name, error, "%s%s%s", below, below[0] == '\0' ? "" : "/", entry->d_name);
    if (status == SS_OK && stem_length(entry->d_name) > 0) {
      status = add_name(source, name, error);
    } else if (status == SS_OK && depth < DEEPEST) {
      struct stat information;
      if (fstatat(dirfd(folder), entry->d_name, &information, 0) == 0 && S_ISDIR(information.st_mode))
        status = list_folder(source, name, depth + 1, error);
    }
    free(name);
  }
  if (folder != NULL)
    closedir(folder);
  free(path);
  return status;
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_known_field(const char *name) {
  return strcmp(name, "article") == 0 || strcmp(name, "highlights") == 0 || strcmp(name, "id") == 0;
}

ss_status rows_story_list(rows *source, ss_error *error) {
  for (int32_t f = 0; f < source->options.n_field; f++)
    if (source->fields[f].presence != ROWS_OPTIONAL && !is_known_field(source->fields[f].name))
      return ss_fail(error, SS_ERROR_INPUT,
                     "%s: stories have no field \"%s\", expected article, highlights or id", source->path,
                     source->fields[f].name);
  if (!source->is_folder)
    return add_name(source, "", error);
  SS_TRY(list_folder(source, "", 0, error));
  if (source->n_place == 0)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: a folder without a file NAME.story, also not in its subfolders", source->path);
  const char **sorted = NULL;
  SS_TRY(ss_allocate(&sorted, source->n_place, sizeof *sorted, "names of stories", error));
  for (int64_t k = 0; k < source->n_place; k++)
    sorted[k] = source->names.data + source->places[k].offset;
  qsort(sorted, (size_t)source->n_place, sizeof *sorted, compare_names);
  for (int64_t k = 0; k < source->n_place; k++)
    source->places[k] = (rows_place){.offset = sorted[k] - source->names.data, .line = 1, .record = k};
  free(sorted);
  return SS_OK;
}

typedef struct {
  rows_buffer *record;
} load_target;

static ss_status append(void *context, const char *bytes, int64_t n, ss_error *error) {
  return rows_buffer_add(((load_target *)context)->record, bytes, n, error);
}

static ss_status load_plain(int file, rows_buffer *record, int64_t longest, ss_error *problem) {
  for (;;) {
    SS_TRY(ss_grow(&record->data, &record->capacity, record->n + (1 << 16) + 1, 1, "story", problem));
    ssize_t n = read(file, record->data + record->n, 1 << 16);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return ss_fail_errno(problem, SS_ERROR_INPUT, "cannot be read");
    if (n == 0)
      return SS_OK;
    record->n += n;
    if (record->n > longest)
      return ss_fail(problem, SS_ERROR_INPUT, "more than %lld bytes", (long long)longest);
  }
}

ss_status rows_story_load(const rows *source, rows_scratch *scratch, const rows_place *place,
                          ss_error *problem) {
  const char *name = source->names.data + place->offset;
  struct stat information;
  SS_TRY(rows_buffer_set(&scratch->path, source->path, (int64_t)strlen(source->path), problem));
  if (name[0] != '\0') {
    SS_TRY(rows_buffer_add(&scratch->path, "/", 1, problem));
    SS_TRY(rows_buffer_add(&scratch->path, name, (int64_t)strlen(name), problem));
  }
  scratch->record.n = 0;
  // Without O_NONBLOCK a pipe of that name would be waited for.
  int file = open(scratch->path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0)
    return ss_fail_errno(problem, SS_ERROR_INPUT, "cannot be opened");
  ss_status status = SS_OK;
  if (fstat(file, &information) != 0 || !S_ISREG(information.st_mode)) {
    status = ss_fail(problem, SS_ERROR_INPUT, "is no file");
  } else if (rows_is_gzip(file)) {
    load_target target = {&scratch->record};
    status = rows_gunzip(file, "story", source->options.longest, append, &target, NULL, NULL, problem);
    if (status == SS_ERROR_LIMIT || status == SS_ERROR_IO)
      status = SS_ERROR_INPUT;
  } else {
    status = load_plain(file, &scratch->record, source->options.longest, problem);
  }
  close(file);
  return status;
}

static void trim(const char **text, int64_t *n) {
  while (*n > 0 && rows_is_blank(*text, 1))
    ++*text, --*n;
  while (*n > 0 && rows_is_blank(*text + *n - 1, 1))
    --*n;
}

static int32_t wanted_field(const rows *source, const char *name) {
  int32_t f = 0;
  while (f < source->options.n_field && strcmp(source->fields[f].name, name) != 0)
    f++;
  return f < source->options.n_field ? f : -1;
}

static ss_status take_wanted(const rows *source, rows_scratch *scratch, rows_row *out, const char *name,
                             const char *text, int64_t n, ss_error *problem) {
  int32_t field = wanted_field(source, name);
  return field < 0 ? SS_OK : rows_take(scratch, out, field, text, n, problem);
}

// Appends the lines behind a mark to the highlights: one line in all.
static ss_status add_highlight_line(rows_buffer *highlights, const char *line, int64_t n, bool *opens,
                                    ss_error *problem) {
  if (n == 0)
    return SS_OK;
  if (highlights->n > 0)
    SS_TRY(rows_buffer_add(highlights, *opens ? "\n" : " ", 1, problem));
  *opens = false;
  return rows_buffer_add(highlights, line, n, problem);
}

ss_status rows_story_parse(const rows *source, rows_scratch *scratch, const char *text, int64_t n,
                           rows_row *out, ss_error *problem) {
  const char *name = strrchr(scratch->path.data, '/');
  name = name == NULL ? scratch->path.data : name + 1;
  int64_t stem = (int64_t)stem_length(name), n_article = -1;
  if (stem == 0)
    stem = (int64_t)strlen(name);
  if (rows_sound_length(name, stem) != stem)
    return ss_fail(problem, SS_ERROR_INPUT, "its name is no UTF-8");
  if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
    text += 3, n -= 3;
  if (rows_is_blank(text, n))
    return ss_fail(problem, SS_ERROR_INPUT, "an empty file, expected an article");
  SS_TRY(rows_check_text(text, n, problem));
  for (int32_t f = 0; f < source->options.n_field; f++)
    out->lengths[f] = -1;
  // The highlights are put together where the CSV parser would have its cells: in the id's buffer until the id is known.
  rows_buffer *highlights = &scratch->id;
  bool opens = false;
  SS_TRY(rows_buffer_set(highlights, "", 0, problem));
  for (int64_t at = 0; at < n;) {
    const char *newline = memchr(text + at, '\n', (size_t)(n - at)), *line = text + at;
    int64_t length = newline == NULL ? n - at : newline - line, next = at + length + 1;
    trim(&line, &length);
    bool mark = length == (int64_t)strlen(MARK) && memcmp(line, MARK, strlen(MARK)) == 0;
    if (mark && n_article < 0)
      n_article = at;
    if (mark)
      opens = true;
    else if (n_article >= 0)
      SS_TRY(add_highlight_line(highlights, line, length, &opens, problem));
    at = next;
  }
  if (n_article >= 0)
    SS_TRY(take_wanted(source, scratch, out, "highlights", highlights->data, highlights->n, problem));
  int64_t n_text = n_article < 0 ? n : n_article;
  trim(&text, &n_text);
  SS_TRY(take_wanted(source, scratch, out, "article", text, n_text, problem));
  SS_TRY(take_wanted(source, scratch, out, "id", name, stem, problem));
  return rows_buffer_set(&scratch->id, name, stem, problem);
}
