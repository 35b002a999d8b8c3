// Dataset store: one HDF5 file a split, written once (temporary file, fsync, rename), with an xxHash sidecar and
// a card. Layout and attributes: docs/FORMATS.md. Reading is by example through hyperslabs, memory flat.
#ifndef SELFSPAN_DATA_STORE_H
#define SELFSPAN_DATA_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "data/example.h"
#include "data/render.h"
#include "data/vocabulary.h"

#define STORE_SCHEMA_VERSION 1

// --- writing ---
typedef struct store_writer store_writer;
// `config` is the resolved configuration (stored whole; NULL is refused). Bytes depend on content only: examples,
// their order, and the arguments here, the path excepted.
ss_status store_writer_open(store_writer **out, const char *path, const vocabulary *vocabulary,
                            const char *task, const char *split, uint64_t seed, const json_t *config,
                            ss_error *error);
// Adds one example with its annotated rendering (anchors from 0), whose structure is checked. A refused example
// leaves the writer as it was.
ss_status store_writer_add(store_writer *writer, const example *example, const rendering *annotated,
                           ss_error *error);
// Writes what is buffered, fsyncs, renames, writes the sidecar, and frees the writer, also on failure. On any
// failure nothing new is left under `path`.
ss_status store_writer_close(store_writer *writer, ss_error *error);
// Frees the writer and removes what it wrote. NULL is allowed.
void store_writer_abandon(store_writer *writer);

// --- reading ---
typedef struct store store;
// Checks format, schema version, sidecar hash (verify_hash), and that every offset table is monotone and in bounds.
// One store belongs to one thread at a time; several stores may be in use at once.
ss_status store_open(store **out, const char *path, bool verify_hash, ss_error *error);
void store_close(store *store);
int64_t store_n_example(const store *store);
int64_t store_n_token(const store *store);  // annotated tokens in all
int32_t store_longest(const store *store);  // annotated tokens of the longest example
int32_t store_most_segments(const store *store);
const vocabulary *store_vocabulary(const store *store);
const char *store_task(const store *store);
const char *store_split(const store *store);
const char *store_path(const store *store);
uint64_t store_seed(const store *store);
// The first 64 bits of the whole file's XXH3-128; 0 when it was opened without verify_hash.
uint64_t store_content_hash(const store *store);
const json_t *store_config(const store *store);
// Reads examples [first, first + count) with one hyperslab a dataset, checks them (a damaged file gives an error or
// examples within every stated range, whatever verify_hash was), and puts them into `examples` and `renderings` (arrays of count,
// zero-initialised once by the caller, reused; freed with example_free / rendering_free).
ss_status store_read(store *store, int64_t first, int64_t count, example *examples, rendering *renderings,
                     ss_error *error);

#endif
