// GGUF: what is read back, every type's arithmetic, and files that lie.
#include "common/gguf.h"
#include "common/half.h"
#include "tests/bytes_fixture.h"
#include "tests/helpers.h"

static gguf *open_bytes(const bytes *buffer) {
  ss_error error = {0};
  gguf *file = NULL;
  assert_ok(gguf_open_memory(&file, buffer->data, (size_t)buffer->n, "memory", &error));
  return file;
}

static void refuse(const bytes *buffer, const char *part) {
  ss_error error = {0};
  gguf *file = NULL;
  assert_refused(gguf_open_memory(&file, buffer->data, (size_t)buffer->n, "memory", &error), SS_ERROR_INPUT,
                 part);
  assert_null(file);
}

// Keys of every kind, a 2 x 4 tensor of F32 and one of three BF16.
static bytes example(uint32_t version) {
  bytes buffer = {0};
  gguf_put_header(&buffer, version, 2, 8);
  gguf_put_string(&buffer, "name", "a model");
  gguf_put_integer(&buffer, "layers", 3);
  gguf_put_real(&buffer, "epsilon", 0.5f);
  gguf_put_text(&buffer, "flag");
  bytes_u32(&buffer, 7);
  bytes_add(&buffer, "\1", 1);
  gguf_put_text(&buffer, "negative");
  bytes_u32(&buffer, 3);
  bytes_u16(&buffer, 0xfffe);
  gguf_put_text(&buffer, "words");
  bytes_u32(&buffer, 9);
  bytes_u32(&buffer, 8);
  bytes_u64(&buffer, 3);
  gguf_put_text(&buffer, "one");
  gguf_put_text(&buffer, "");
  gguf_put_text(&buffer, "three");
  gguf_put_text(&buffer, "kinds");
  bytes_u32(&buffer, 9);
  bytes_u32(&buffer, 5);
  bytes_u64(&buffer, 2);
  bytes_u32(&buffer, 7);
  bytes_u32(&buffer, (uint32_t)-9);
  gguf_put_text(&buffer, "huge");
  bytes_u32(&buffer, 10);
  bytes_u64(&buffer, UINT64_MAX);
  gguf_put_info(&buffer, "matrix", 4, 2, 0, 0);
  gguf_put_info(&buffer, "vector", 3, 0, 30, 32);
  bytes_pad(&buffer, 32);
  for (int i = 0; i < 8; ++i)
    bytes_f32(&buffer, (float)i / 4);
  bytes_u16(&buffer, 0x3f80);
  bytes_u16(&buffer, 0xc000);
  bytes_u16(&buffer, 0x7f80);
  return buffer;
}

