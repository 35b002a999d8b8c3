// Inside the store: the names and chunking of its arrays, and blocks of consecutive examples as flat arrays.
// Shared by data/store_*.c and the reader; others include data/store.h. Meaning of the arrays: docs/FORMATS.md.
#ifndef SELFSPAN_DATA_STORE_PRIVATE_H
#define SELFSPAN_DATA_STORE_PRIVATE_H

#include "common/hdf5.h"
#include "data/store.h"

#define STORE_FORMAT "selfspan-dataset"

typedef enum {
  STORE_TOKENS,
  STORE_LOSS_MASK,
  STORE_EXAMPLE_OFFSETS,
  STORE_EXAMPLE_SEGMENTS,
  STORE_SEGMENT_OFFSETS,
  STORE_SEGMENT_KIND,
  STORE_HEADER_END,
  STORE_REFERENCE_OFFSETS,
  STORE_REFERENCES,
  STORE_TEXT,
  STORE_TEXT_OFFSETS,
  STORE_ANSWERS,
  STORE_ANSWER_OFFSETS,
  STORE_IDS,
  STORE_ID_OFFSETS,
  STORE_META,
  STORE_META_OFFSETS,
  STORE_N_ARRAY
} store_array;

typedef struct {
  const char *name;
  ss_hdf5_type type;
  int64_t chunk_rows;  // fixed: part of the reproducible bytes
} store_array_info;

// Indexed by store_array.
extern const store_array_info store_arrays[STORE_N_ARRAY];

// An array in memory that grows.
typedef struct {
  void *data;
  int64_t count, capacity;
} store_column;

struct store {
  ss_hdf5 *file;
  char *path;
  vocabulary *vocabulary;
  char *task, *split;
  json_t *config;
  uint64_t seed, content_hash;
  int64_t rows[STORE_N_ARRAY];  // extents, consistent with one another since store_open
  int64_t n_example;
  int64_t longest, longest_example;
  int64_t most_segments;
};

// Examples [first, first + count), their arrays cut out of the file and checked. Offsets are rebased to the
// block: offset 0 is the block's first element. Zero-initialise; reused by every read.
typedef struct {
  int64_t first, count;
  store_column columns[STORE_N_ARRAY];  // the stored arrays' part; offset arrays have one entry more
  store_column segments;  // span_segment: the layout, reference_first counted within the example
} store_block;

// Each part contains those before it.
typedef enum {
  STORE_READ_NOTHING,
  STORE_READ_LENGTHS,  // token counts
  STORE_READ_HEADERS,  // and the rows of headers, unchecked but for their size
  STORE_READ_TOKENS,   // what training needs: no texts
  STORE_READ_ALL
} store_read_part;

// Reads a block; every value that is used as an index later is checked here.
ss_status store_block_read(store *store, int64_t first, int64_t count, store_read_part part,
                           store_block *block, ss_error *error);
void store_block_free(store_block *block);

// Tokens of the block's example k as stored (annotated).
int64_t store_block_length(const store_block *block, int64_t k);
// Tokens of its headers: what the dense arm leaves out.
int64_t store_block_header_tokens(const store_block *block, int64_t k);
// Example k as a rendering whose arrays belong to the block: read only, never rendering_free.
rendering store_block_rendering(const store_block *block, int64_t k);

// Checks one annotated example against the grammar's structure: what the block reader guarantees, and what the
// writer demands. `where` names the file or the example.
ss_status store_check_example(const rendering *annotated, const vocabulary *vocabulary, const char *where,
                              int64_t index, ss_error *error);
// Fills in what follows from the rest: ends, body starts, anchors, who is referenced by whom, the preamble's and
// the prompt's end. Needs first, header_end, kind, reference_first, n_reference, and checked indices.
void store_complete_layout(rendering *annotated, const vocabulary *vocabulary);

// SS_OK when values[0..count] never fall and lie in [0, limit].
ss_status store_check_offsets(const store *store, store_array array, const int64_t *values, int64_t count,
                              int64_t limit, ss_error *error);

#endif
