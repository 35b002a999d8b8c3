#include "tests/bytes_fixture.h"

#include <string.h>

#include "common/memory.h"
#include "tests/helpers.h"

void bytes_free(bytes *buffer) {
  free(buffer->data);
  memset(buffer, 0, sizeof *buffer);
}

void bytes_add(bytes *buffer, const void *data, int64_t n) {
  ss_error error = {0};
  assert_ok(ss_grow(&buffer->data, &buffer->capacity, buffer->n + n, 1, "bytes", &error));
  if (n > 0)
    memcpy(buffer->data + buffer->n, data, (size_t)n);
  buffer->n += n;
}

static void add_integer(bytes *buffer, uint64_t value, int n) {
  unsigned char out[8];
  for (int i = 0; i < n; ++i)
    out[i] = (unsigned char)(value >> 8 * i);
  bytes_add(buffer, out, n);
}

void bytes_u16(bytes *buffer, uint16_t value) {
  add_integer(buffer, value, 2);
}
void bytes_u32(bytes *buffer, uint32_t value) {
  add_integer(buffer, value, 4);
}
void bytes_u64(bytes *buffer, uint64_t value) {
  add_integer(buffer, value, 8);
}

void bytes_f32(bytes *buffer, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  bytes_u32(buffer, bits);
}

void bytes_pad(bytes *buffer, int64_t multiple) {
  while (buffer->n % multiple != 0)
    bytes_add(buffer, "", 1);
}

void bytes_write(const bytes *buffer, const char *path) {
  ss_error error = {0};
  assert_ok(ss_write_file(path, buffer->data, (size_t)buffer->n, &error));
}

void gguf_put_header(bytes *buffer, uint32_t version, uint64_t n_tensor, uint64_t n_key) {
  bytes_add(buffer, "GGUF", 4);
  bytes_u32(buffer, version);
  bytes_u64(buffer, n_tensor);
  bytes_u64(buffer, n_key);
}

void gguf_put_text(bytes *buffer, const char *text) {
  bytes_u64(buffer, strlen(text));
  bytes_add(buffer, text, (int64_t)strlen(text));
}

void gguf_put_string(bytes *buffer, const char *key, const char *value) {
  gguf_put_text(buffer, key);
  bytes_u32(buffer, 8);
  gguf_put_text(buffer, value);
}

void gguf_put_integer(bytes *buffer, const char *key, uint32_t value) {
  gguf_put_text(buffer, key);
  bytes_u32(buffer, 4);
  bytes_u32(buffer, value);
}

void gguf_put_real(bytes *buffer, const char *key, float value) {
  gguf_put_text(buffer, key);
  bytes_u32(buffer, 6);
  bytes_f32(buffer, value);
}

void gguf_put_info(bytes *buffer, const char *name, uint64_t first, uint64_t second, uint32_t type,
                   uint64_t offset) {
  gguf_put_text(buffer, name);
  bytes_u32(buffer, second == 0 ? 1 : 2);
  bytes_u64(buffer, first);
  if (second > 0)
    bytes_u64(buffer, second);
  bytes_u32(buffer, type);
  bytes_u64(buffer, offset);
}
