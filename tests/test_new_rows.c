// Learnt rows of the embedding: written and read back, put into the base they are of and no other, files that lie.
#include "model/new_rows.h"

#include "kernels/kernels.h"
#include "tests/bytes_fixture.h"
#include "tests/helpers.h"

enum { WIDTH = 8, FIRST = 20, SIZE = 23 };

static gpt *make_model(ss_device *device, uint64_t seed, int64_t width, int64_t size) {
  ss_error error = {0};
  gpt_config config = {.n_layer = 1,
                       .n_head = 2,
                       .n_kv_head = 2,
                       .n_embd = width,
                       .n_ff = 16,
                       .n_positions = 8,
                       .vocab_size = size,
                       .norm_epsilon = 1e-5,
                       .rotary_theta = 1e4,
                       .init_std = 0.02};
  gpt *model = NULL;
  assert_ok(gpt_config_resolve(&config, &error));
  assert_ok(gpt_create(&model, device, &config, false, &error));
  assert_ok(gpt_initialize(model, seed, &error));
  return model;
}

static float *row_of(gpt *model, int64_t row) {
  return gpt_parameters(model) + gpt_parameter_table(model)[gpt_find_parameter(model, "wte")].offset +
         row * gpt_get_config(model)->n_embd;
}

static void describe(new_rows *rows) {
  rows->task = strdup("news");
  rows->policy = strdup("{\"arm\": \"span\"}");
  rows->n_anchor = 7;
}

static void there_and_back(void **state) {
  (void)state;
  const ss_device_options plain = {.n_thread = 1};
  ss_error error = {0};
  ss_device *device = NULL;
  new_rows rows, back;
  char path[TEST_PATH];
  assert_ok(ss_device_open(&device, "cpu", &plain, &error));
  gpt *model = make_model(device, 1, WIDTH, SIZE), *wide = make_model(device, 1, 2 * WIDTH, SIZE),
      *large = make_model(device, 1, WIDTH, SIZE + 1);
  assert_ok(new_rows_take(&rows, model, FIRST, "model", &error));
  describe(&rows);
  assert_ok(new_rows_write(&rows, test_path(path, "new_rows.safetensors"), SAFETENSORS_F32, &error));
  assert_ok(new_rows_read(&back, path, &error));
  assert_string_equal(back.task, "news");
  assert_string_equal(back.policy, rows.policy);
  assert_string_equal(back.base_hash, rows.base_hash);
  assert_true(back.n_anchor == 7 && back.first == FIRST && back.n_row == 3 && back.n_embd == WIDTH);
  assert_memory_equal(back.values, row_of(model, FIRST), 3 * WIDTH * sizeof(float));
  // The fingerprint leaves the new rows out, and nothing else.
  memset(row_of(model, FIRST), 0, 3 * WIDTH * sizeof(float));
  assert_ok(new_rows_put(&back, model, "file", "base", &error));
  assert_memory_equal(back.values, row_of(model, FIRST), 3 * WIDTH * sizeof(float));
  for (int64_t i = 0; i < gpt_n_parameter(model); ++i) {
    float *value = gpt_parameters(model) + i, before = *value;
    if (value >= row_of(model, FIRST) && value < row_of(model, SIZE))
      continue;
    *value += 1;
    assert_refused(new_rows_put(&back, model, "file", "base", &error), SS_ERROR_INPUT,
                   "file: its rows were learnt on another base: base_xxh128 is ");
    *value = before;
  }
  assert_refused(new_rows_put(&back, wide, "file", "base", &error), SS_ERROR_INPUT,
                 "n_embd is 8, that of base 16");
  assert_refused(new_rows_put(&back, large, "file", "base", &error), SS_ERROR_INPUT,
                 "the size of the vocabulary is 23, that of base 24");
  new_rows_free(&back);
  row_of(model, FIRST + 1)[3] = NAN;
  assert_refused(new_rows_take(&back, model, FIRST, "model", &error), SS_ERROR_INPUT,
                 "model: row 1 of tensor rows is not finite");
  assert_null(back.values);
  assert_refused(new_rows_write(&rows, "/proc/x/y", SAFETENSORS_BF16, &error), SS_ERROR_IO, "cannot write");
  new_rows_free(&rows);
  gpt_free(model);
  gpt_free(wide);
  gpt_free(large);
  ss_device_close(device);
}

#define METADATA                                                                                           \
  "\"format\":\"selfspan-rows\",\"schema_version\":\"1\",\"task\":\"news\",\"policy\":\"{}\",\"n_anchor\"" \
  ":\"3\",\"n_embd\":\"2\",\"first\":\"5\",\"base_xxh128\":\"0123456789abcdef0123456789abcdef\""
#define TENSOR "\"rows\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}"

