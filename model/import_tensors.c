// The tensors of a file against those that its architecture needs.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "model/import_private.h"

int64_t import_size(const gpt_config *config, part_size size) {
  int64_t kv = config->n_embd / config->n_head * config->n_kv_head;
  switch (size) {
  case SIZE_ONE:
    return 1;
  case SIZE_VOCABULARY:
    return config->vocab_size;
  case SIZE_POSITIONS:
    return config->n_positions;
  case SIZE_WIDTH:
    return config->n_embd;
  case SIZE_KV:
    return kv;
  case SIZE_QKV:
    return config->n_embd + 2 * kv;
  default:
    return config->n_ff;
  }
}

ss_status import_part_name(const model_import *import, const char *format, int64_t layer, char **out,
                           ss_error *error) {
  char *name = NULL;
  SS_TRY(ss_format(&name, error, format, (long long)layer));
  ss_status status = ss_format(out, error, "%s%s", import->prefix, name);
  free(name);
  return status;
}

static void shape_text(int64_t rows, int64_t cols, char out[64]) {
  if (rows == 1)
    snprintf(out, 64, "[%lld]", (long long)cols);
  else
    snprintf(out, 64, "[%lld, %lld]", (long long)rows, (long long)cols);
}

static ss_status check_part(model_import *import, const import_part *part, int64_t layer, bool *used,
                            ss_error *error) {
  const weights *file = &import->weights;
  int64_t rows = import_size(&import->about.model, part->rows),
          cols = import_size(&import->about.model, part->cols);
  if (part->kind == PART_TRANSPOSED) {
    int64_t swap = rows;
    rows = cols;
    cols = swap;
  }
  char *name = NULL, expected[64], found[64];
  shape_text(rows, cols, expected);
  SS_TRY(import_part_name(import, part->name, layer, &name, error));
  int64_t index = file->find(file->file, name);
  ss_status status = SS_OK;
  if (index < 0)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s is missing, expected %s", file->where, name,
                     expected);
  else {
    weights_tensor tensor = file->at(file->file, index);
    shape_text(tensor.rows, tensor.cols, found);
    if (tensor.rows != rows || tensor.cols != cols)
      status = ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s has shape %s, expected %s", file->where, name,
                       found, expected);
    // A type whose size is not known has a shape that nothing in the file bears out.
    else if (!tensor.readable)
      status = ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s has type %s, expected one of %s", file->where,
                       name, tensor.type, file->types);
    used[index] = true;
    import->about.n_parameter += rows * cols;
  }
  free(name);
  return status;
}

// --- the classifier ----------------------------------------------------------------------------------------

static ss_status equal_tensors(const weights *file, int64_t left, int64_t right, bool *equal,
                               ss_error *error) {
  weights_tensor a = file->at(file->file, left), b = file->at(file->file, right);
  float *rows = NULL;
  *equal = a.rows == b.rows && a.cols == b.cols;
  if (!*equal)
    return SS_OK;
  SS_TRY(ss_allocate(&rows, 2 * a.cols, sizeof *rows, "two rows", error));
  ss_status status = SS_OK;
  for (int64_t row = 0; row < a.rows && *equal && status == SS_OK; ++row) {
    status = file->read(file->file, left, row, 1, rows, error);
    if (status == SS_OK)
      status = file->read(file->file, right, row, 1, rows + a.cols, error);
    *equal = memcmp(rows, rows + a.cols, (size_t)a.cols * sizeof *rows) == 0;
  }
  free(rows);
  return status;
}

static ss_status check_classifier(model_import *import, bool *used, ss_error *error) {
  const weights *file = &import->weights;
  const char *name = import->scheme->classifier;
  int64_t index = file->find(file->file, name);
  if (index < 0 && !import->tied)
    return ss_fail(error, SS_ERROR_INPUT,
                   "%s: tensor %s is missing, and the settings say that the embedding is not "
                   "the classifier (tie_word_embeddings is false)",
                   file->where, name);
  if (index < 0)
    return SS_OK;
  used[index] = true;
  if (import->tied)
    return import_note_add(import, name, "the classifier, which is the embedding", error);
  char *embedding = NULL;
  bool equal = false;
  SS_TRY(import_part_name(import, import->scheme->parts[0].name, 0, &embedding, error));
  ss_status status = equal_tensors(file, file->find(file->file, embedding), index, &equal, error);
  if (status == SS_OK && !equal)
    status = ss_fail(error, SS_ERROR_INPUT,
                     "%s: tensor %s differs from %s: a classifier apart from the embedding is not supported",
                     file->where, name, embedding);
  free(embedding);
  return status == SS_OK ? import_note_add(import, name, "the classifier, equal to the embedding", error)
                         : status;
}