static void gguf_reads(void **state) {
  (void)state;
  for (uint32_t version = 2; version <= 3; ++version) {
    bytes buffer = example(version);
    ss_error error = {0};
    gguf *file = open_bytes(&buffer);
    gguf_text text, *texts = NULL;
    int64_t integer = 0, n = 0, *integers = NULL;
    double real = 0;
    bool flag = false;
    assert_int_equal(gguf_n_key(file), 8);
    assert_string_equal(gguf_key(file, 1), "layers");
    assert_true(gguf_has(file, "flag") && !gguf_has(file, "fla") && !gguf_has(file, ""));
    assert_true(gguf_string_is(file, "name", "a model") && !gguf_string_is(file, "name", "a mode") &&
                !gguf_string_is(file, "layers", "3"));
    assert_ok(gguf_string(file, "name", &text, &error));
    assert_int_equal(text.n, 7);
    assert_ok(gguf_integer(file, "layers", &integer, &error));
    assert_int_equal(integer, 3);
    assert_ok(gguf_integer(file, "negative", &integer, &error));
    assert_int_equal(integer, -2);
    assert_ok(gguf_real(file, "epsilon", &real, &error));
    assert_near(real, 0.5, 0);
    assert_ok(gguf_boolean(file, "flag", &flag, &error));
    assert_true(flag);
    assert_ok(gguf_strings(file, "words", &texts, &n, &error));
    assert_int_equal(n, 3);
    assert_int_equal(texts[1].n, 0);
    assert_memory_equal(texts[2].bytes, "three", 5);
    assert_ok(gguf_integers(file, "kinds", &integers, &n, &error));
    assert_int_equal(n, 2);
    assert_int_equal(integers[1], -9);
    float rows[8];
    const gguf_tensor *matrix = gguf_find_tensor(file, "matrix"), *vector = gguf_find_tensor(file, "vector");
    assert_int_equal(matrix->cols, 4);
    assert_int_equal(matrix->rows, 2);
    assert_ok(gguf_read_rows(file, matrix, 1, 1, rows, &error));
    assert_near(rows[0], 1.0, 0);
    assert_near(rows[3], 1.75, 0);
    assert_ok(gguf_read_rows(file, vector, 0, 1, rows, &error));
    assert_true(rows[0] == 1.0f && rows[1] == -2.0f && isinf(rows[2]));
    assert_null(gguf_find_tensor(file, "matri"));
    assert_refused(gguf_integer(file, "name", &integer, &error), SS_ERROR_INPUT,
                   "memory: metadata key name is string, expected an integer");
    assert_refused(gguf_strings(file, "kinds", &texts, &n, &error), SS_ERROR_INPUT,
                   "kinds is an array of i32, expected an array of strings");
    assert_refused(gguf_real(file, "absent", &real, &error), SS_ERROR_INPUT, "absent is missing");
    assert_refused(gguf_integer(file, "huge", &integer, &error), SS_ERROR_INPUT, "less than 2^63");
    assert_refused(gguf_read_rows(file, matrix, 1, 2, rows, &error), SS_ERROR_INTERNAL, "rows 1 to 3 of 2");
    free(texts);
    free(integers);
    gguf_close(file);
    bytes_free(&buffer);
  }
}

// Every prefix is refused: none of them holds the last tensor's last byte.
static void gguf_truncated(void **state) {
  (void)state;
  bytes buffer = example(3);
  int64_t whole = buffer.n;
  for (buffer.n = 0; buffer.n < whole; ++buffer.n) {
    // A copy of the exact size: AddressSanitizer sees reads beyond it.
    unsigned char *copy = malloc((size_t)buffer.n + 1);
    memcpy(copy, buffer.data, (size_t)buffer.n);
    ss_error error = {0};
    gguf *file = NULL;
    assert_refused(gguf_open_memory(&file, copy, (size_t)buffer.n, "memory", &error), SS_ERROR_INPUT,
                   "memory: ");
    free(copy);
  }
  bytes_free(&buffer);
}

static float one_value(uint32_t type, const unsigned char *block, int64_t n_byte, int64_t n_value, int at) {
  ss_error error = {0};
  bytes buffer = {0};
  float values[256];
  gguf_put_header(&buffer, 3, 1, 0);
  gguf_put_info(&buffer, "t", (uint64_t)n_value, 0, type, 0);
  bytes_pad(&buffer, 32);
  bytes_add(&buffer, block, n_byte);
  gguf *file = open_bytes(&buffer);
  assert_ok(gguf_read_rows(file, gguf_tensor_at(file, 0), 0, 1, values, &error));
  gguf_close(file);
  bytes_free(&buffer);
  return values[at];
}