// Reads a file with this metadata and these tensors, whose data are `n` floats, the last one `last`.
static ss_status read_file(const char *metadata, const char *tensors, int64_t n, float last,
                           ss_error *error) {
  char header[1000];
  bytes buffer = {0};
  new_rows rows;
  snprintf(header, sizeof header, "{\"__metadata__\":%s,%s}", metadata, tensors);
  bytes_u64(&buffer, strlen(header));
  bytes_add(&buffer, header, (int64_t)strlen(header));
  for (int64_t i = 0; i < n; ++i)
    bytes_f32(&buffer, i + 1 < n ? 1 : last);
  ss_status status = new_rows_read_memory(&rows, buffer.data, (size_t)buffer.n, "lie", error);
  bytes_free(&buffer);
  if (status == SS_OK)
    new_rows_free(&rows);
  else
    assert_true(rows.values == NULL && rows.task == NULL && rows.policy == NULL);
  return status;
}

// METADATA with `from` replaced by `to`.
static void refuse_metadata(const char *from, const char *to, const char *part) {
  static const char whole[] = "{" METADATA "}";
  char text[600];
  ss_error error = {0};
  const char *at = strstr(whole, from);
  assert_non_null(at);
  snprintf(text, sizeof text, "%.*s%s%s", (int)(at - whole), whole, to, at + strlen(from));
  assert_refused(read_file(text, TENSOR, 4, 1, &error), SS_ERROR_INPUT, part);
}

static void lying_metadata(void **state) {
  (void)state;
  ss_error error = {0};
  static const char *const keys[] = {"format",   "schema_version", "task",  "policy",
                                     "n_anchor", "n_embd",         "first", "base_xxh128"};
  assert_ok(read_file("{" METADATA "}", TENSOR, 4, 1, &error));
  for (size_t k = 0; k < sizeof keys / sizeof *keys; ++k) {
    char from[40], part[60];
    snprintf(from, sizeof from, "\"%s\":", keys[k]);
    snprintf(part, sizeof part, "lie: no %s in its metadata", keys[k]);
    refuse_metadata(from, "\"x\":", part);
  }
  refuse_metadata("\"3\"", "3", "lie: no n_anchor in its metadata");
  refuse_metadata("selfspan-rows", "pt", "format in its metadata is not selfspan-rows");
  refuse_metadata("\"1\"", "\"2\"", "schema_version 2 in its metadata, this program reads up to 1");
  refuse_metadata("\"1\"", "\"0\"", "schema_version in its metadata: expected a number from 1");
  refuse_metadata("\"3\"", "\"0\"", "n_anchor in its metadata: expected a number from 1 to 65536");
  refuse_metadata("\"3\"", "\"3x\"", "n_anchor in its metadata: expected");
  refuse_metadata("\"2\"", "\"99999999999999999999\"", "n_embd in its metadata: expected");
  refuse_metadata("\"2\"", "\"3\"", "at least one row of n_embd = 3");
  refuse_metadata("\"5\"", "\"-5\"", "first in its metadata: expected");
  refuse_metadata("\"5\"", "\"16777216\"", "and at most 0");
  refuse_metadata("0123456789abcdef\"", "0123456789abcde\"", "base_xxh128 in its metadata: expected 32");
  refuse_metadata("0123456789abcdef\"", "0123456789abcdeF\"", "base_xxh128 in its metadata: expected 32");
  assert_refused(read_file("3", TENSOR, 4, 1, &error), SS_ERROR_INPUT, "no format in its metadata");
}

static void lying_tensors(void **state) {
  (void)state;
  static const char texts[] = "{" METADATA "}";
  ss_error error = {0};
  new_rows rows;
  assert_refused(read_file(texts, "\"rowz\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}", 4,
                           1, &error),
                 SS_ERROR_INPUT, "lie: 1 tensors, expected one called rows");
  assert_refused(read_file(texts, TENSOR ",\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]}",
                           5, 1, &error),
                 SS_ERROR_INPUT, "lie: 2 tensors, expected one called rows");
  assert_refused(read_file(texts, "\"rows\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}", 4, 1,
                           &error),
                 SS_ERROR_INPUT, "tensor rows: 1 dimensions");
  assert_refused(read_file(texts, "\"rows\":{\"dtype\":\"F32\",\"shape\":[0,2],\"data_offsets\":[0,0]}", 0, 1,
                           &error),
                 SS_ERROR_INPUT, "tensor rows: 2 dimensions, 0 x 2");
  assert_refused(read_file(texts, "\"rows\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}", 4,
                           1, &error),
                 SS_ERROR_INPUT, "tensor rows has dtype I32, expected F32, F16 or BF16");
  assert_refused(read_file(texts, TENSOR, 4, NAN, &error), SS_ERROR_INPUT,
                 "lie: row 1 of tensor rows is not finite");
  assert_refused(read_file(texts, TENSOR, 4, INFINITY, &error), SS_ERROR_INPUT, "row 1 of tensor rows");
  assert_refused(read_file(texts, TENSOR, 3, 1, &error), SS_ERROR_INPUT, "data_offsets 0 to 16");
  assert_refused(new_rows_read(&rows, "/nonexistent", &error), SS_ERROR_IO, "cannot open");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(lying_metadata),
                                     cmocka_unit_test(lying_tensors)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
