// Reading the weights: parts into parameters, new rows of the embedding.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/random.h"
#include "model/import_private.h"

typedef struct {
  const model_import *import;
  const import_options *options;
  gpt *model;
  float *values;   // the largest parameter
  float *scratch;  // the largest tensor that is not taken as it stands
  int64_t n_done, n_total;
} loading;

static ss_status check_finite(const loading *load, const char *name, const float *values, int64_t rows,
                              int64_t cols, ss_error *error) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < cols; ++col)
      if (!isfinite(values[row * cols + col]))
        return ss_fail(error, SS_ERROR_NUMERIC, "%s: tensor %s, row %lld: a value is not finite",
                       load->import->weights.where, name, (long long)row);
  return SS_OK;
}

static void transpose(const float *in, int64_t rows, int64_t cols, float *out) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < cols; ++col)
      out[col * rows + row] = in[row * cols + col];
}

// In each head, neighbours (2d, 2d + 1) become halves (d, d + head/2).
static void separate_pairs(const float *in, int64_t rows, int64_t cols, int64_t head, float *out) {
  for (int64_t row = 0; row < rows; ++row) {
    int64_t d = row % head, from = row - d + (d < head / 2 ? 2 * d : 2 * (d - head / 2) + 1);
    memcpy(out + row * cols, in + from * cols, (size_t)cols * sizeof *out);
  }
}

// out = the part's rows of its parameter. At most `rows` of them are read where the model has fewer (embeddings).
static ss_status read_part(loading *load, const import_part *part, int64_t layer, int64_t rows, float *out,
                           ss_error *error) {
  const weights *file = &load->import->weights;
  const gpt_config *config = &load->import->about.model;
  int64_t cols = import_size(config, part->cols);
  bool transposed = part->kind == PART_TRANSPOSED;
  char *name = NULL;
  SS_TRY(import_part_name(load->import, part->name, layer, &name, error));
  float *to = part->kind == PART_ROWS ? out : load->scratch;
  ss_status status = file->read(file->file, file->find(file->file, name), 0, transposed ? cols : rows, to,
                                error);
  if (status == SS_OK)
    status = check_finite(load, name, to, transposed ? cols : rows, transposed ? rows : cols, error);
  if (status == SS_OK && transposed)
    transpose(to, cols, rows, out);
  if (status == SS_OK && part->kind == PART_NEIGHBOURS)
    separate_pairs(to, rows, cols, config->n_embd / config->n_head, out);
  free(name);
  if (load->options->progress != NULL)
    load->options->progress(load->options->user, ++load->n_done, load->n_total);
  return status;
}

// --- new rows ----------------------------------------------------------------------------------------------

static int64_t kept_rows(const loading *load) {
  int64_t keep = load->options->n_keep, had = load->import->about.model.vocab_size;
  return keep == 0 ? had : keep;
}

// Means and standard deviations of the kept rows, in each dimension.
static void measure(const float *rows, int64_t n, int64_t cols, double *mean, double *deviation) {
  memset(mean, 0, (size_t)cols * sizeof *mean);
  memset(deviation, 0, (size_t)cols * sizeof *deviation);
  for (int64_t row = 0; row < n; ++row)
    for (int64_t col = 0; col < cols; ++col)
      mean[col] += rows[row * cols + col];
  for (int64_t col = 0; col < cols; ++col)
    mean[col] /= (double)n;
  for (int64_t row = 0; row < n; ++row)
    for (int64_t col = 0; col < cols; ++col) {
      double difference = rows[row * cols + col] - mean[col];
      deviation[col] += difference * difference;
    }
  for (int64_t col = 0; col < cols; ++col)
    deviation[col] = sqrt(deviation[col] / (double)n);
}

static ss_status add_rows(const loading *load, float *rows, int64_t n_row, int64_t cols, ss_error *error) {
  const import_options *options = load->options;
  int64_t n_keep = kept_rows(load);
  double *mean = NULL;
  if (n_row <= n_keep)
    return SS_OK;
  SS_TRY(ss_allocate(&mean, 2 * cols, sizeof *mean, "the embedding's statistics", error));
  double *deviation = mean + cols;
  measure(rows, n_keep, cols, mean, deviation);
  for (int64_t row = n_keep; row < n_row; ++row) {
    int64_t like = options->like == NULL ? -1 : options->like[row - n_keep];
    ss_random random = ss_random_seed(options->seed, (uint64_t)row);
    for (int64_t col = 0; col < cols; ++col)
      rows[row * cols + col] = like >= 0 ? rows[like * cols + col]
                                         : (float)(mean[col] + options->deviation * deviation[col] *
                                                                   ss_random_normal(&random));
  }
  free(mean);
  return SS_OK;
}

// --- parameters --------------------------------------------------------------------------------------------

