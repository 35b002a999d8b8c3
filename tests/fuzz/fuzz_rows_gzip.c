// Rows behind gzip: the bytes as they are; and packed into members, whose content must come back.
#include "tests/fuzz/rows_fuzz.h"

#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static size_t pack(uint8_t *out, size_t room, const uint8_t *data, size_t n) {
  z_stream stream = {0};
  ROWS_FUZZ_REQUIRE(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  stream.next_in = (uint8_t *)data;
  stream.avail_in = (uInt)n;
  stream.next_out = out;
  stream.avail_out = (uInt)room;
  ROWS_FUZZ_REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  deflateEnd(&stream);
  return room - stream.avail_out;
}

static void sum(void *context, const rows_row *row) {
  uint64_t *total = context;
  for (const char *at = row->values[0]; *at != '\0'; at++)
    *total = *total * 31 + (unsigned char)*at;
  *total += (uint64_t)row->line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  rows_fuzz(data, n, ROWS_JSONL, NULL, NULL);
  if (n < 2 || n > 4000 || (data[0] == 0x1f && data[1] == 0x8b))
    return 0;
  uint64_t plain = 0, packed = 0;
  uint8_t members[3 * 4200];
  size_t cut = data[0] * n / 256, used = pack(members, sizeof members, data, cut);
  used += pack(members + used, sizeof members - used, data + cut, n - cut);
  rows_fuzz(data, n, ROWS_JSONL, sum, &plain);
  rows_fuzz(members, used, ROWS_JSONL, sum, &packed);
  ROWS_FUZZ_REQUIRE(plain == packed);
  return 0;
}