// One block of each quantised type, with the values worked out by hand from ggml's layouts. 0x3800 is 0.5, 0x3c00 is 1.
static void gguf_blocks(void **state) {
  (void)state;
  unsigned char block[210] = {0x00, 0x38};
  block[2] = 0xf3;
  assert_near(one_value(2, block, 18, 32, 0), (3 - 8) * 0.5, 0);
  assert_near(one_value(2, block, 18, 32, 16), (15 - 8) * 0.5, 0);
  assert_near(one_value(2, block, 18, 32, 1), -8 * 0.5, 0);
  block[2] = (unsigned char)-5;
  assert_near(one_value(8, block, 34, 32, 0), -2.5, 0);
  block[2] = 0x00, block[3] = 0x3c, block[4] = 0xf3;
  assert_near(one_value(3, block, 20, 32, 0), 3 * 0.5 + 1, 0);
  assert_near(one_value(3, block, 20, 32, 16), 15 * 0.5 + 1, 0);
  unsigned char five[24] = {0x00, 0x38, 0x01, 0x00, 0x01, 0x00, 0xf3};
  assert_near(one_value(6, five, 22, 32, 0), (3 + 16 - 16) * 0.5, 0);
  assert_near(one_value(6, five, 22, 32, 16), (15 + 16 - 16) * 0.5, 0);
  assert_near(one_value(6, five, 22, 32, 1), -16 * 0.5, 0);
  unsigned char five_one[24] = {0x00, 0x38, 0x00, 0x3c, 0x01, 0x00, 0x01, 0x00, 0xf3};
  assert_near(one_value(7, five_one, 24, 32, 0), (3 + 16) * 0.5 + 1, 0);
  assert_near(one_value(7, five_one, 24, 32, 17), 1, 0);
  unsigned char six[210] = {0};
  six[64 + 1] = 0xa0;        // low nibbles of values 129 (0) and 193 (10)
  six[128 + 32 + 1] = 0xc0;  // upper pairs of values 129, 161, 193, 225: 0, 0, 0, 3
  six[192 + 193 / 16] = (unsigned char)-2;
  six[192 + 225 / 16] = 3;
  six[208] = 0x00, six[209] = 0x38;
  assert_near(one_value(14, six, 210, 256, 193), 0.5 * -2 * (10 - 32), 0);
  assert_near(one_value(14, six, 210, 256, 225), 0.5 * 3 * (48 - 32), 0);
}

static void half_values(void **state) {
  (void)state;
  assert_true(ss_f16_value(0x0001) == 0x1p-24f && ss_f16_value(0x83ff) == -1023 * 0x1p-24f);
  assert_true(ss_f16_value(0x0400) == 0x1p-14f && ss_f16_value(0x7bff) == 65504.0f);
  assert_true(isinf(ss_f16_value(0xfc00)) && ss_f16_value(0xfc00) < 0 && isnan(ss_f16_value(0x7c01)));
  assert_true(signbit(ss_f16_value(0x8000)) && ss_f16_value(0x8000) == 0);
  assert_int_equal(ss_bf16_of(1.00390625f), 0x3f80);  // a tie, to even
  assert_int_equal(ss_bf16_of(1.01171875f), 0x3f82);
  assert_int_equal(ss_bf16_of(3.4e38f), 0x7f80);
  assert_true(isnan(ss_bf16_value(ss_bf16_of(NAN))));
  for (uint32_t bits = 0; bits < 65536; ++bits)
    if ((bits & 0x7fff) <= 0x7f80)
      assert_int_equal(ss_bf16_of(ss_bf16_value((uint16_t)bits)), bits);
}

static void lie(int64_t at, uint64_t value, int n, const char *part) {
  bytes buffer = example(3);
  for (int i = 0; i < n; ++i)
    buffer.data[at + i] = (unsigned char)(value >> 8 * i);
  refuse(&buffer, part);
  bytes_free(&buffer);
}

static int64_t place_of(const char *text) {
  bytes buffer = example(3);
  int64_t n = (int64_t)strlen(text), at = 0;
  while (memcmp(buffer.data + at, text, (size_t)n) != 0)
    ++at;
  bytes_free(&buffer);
  return at;
}

