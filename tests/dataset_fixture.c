#include "dataset_fixture.h"

#include <hdf5.h>

#include "common/random.h"
#include "helpers.h"

vocabulary *fixture_vocabulary(void) {
  ss_error error = {0};
  vocabulary *made = NULL;
  assert_ok(vocabulary_create_characters(&made, "0123456789+-*/()=.", "arithmetic", FIXTURE_ANCHORS, &error));
  return made;
}

static void add_segment(example *out, int32_t kind, ss_random *random) {
  static const char characters[] = "0123456789+-*/()=.";
  ss_error error = {0};
  char text[16];
  int64_t length = ss_random_range(random, 1, 12);
  for (int64_t k = 0; k < length; k++)
    text[k] = characters[ss_random_below(random, sizeof characters - 1)];
  assert_ok(example_segment_add(out, kind, text, length, &error));
}

static void add_references(example *out, bool at_least_one, ss_random *random) {
  ss_error error = {0};
  int32_t own = (int32_t)out->n_segment - 1;
  int32_t forced = at_least_one ? (int32_t)ss_random_below(random, (uint64_t)own) : -1;
  for (int32_t k = 0; k < own; k++)
    if (k == forced || ss_random_below(random, 3) == 0)
      assert_ok(example_reference_add(out, k, &error));
}

void fixture_example(example *out, uint64_t seed, int64_t index) {
  ss_error error = {0};
  ss_random random = ss_random_seed(seed, (uint64_t)index);
  char text[64];
  snprintf(text, sizeof text, "set%llu-%lld", (unsigned long long)seed, (long long)index);
  example_reset(out, text);
  int64_t n_context = ss_random_range(&random, 1, 3), n_step = ss_random_range(&random, 0, 7);
  for (int64_t k = 0; k < n_context; k++)
    add_segment(out, SPAN_CONTEXT, &random);
  for (int64_t k = 0; k < n_step; k++) {
    add_segment(out, SPAN_STEP, &random);
    add_references(out, false, &random);
  }
  if (ss_random_below(&random, 5) > 0) {
    add_segment(out, SPAN_ANSWER, &random);
    add_references(out, true, &random);
  }
  for (uint64_t k = ss_random_below(&random, 3); k > 0; k--) {
    snprintf(text, sizeof text, "%llu", (unsigned long long)ss_random_below(&random, 1000));
    assert_ok(example_answer_add(out, text, &error));
  }
  snprintf(text, sizeof text, "{\"operators\": %lld}", (long long)n_step);
  assert_ok(example_meta_set(out, text, &error));
  assert_ok(example_finish(out, &error));
}

void fixture_write(const char *path, uint64_t seed, int64_t count) {
  ss_error error = {0};
  vocabulary *words = fixture_vocabulary();
  json_t *config = json_pack("{s:s, s:i}", "task", "arithmetic", "count", (int)count);
  store_writer *writer = NULL;
  example item = {0};
  rendering annotated = {0};
  assert_ok(store_writer_open(&writer, path, words, "arithmetic", "train", seed, config, &error));
  for (int64_t k = 0; k < count; k++) {
    fixture_example(&item, seed, k);
    assert_ok(render_annotated(&annotated, &item, words, FIXTURE_MAX_HEADER, &error));
    assert_ok(store_writer_add(writer, &item, &annotated, &error));
  }
  assert_ok(store_writer_close(writer, &error));
  example_free(&item);
  rendering_free(&annotated);
  json_decref(config);
  vocabulary_free(words);
}

