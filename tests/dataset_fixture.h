// Random annotated examples and small stores of them, for the tests of the store, the reader and what stands on them.
#ifndef SELFSPAN_TESTS_DATASET_FIXTURE_H
#define SELFSPAN_TESTS_DATASET_FIXTURE_H

#include "data/store.h"

#define FIXTURE_ANCHORS 24
#define FIXTURE_MAX_HEADER 16

// A character vocabulary of the task "arithmetic" with FIXTURE_ANCHORS anchors. The caller frees it.
vocabulary *fixture_vocabulary(void);

// Example `index` of the set `seed`: 1 to 3 contexts, 0 to 7 steps, an answer or none, with text of its own; a pure
// function of both. `out` is zero-initialised once and reused.
void fixture_example(example *out, uint64_t seed, int64_t index);

// Writes a store of `count` examples of the set `seed`.
void fixture_write(const char *path, uint64_t seed, int64_t count);

// Fails the test unless both examples, or both renderings, hold the same.
void fixture_same_example(const example *a, const example *b);
void fixture_same_rendering(const rendering *a, const rendering *b);

// Fails the test unless every token, segment and reference lies in its stated range.
void fixture_check_ranges(const rendering *rendering, const vocabulary *vocabulary);

// Sets element `index` of an integer array of a store, leaving the file sound as HDF5 (its sidecar goes stale).
void fixture_overwrite(const char *path, const char *array, int64_t index, int64_t value);

#endif