static void gguf_lies(void **state) {
  (void)state;
  lie(0, 'X', 1, "does not begin with \"GGUF\"");
  lie(4, 1, 4, "GGUF version 1, expected 2 or 3");
  lie(4, 0x03000000, 4, "big-endian");
  lie(8, UINT64_MAX, 8, "18446744073709551615 tensors");
  lie(16, 1u << 31, 8, "2147483648 metadata keys");
  lie(24, UINT64_MAX, 8, "a metadata key of 18446744073709551615 bytes");
  lie(24, 0, 8, "a metadata key of 0 bytes");
  lie(place_of("name"), '\n', 1, "byte 32: a metadata key with byte 0x0a");
  lie(place_of("name") + 4, 13, 4, "name: value type 13");
  lie(place_of("name") + 8, 1u << 30, 8, "name takes 1073741824 bytes");
  int64_t words = place_of("words") + 5;
  lie(words + 4, 9, 4, "words: an array of arrays");
  lie(words + 8, UINT64_MAX, 8, "words takes");
  lie(words + 4, 5, 8, "expected");
  int64_t kinds = place_of("kinds") + 5;
  lie(kinds + 8, UINT64_MAX / 2, 8, "kinds: 9223372036854775807 values of i32");
  int64_t matrix = place_of("matrix") + 6;
  lie(matrix, 0, 4, "tensor matrix has 0 dimensions");
  lie(matrix, 5, 4, "tensor matrix has 5 dimensions");
  lie(matrix + 4, 0, 8, "dimension 0 is 0");
  lie(matrix + 4, 1ull << 62, 8, "dimension 1 is 2, expected at least 1 and a product below 2^63");
  lie(matrix + 4, 1ull << 61, 8, "more than any file holds");
  lie(place_of("vector") + 22, 0, 8, "overlap");
  lie(matrix + 12, 3, 8, "tensor matrix: 48 bytes at offset 0 of the data, which has 38 bytes");
  lie(matrix + 12, 9, 8, "bytes at offset 0 of the data");
  lie(matrix + 20, 8, 4, "rows of 4 values, expected a multiple of 32 (Q8_0)");
  lie(matrix + 24, 8, 8, "offset 8, expected a multiple of 32");
  lie(matrix + 24, UINT64_MAX - 31, 8, "tensor matrix: 32 bytes at offset 18446744073709551584");
  lie(place_of("vector"), 0x78697274616dull, 6, "tensor matrix stands twice");
  lie(place_of("flag"), 0x656d616e, 4, "metadata key name stands twice");
}

// A type that cannot be read is named when it is read, not before: another tensor may be all that is wanted.
static void gguf_unknown_types(void **state) {
  (void)state;
  static const struct {
    uint32_t type;
    const char *part;
  } cases[] = {{12, "type Q4_K (12)"}, {99, "type unknown (99)"}, {UINT32_MAX, "type unknown (-1)"}};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
    ss_error error = {0};
    bytes buffer = {0};
    float out[1];
    gguf_put_header(&buffer, 3, 1, 0);
    gguf_put_info(&buffer, "odd", 256, 0, cases[k].type, 0);
    gguf *file = open_bytes(&buffer);
    assert_refused(gguf_read_rows(file, gguf_tensor_at(file, 0), 0, 1, out, &error), SS_ERROR_INPUT,
                   cases[k].part);
    assert_false(gguf_type_readable((int32_t)cases[k].type));
    gguf_close(file);
    bytes_free(&buffer);
  }
}

static void gguf_files(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], folder[TEST_PATH];
  gguf *file = NULL;
  bytes buffer = example(3);
  bytes_write(&buffer, test_path(path, "example.gguf"));
  assert_ok(gguf_open(&file, path, &error));
  assert_string_equal(gguf_where(file), path);
  gguf_close(file);
  assert_refused(gguf_open(&file, "/nonexistent", &error), SS_ERROR_IO, "/nonexistent: cannot open");
  assert_refused(gguf_open(&file, test_path(folder, "."), &error), SS_ERROR_IO, "is not a file");
  assert_refused(gguf_open(&file, test_write(path, "empty.gguf", ""), &error), SS_ERROR_INPUT,
                 "not a GGUF file");
  gguf_close(NULL);
  bytes_free(&buffer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gguf_reads),  cmocka_unit_test(gguf_truncated), cmocka_unit_test(gguf_blocks),
      cmocka_unit_test(half_values), cmocka_unit_test(gguf_lies),      cmocka_unit_test(gguf_unknown_types),
      cmocka_unit_test(gguf_files),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
