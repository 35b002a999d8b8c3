// Safetensors: what is written is read back, from one file and from several; files that lie.
#include "model/safetensors.h"
#include "tests/bytes_fixture.h"
#include "tests/helpers.h"

static bytes file_of(const char *header, int64_t n_data) {
  bytes buffer = {0};
  bytes_u64(&buffer, strlen(header));
  bytes_add(&buffer, header, (int64_t)strlen(header));
  for (int64_t i = 0; i < n_data; ++i)
    bytes_add(&buffer, "", 1);
  return buffer;
}

static void refuse(const char *header, int64_t n_data, const char *part) {
  ss_error error = {0};
  safetensors *file = NULL;
  bytes buffer = file_of(header, n_data);
  assert_refused(safetensors_open_memory(&file, buffer.data, (size_t)buffer.n, "memory", &error),
                 SS_ERROR_INPUT, part);
  assert_null(file);
  bytes_free(&buffer);
}

static ss_status fill(void *user, int64_t index, float *out, ss_error *error) {
  (void)error;
  int64_t n = index == 0 ? 6 : 3;
  for (int64_t i = 0; i < n; ++i)
    out[i] = (float)index * 10 + (float)i + *(float *)user;
  return SS_OK;
}

static ss_status fill_half(void *user, int64_t index, float *out, ss_error *error) {
  (void)user, (void)out;
  return index == 0 ? SS_OK : ss_fail(error, SS_ERROR_NUMERIC, "no values");
}

static void round_trip(void **state) {
  (void)state;
  static const safetensors_entry entries[] = {{"z.weight", 2, 3}, {"a.bias", 0, 3}};
  ss_error error = {0};
  char path[TEST_PATH];
  float add = 0.015625f, rows[6];
  test_path(path, "round.safetensors");
  for (int dtype = SAFETENSORS_F32; dtype <= SAFETENSORS_BF16; ++dtype) {
    safetensors *file = NULL;
    assert_ok(safetensors_write(path, entries, 2, (safetensors_dtype)dtype, NULL, fill, &add, &error));
    assert_ok(safetensors_open(&file, path, &error));
    assert_int_equal(safetensors_n_tensor(file), 2);
    assert_string_equal(safetensors_tensor_at(file, 0)->name, "a.bias");
    const safetensors_tensor *weight = safetensors_find(file, "z.weight");
    assert_string_equal(weight->dtype, dtype == SAFETENSORS_F32 ? "F32" : "BF16");
    assert_true(weight->n_dimension == 2 && weight->rows == 2 && weight->cols == 3);
    assert_int_equal(safetensors_find(file, "a.bias")->n_dimension, 1);
    assert_ok(safetensors_read_rows(file, weight, 1, 1, rows, &error));
    assert_near(rows[2], dtype == SAFETENSORS_F32 ? 5.015625 : 5.0, 0);
    assert_refused(safetensors_read_rows(file, weight, 0, 3, rows, &error), SS_ERROR_INTERNAL,
                   "rows 0 to 3 of 2");
    assert_null(safetensors_find(file, "z"));
    safetensors_close(file);
  }
  assert_int_equal(remove(path), 0);
  assert_refused(safetensors_write(path, entries, 2, SAFETENSORS_F32, NULL, fill_half, NULL, &error),
                 SS_ERROR_NUMERIC, "no values");
  assert_false(ss_file_exists(path));
  assert_refused(safetensors_write("/proc/x/y", entries, 2, SAFETENSORS_F32, NULL, fill, &add, &error),
                 SS_ERROR_IO, "cannot write");
}

static void several_files(void **state) {
  (void)state;
  static const safetensors_entry first[] = {{"one", 2, 3}}, second[] = {{"two", 2, 3}};
  ss_error error = {0};
  char index[TEST_PATH], path[TEST_PATH];
  float add = 0, rows[3];
  safetensors *file = NULL;
  assert_ok(safetensors_write(test_path(path, "s1.safetensors"), first, 1, SAFETENSORS_F32, NULL, fill, &add,
                              &error));
  add = 100;
  assert_ok(safetensors_write(test_path(path, "s2.safetensors"), second, 1, SAFETENSORS_F32, NULL, fill, &add,
                              &error));
  test_write(
      index, "model.safetensors.index.json",
      "{\"metadata\": {}, \"weight_map\": {\"one\": \"s1.safetensors\", \"two\": \"s2.safetensors\"}}");
  assert_ok(safetensors_open(&file, index, &error));
  assert_int_equal(safetensors_n_tensor(file), 2);
  assert_ok(safetensors_read_rows(file, safetensors_find(file, "two"), 0, 1, rows, &error));
  assert_near(rows[1], 101, 0);
  safetensors_close(file);
  assert_ok(safetensors_write(path, first, 1, SAFETENSORS_F32, NULL, fill, &add, &error));
  assert_refused(safetensors_open(&file, index, &error), SS_ERROR_INPUT, "tensor one stands in two files");
  test_write(index, "bad.json", "{\"weight_map\": {\"one\": \"../s1.safetensors\"}}");
  assert_refused(safetensors_open(&file, index, &error), SS_ERROR_INPUT,
                 "expected the names of .safetensors");
  test_write(index, "bad.json", "{\"weight_map\": {\"one\": \"absent.safetensors\"}}");
  assert_refused(safetensors_open(&file, index, &error), SS_ERROR_IO, "absent.safetensors: cannot open");
  test_write(index, "bad.json", "{\"weight_map\": {\"one\": 1");
  assert_refused(safetensors_open(&file, index, &error), SS_ERROR_INPUT, "bad.json:1: ");
  test_write(index, "bad.json", "[]");
  assert_refused(safetensors_open(&file, index, &error), SS_ERROR_INPUT, "no weight_map");
  assert_refused(safetensors_open(&file, "/nonexistent", &error), SS_ERROR_IO, "cannot open");
}

