// Which kind of tokenizer a path names.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/memory.h"
#include "data/tokenizer.h"

// Merges and the vocabulary that stands beside them.
static const char *const pairs[][2] = {{"vocab.bpe", "encoder.json"}, {"merges.txt", "vocab.json"}};

static ss_status open_pair(tokenizer **out, const char *folder, const char *const pair[2], ss_error *error) {
  char *merges = NULL, *tokens = NULL;
  ss_status status = ss_format(&merges, error, "%s/%s", folder, pair[0]);
  if (status == SS_OK)
    status = ss_format(&tokens, error, "%s/%s", folder, pair[1]);
  if (status == SS_OK)
    status = tokenizer_open_gpt2(out, merges, tokens, error);
  free(merges);
  free(tokens);
  return status;
}

// Opens what the first bytes of a file, or its name, say that it is.
static ss_status open_file(tokenizer **out, const char *path, ss_error *error) {
  const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
  for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++)
    for (int part = 0; part < 2; part++)
      if (strcmp(name, pairs[k][part]) == 0) {
        char *folder = NULL;
        SS_TRY(ss_format(&folder, error, "%.*s", slash == NULL ? 1 : (int)(slash - path),
                         slash == NULL ? "." : path));
        ss_status status = open_pair(out, folder, pairs[k], error);
        free(folder);
        return status;
      }
  FILE *file = fopen(path, "rb");
  if (file == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  char first[4] = "";
  size_t n = fread(first, 1, sizeof first, file);
  fclose(file);
  if (n == sizeof first && memcmp(first, "GGUF", sizeof first) == 0)
    return tokenizer_open_gguf(out, path, error);
  if (ss_ends_in(path, ".json"))
    return tokenizer_open_json(out, path, error);
  if (ss_ends_in(path, ".bin"))
    return tokenizer_open_scores(out, path, error);
  return ss_fail(
      error, SS_ERROR_INPUT,
      "%s: not a tokenizer: expected tokenizer.json, a .gguf, llama2.c's tokenizer.bin, vocab.bpe or "
      "merges.txt",
      path);
}

// The one file of the folder with this ending, malloc'ed; *count says how many there are.
static ss_status find_file(const char *folder, const char *ending, char **path, int *count, ss_error *error) {
  *count = 0;
  *path = NULL;
  DIR *directory = opendir(folder);
  if (directory == NULL)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot read the folder", folder);
  ss_status status = SS_OK;
  for (const struct dirent *entry; status == SS_OK && (entry = readdir(directory)) != NULL;)
    if (ss_ends_in(entry->d_name, ending) && ++*count == 1)
      status = ss_format(path, error, "%s/%s", folder, entry->d_name);
  closedir(directory);
  if (status == SS_OK && *count > 1) {
    status = ss_fail(error, SS_ERROR_INPUT, "%s: %d files end in %s: name one of them", folder, *count,
                     ending);
    free(*path);
    *path = NULL;
  }
  return status;
}

static ss_status in_folder(const char *folder, const char *name, bool *present, char **path,
                           ss_error *error) {
  SS_TRY(ss_format(path, error, "%s/%s", folder, name));
  *present = ss_file_exists(*path);
  return SS_OK;
}

static ss_status open_folder(tokenizer **out, const char *folder, ss_error *error) {
  static const char *const whole[] = {"tokenizer.json", "vocab.bpe", "merges.txt"};
  for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
    char *path = NULL;
    bool present;
    SS_TRY(in_folder(folder, whole[k], &present, &path, error));
    ss_status status = present ? open_file(out, path, error) : SS_OK;
    free(path);
    if (present)
      return status;
  }
  static const char *const endings[] = {".gguf", "tokenizer.bin"};
  for (size_t k = 0; k < sizeof endings / sizeof *endings; k++) {
    char *path = NULL;
    int count;
    SS_TRY(find_file(folder, endings[k], &path, &count, error));
    ss_status status = path != NULL ? open_file(out, path, error) : SS_OK;
    free(path);
    if (count > 0)
      return status;
  }
  return ss_fail(
      error, SS_ERROR_INPUT,
      "%s: no tokenizer there: expected tokenizer.json, vocab.bpe with encoder.json, merges.txt with "
      "vocab.json, a .gguf or tokenizer.bin",
      folder);
}

ss_status tokenizer_open(tokenizer **out, const char *path, ss_error *error) {
  struct stat info;
  if (stat(path, &info) != 0)
    return ss_fail_errno(error, SS_ERROR_IO, "%s: cannot open", path);
  return S_ISDIR(info.st_mode) ? open_folder(out, path, error) : open_file(out, path, error);
}