void fixture_same_example(const example *a, const example *b) {
  assert_string_equal(a->id, b->id);
  assert_int_equal(a->n_text, b->n_text);
  assert_memory_equal(a->text, b->text, (size_t)a->n_text + 1);
  assert_int_equal(a->n_segment, b->n_segment);
  for (int64_t s = 0; s < a->n_segment; s++) {
    assert_int_equal(a->segments[s].kind, b->segments[s].kind);
    assert_int_equal(a->segments[s].text_first, b->segments[s].text_first);
    assert_int_equal(a->segments[s].text_end, b->segments[s].text_end);
    assert_int_equal(a->segments[s].reference_first, b->segments[s].reference_first);
    assert_int_equal(a->segments[s].n_reference, b->segments[s].n_reference);
  }
  assert_int_equal(a->n_reference, b->n_reference);
  for (int64_t k = 0; k < a->n_reference; k++)
    assert_int_equal(a->references[k], b->references[k]);
  assert_int_equal(a->n_answer, b->n_answer);
  assert_int_equal(a->n_answers_bytes, b->n_answers_bytes);
  if (a->n_answers_bytes > 0)
    assert_memory_equal(a->answers, b->answers, (size_t)a->n_answers_bytes);
  assert_int_equal(a->n_meta, b->n_meta);
  assert_memory_equal(a->meta, b->meta, (size_t)a->n_meta + 1);
}

void fixture_same_rendering(const rendering *a, const rendering *b) {
  assert_int_equal(a->n_token, b->n_token);
  assert_memory_equal(a->tokens, b->tokens, (size_t)a->n_token * sizeof *a->tokens);
  assert_memory_equal(a->loss, b->loss, (size_t)a->n_token);
  assert_int_equal(a->prompt_end, b->prompt_end);
  assert_int_equal(a->layout.preamble_end, b->layout.preamble_end);
  assert_int_equal(a->layout.n_segment, b->layout.n_segment);
  assert_memory_equal(a->layout.segments, b->layout.segments,
                      (size_t)a->layout.n_segment * sizeof *a->layout.segments);
  assert_int_equal(a->layout.n_reference, b->layout.n_reference);
  for (int32_t k = 0; k < a->layout.n_reference; k++)
    assert_int_equal(a->layout.references[k], b->layout.references[k]);
}

void fixture_check_ranges(const rendering *rendering, const vocabulary *vocabulary) {
  const span_layout *layout = &rendering->layout;
  assert_true(layout->n_segment <= vocabulary_span_tokens(vocabulary)->n_anchor);
  for (int64_t i = 0; i < rendering->n_token; i++) {
    assert_in_range(rendering->tokens[i], 0, vocabulary_size(vocabulary) - 1);
    assert_in_range(rendering->loss[i], 0, 1);
  }
  int32_t row = layout->preamble_end;
  for (int32_t s = 0; s < layout->n_segment; s++) {
    const span_segment *own = &layout->segments[s];
    assert_int_equal(own->first, row);
    assert_true(own->end > own->first && own->end <= rendering->n_token);
    assert_true(own->header_end == SPAN_ROW_OPEN ||
                (own->header_end >= own->first && own->header_end <= own->end));
    assert_true(own->anchor == -1 || own->anchor == own->end - 1);
    assert_in_range(own->kind, SPAN_CONTEXT, SPAN_END);
    assert_true(own->reference_first >= 0 && own->reference_first + own->n_reference <= layout->n_reference);
    for (int32_t k = 0; k < own->n_reference; k++)
      assert_in_range(layout->references[own->reference_first + k], 0, s - 1);
    row = own->end;
  }
  assert_int_equal(row, rendering->n_token);
}

void fixture_overwrite(const char *path, const char *array, int64_t index, int64_t value) {
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), data = H5Dopen2(file, array, H5P_DEFAULT);
  hid_t space = H5Dget_space(data);
  hsize_t place = (hsize_t)index, one = 1;
  hid_t memory = H5Screate_simple(1, &one, NULL);
  assert_true(H5Sselect_hyperslab(space, H5S_SELECT_SET, &place, NULL, &one, NULL) >= 0);
  assert_true(H5Dwrite(data, H5T_NATIVE_INT64, memory, space, H5P_DEFAULT, &value) >= 0);
  H5Sclose(memory);
  H5Sclose(space);
  H5Dclose(data);
  H5Fclose(file);
}
