// Byte buffers for tests that build files of foreign formats, and GGUF's pieces.
#ifndef SELFSPAN_TESTS_BYTES_FIXTURE_H
#define SELFSPAN_TESTS_BYTES_FIXTURE_H

#include <stdint.h>

// Grown as needed; zero-initialise, bytes_free. Numbers are appended little-endian.
typedef struct {
  unsigned char *data;
  int64_t n, capacity;
} bytes;

void bytes_free(bytes *buffer);
void bytes_add(bytes *buffer, const void *data, int64_t n);
void bytes_u16(bytes *buffer, uint16_t value);
void bytes_u32(bytes *buffer, uint32_t value);
void bytes_u64(bytes *buffer, uint64_t value);
void bytes_f32(bytes *buffer, float value);
void bytes_pad(bytes *buffer, int64_t multiple);  // with zeros
void bytes_write(const bytes *buffer, const char *path);

// GGUF: "GGUF", version, counts; a length and the text; a key with a value.
void gguf_put_header(bytes *buffer, uint32_t version, uint64_t n_tensor, uint64_t n_key);
void gguf_put_text(bytes *buffer, const char *text);
void gguf_put_string(bytes *buffer, const char *key, const char *value);
void gguf_put_integer(bytes *buffer, const char *key, uint32_t value);
void gguf_put_real(bytes *buffer, const char *key, float value);
// A tensor's info; `second` 0: one dimension. Offsets count from the data's start.
void gguf_put_info(bytes *buffer, const char *name, uint64_t first, uint64_t second, uint32_t type,
                   uint64_t offset);

#endif