// --- what is left over -------------------------------------------------------------------------------------

// True when `name` is `format` with a number in the place of %lld.
static bool matches(const char *name, const char *format) {
  const char *hole = strstr(format, "%lld");
  if (hole == NULL)
    return strcmp(name, format) == 0;
  size_t before = (size_t)(hole - format), digits = 0;
  if (strncmp(name, format, before) != 0)
    return false;
  digits = strspn(name + before, "0123456789");
  return digits > 0 && strcmp(name + before + digits, hole + 4) == 0;
}

static ss_status check_rest(model_import *import, const bool *used, ss_error *error) {
  const import_scheme *scheme = import->scheme;
  const weights *file = &import->weights;
  size_t n_prefix = strlen(import->prefix);
  for (int64_t i = 0; i < file->n; ++i) {
    const char *name = file->at(file->file, i).name, *reason = NULL;
    bool prefixed = strncmp(name, import->prefix, n_prefix) == 0;
    for (int k = 0; k < scheme->n_unused && prefixed && reason == NULL; ++k)
      if (matches(name + n_prefix, scheme->unused[k].name))
        reason = scheme->unused[k].reason;
    if (used[i])
      continue;
    if (reason == NULL)
      return ss_fail(error, SS_ERROR_INPUT, "%s: tensor %s has no place in a %s of %lld layers", file->where,
                     name, scheme->architecture, (long long)import->about.model.n_layer);
    SS_TRY(import_note_add(import, name, reason, error));
  }
  return SS_OK;
}

// "Q4_1 210, F32 61": by falling number.
static ss_status count_types(model_import *import, ss_error *error) {
  enum { MOST = 32 };
  struct {
    const char *type;
    int64_t n;
  } counts[MOST];
  int n_type = 0;
  const weights *file = &import->weights;
  for (int64_t i = 0; i < file->n; ++i) {
    const char *type = file->at(file->file, i).type;
    int k = 0;
    while (k < n_type && strcmp(counts[k].type, type) != 0)
      ++k;
    if (k == MOST)
      continue;
    if (k == n_type) {
      counts[n_type].type = type;
      counts[n_type++].n = 0;
    }
    counts[k].n++;
  }
  char text[MOST * 32] = "";
  for (int written = 0; written < n_type; ++written) {
    int best = 0;
    for (int k = 1; k < n_type; ++k)
      if (counts[k].n > counts[best].n)
        best = k;
    size_t at = strlen(text);
    snprintf(text + at, sizeof text - at, "%s%s %lld", at == 0 ? "" : ", ", counts[best].type,
             (long long)counts[best].n);
    counts[best].n = 0;
  }
  return ss_format(&import->about.types, error, "%s", text);
}

ss_status import_check(model_import *import, ss_error *error) {
  const import_scheme *scheme = import->scheme;
  import_about *about = &import->about;
  bool *used = NULL;
  about->format = import->weights.format;
  about->architecture = scheme->architecture;
  about->n_tensor = import->weights.n;
  SS_TRY(ss_allocate(&used, about->n_tensor, sizeof *used, "a table of tensors", error));
  ss_status status = SS_OK;
  for (int k = 0; k < scheme->n_part && status == SS_OK; ++k) {
    int64_t n = strstr(scheme->parts[k].name, "%lld") != NULL ? about->model.n_layer : 1;
    for (int64_t layer = 0; layer < n && status == SS_OK; ++layer)
      status = check_part(import, &scheme->parts[k], layer, used, error);
  }
  if (status == SS_OK)
    status = check_classifier(import, used, error);
  if (status == SS_OK)
    status = check_rest(import, used, error);
  if (status == SS_OK)
    status = count_types(import, error);
  free(used);
  return status;
}