static void half_dtypes(void **state) {
  (void)state;
  ss_error error = {0};
  safetensors *file = NULL;
  float value[1];
  bytes buffer = file_of("{\"h\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},"
                         "\"i\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[2,10]},"
                         "\"none\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[2,2]}}",
                         10);
  buffer.data[buffer.n - 9] = 0x3c;
  assert_ok(safetensors_open_memory(&file, buffer.data, (size_t)buffer.n, "memory", &error));
  assert_ok(safetensors_read_rows(file, safetensors_find(file, "h"), 0, 1, value, &error));
  assert_near(value[0], 1, 0);
  assert_int_equal(safetensors_find(file, "i")->rows, 1);
  assert_refused(safetensors_read_rows(file, safetensors_find(file, "i"), 0, 1, value, &error),
                 SS_ERROR_INPUT, "memory: tensor i has dtype I64, expected F32, F16 or BF16");
  safetensors_close(file);
  // Every prefix is refused.
  for (int64_t n = 0; n < buffer.n; ++n) {
    unsigned char *copy = malloc((size_t)n + 1);
    memcpy(copy, buffer.data, (size_t)n);
    assert_refused(safetensors_open_memory(&file, copy, (size_t)n, "memory", &error), SS_ERROR_INPUT,
                   "memory: ");
    free(copy);
  }
  bytes_free(&buffer);
}

#define ENTRY(name, dtype, shape, first, end) \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #first "," #end "]}"

static void lies(void **state) {
  (void)state;
  refuse("{" ENTRY("a", "F32", "[2]", 0, 8) "}", 9, "1 bytes after the last tensor");
  refuse("{" ENTRY("a", "F32", "[2]", 0, 8) "}", 7, "tensor a: data_offsets 0 to 8, the data has 7 bytes");
  refuse("{" ENTRY("a", "F32", "[2]", 8, 0) "}", 8, "data_offsets 8 to 0");
  refuse("{" ENTRY("a", "F32", "[2]", -8, 0) "}", 8, "data_offsets -8 to 0");
  refuse("{" ENTRY("a", "F32", "[3]", 0, 8) "}", 8, "its offsets hold 8 bytes, its shape and F32 take 12");
  refuse("{" ENTRY("a", "F99", "[2]", 0, 8) "}", 8, "tensor a: unknown dtype F99");
  refuse("{" ENTRY("a", "F32", "[4294967296,4294967296]", 0, 8) "}", 8, "tensor a: dimension 1");
  refuse("{" ENTRY("a", "F32", "[0,4294967296,4294967296]", 0, 0) "}", 0, "tensor a: dimension 2");
  refuse("{" ENTRY("a", "F32", "[-2]", 0, 8) "}", 8, "tensor a: dimension 0");
  refuse("{" ENTRY("a", "F32", "[2.0]", 0, 8) "}", 8, "tensor a: dimension 0");
  refuse("{" ENTRY("a", "F32", "2", 0, 8) "}", 8, "its shape is none");
  refuse("{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,2]", 0, 8) "}", 8, "its shape is longer");
  refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "tensor a: data_offsets");
  refuse("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "tensor a: no dtype");
  refuse("{\"a\":3}", 8, "tensor a: no dtype");
  refuse("{" ENTRY("a", "F32", "[2]", 0, 8) "," ENTRY("b", "F32", "[2]", 4, 12) "}", 12,
         "tensors a and b overlap");
  refuse("{" ENTRY("a", "F32", "[2]", 0, 8) "," ENTRY("b", "F32", "[2]", 12, 20) "}", 20,
         "no tensor has the data's bytes 8 to 12, before b");
  refuse("{" ENTRY("a", "F32", "[2]", 0, 8) "," ENTRY("a", "F32", "[2]", 8, 16) "}", 16, "of the header");
  refuse("{" ENTRY("a\\n", "F32", "[2]", 0, 8) "}", 8, "not printable ASCII");
  refuse("{\"__metadata__\":{}}", 3, "3 bytes after the last tensor");
  refuse("[1]", 0, "its header is not a JSON object");
  refuse("{", 0, "byte 1 of the header");
  refuse("{} x", 0, "of the header");
  refuse("{\"a\\u0000\":1}", 0, "of the header");
  ss_error error = {0};
  safetensors *file = NULL;
  assert_refused(safetensors_open_memory(&file, "\377\377\377\377\377\377\377\377{}", 10, "memory", &error),
                 SS_ERROR_INPUT, "a header of 18446744073709551615 bytes in a file of 10");
  assert_refused(safetensors_open_memory(&file, NULL, 0, "memory", &error), SS_ERROR_INPUT, "0 bytes");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(several_files),
                                     cmocka_unit_test(half_dtypes), cmocka_unit_test(lies)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