// Stacks all parts of one parameter, which stand together in the scheme from `first` on.
static ss_status load_parameter(loading *load, int first, int end, int64_t layer, ss_error *error) {
  const import_scheme *scheme = load->import->scheme;
  const gpt_config *config = gpt_get_config(load->model);
  char name[64];
  snprintf(name, sizeof name, scheme->parts[first].parameter, (long long)layer);
  int32_t index = gpt_find_parameter(load->model, name);
  if (index < 0)
    return ss_fail(error, SS_ERROR_INTERNAL, "the model has no parameter %s", name);
  const gpt_parameter *parameter = &gpt_parameter_table(load->model)[index];
  int64_t at = 0;
  for (int k = first; k < end; ++k) {
    const import_part *part = &scheme->parts[k];
    int64_t rows = import_size(&load->import->about.model, part->rows);
    if (part->rows == SIZE_VOCABULARY)
      rows = kept_rows(load);
    if (part->rows == SIZE_POSITIONS)
      rows = config->n_positions;
    SS_TRY(read_part(load, part, layer, rows, load->values + at * parameter->cols, error));
    at += rows;
    if (part->rows == SIZE_VOCABULARY) {
      SS_TRY(add_rows(load, load->values, config->vocab_size, parameter->cols, error));
      at = config->vocab_size;
    }
  }
  if (at != parameter->rows)
    return ss_fail(error, SS_ERROR_INTERNAL, "parameter %s: %lld rows of %lld", name, (long long)at,
                   (long long)parameter->rows);
  ss_device *device = gpt_device(load->model);
  SS_OP(device, error, upload, gpt_parameters(load->model) + parameter->offset, load->values,
        (size_t)(parameter->rows * parameter->cols) * sizeof(float));
  return SS_OK;
}

static ss_status load_all(loading *load, ss_error *error) {
  const import_scheme *scheme = load->import->scheme;
  int64_t n_layer = gpt_get_config(load->model)->n_layer;
  for (int first = 0, end; first < scheme->n_part; first = end) {
    const char *parameter = scheme->parts[first].parameter;
    for (end = first + 1; end < scheme->n_part && strcmp(parameter, scheme->parts[end].parameter) == 0; ++end)
      continue;
    bool layered = strstr(parameter, "%lld") != NULL;
    for (int64_t layer = 0; layer < (layered ? n_layer : 1); ++layer)
      SS_TRY(load_parameter(load, first, end, layer, error));
  }
  return SS_OK;
}

static ss_status check_options(const model_import *import, const import_options *options, gpt_config *config,
                               ss_error *error) {
  *config = import->about.model;
  if (options->n_positions < 0 || options->n_positions > config->n_positions)
    return ss_fail(error, SS_ERROR_USAGE, "%s: %lld positions, the model has %lld", import->path,
                   (long long)options->n_positions, (long long)config->n_positions);
  int64_t had = config->vocab_size, keep = options->n_keep == 0 ? had : options->n_keep;
  if (options->vocab_size > 0)
    config->vocab_size = options->vocab_size;
  if (options->n_positions > 0)
    config->n_positions = options->n_positions;
  if (keep < 1 || keep > had || keep > config->vocab_size)
    return ss_fail(error, SS_ERROR_USAGE, "%s: %lld of its %lld tokens in a vocabulary of %lld", import->path,
                   (long long)keep, (long long)had, (long long)config->vocab_size);
  for (int64_t row = 0; options->like != NULL && row < config->vocab_size - keep; ++row)
    if (options->like[row] < -1 || options->like[row] >= keep)
      return ss_fail(error, SS_ERROR_USAGE, "%s: a new token like token %lld, expected one below %lld",
                     import->path, (long long)options->like[row], (long long)keep);
  return SS_OK;
}

// The largest parameter, and the largest part that must be turned round.
static ss_status allocate_buffers(loading *load, ss_error *error) {
  const import_scheme *scheme = load->import->scheme;
  const gpt_parameter *table = gpt_parameter_table(load->model);
  int64_t most = 1, most_scratch = 1;
  for (int32_t index = 0; index < gpt_n_parameter_tensor(load->model); ++index)
    most = table[index].rows * table[index].cols > most ? table[index].rows * table[index].cols : most;
  for (int k = 0; k < scheme->n_part; ++k) {
    const import_part *part = &scheme->parts[k];
    const gpt_config *config = &load->import->about.model;
    int64_t size = import_size(config, part->rows) * import_size(config, part->cols);
    if (part->kind != PART_ROWS && size > most_scratch)
      most_scratch = size;
    load->n_total += strstr(part->name, "%lld") != NULL ? config->n_layer : 1;
  }
  SS_TRY(ss_allocate(&load->values, most, sizeof *load->values, "a parameter", error));
  return ss_allocate(&load->scratch, most_scratch, sizeof *load->scratch, "a tensor", error);
}

ss_status import_model(const model_import *import, ss_device *device, const import_options *options,
                       gpt **out, ss_error *error) {
  gpt_config config;
  *out = NULL;
  loading load = {.import = import, .options = options};
  SS_TRY(check_options(import, options, &config, error));
  SS_TRY(gpt_create(&load.model, device, &config, false, error));
  ss_status status = allocate_buffers(&load, error);
  if (status == SS_OK)
    status = load_all(&load, error);
  free(load.values);
  free(load.scratch);
  if (status == SS_OK)
    *out = load.model;
  else
    gpt_free(load.model);
  return status;
}
