// Vocabularies, examples and their renderings.
#include "data/render.h"
#include "tests/helpers.h"

#define ALPHABET "0123456789+-*/()[].%="

static vocabulary *characters(int32_t n_anchor) {
  ss_error error = {0};
  vocabulary *made = NULL;
  assert_ok(vocabulary_create_characters(&made, ALPHABET, "arith", n_anchor, &error));
  return made;
}

static void vocabularies_write_and_read_text(void **state) {
  (void)state;
  ss_error error = {0};
  vocabulary *arithmetic = characters(4), *bytes = NULL;
  int32_t *ids = NULL;
  int64_t n = 0, capacity = 0;
  char *text = NULL;
  assert_int_equal(vocabulary_size(arithmetic), 21 + 6 + 4);
  assert_int_equal(vocabulary_n_text(arithmetic), 21);
  assert_string_equal(vocabulary_task_name(arithmetic), "arith");
  const span_tokens *special = vocabulary_span_tokens(arithmetic);
  assert_ok(vocabulary_encode(arithmetic, "12+7", 4, &ids, &n, &capacity, "test", &error));
  assert_ok(vocabulary_encode(arithmetic, "=19", 3, &ids, &n, &capacity, "test", &error));
  assert_int_equal(n, 7);
  assert_ok(vocabulary_decode(arithmetic, ids, n, true, &text, &error));
  assert_string_equal(text, "12+7=19");
  free(text);
  const int32_t mixed[] = {vocabulary_bos(arithmetic),
                           vocabulary_task(arithmetic),
                           special->open,
                           special->colon,
                           special->answer,
                           special->anchor_first,
                           special->anchor_first + 3,
                           special->eos,
                           7,
                           -1,
                           99};
  assert_ok(vocabulary_decode(arithmetic, mixed, 11, false, &text, &error));
  assert_string_equal(text, "<bos><arith><[><:><=><#0><#3><eos>7<?-1><?99>");
  free(text);
  assert_ok(vocabulary_decode(arithmetic, mixed, 11, true, &text, &error));
  assert_string_equal(text, "7");
  free(text);
  assert_refused(vocabulary_encode(arithmetic, "1x", 2, &ids, &n, &capacity, "here", &error), SS_ERROR_INPUT,
                 "here: character 'x' at 1 is not in the vocabulary");
  assert_refused(vocabulary_encode(arithmetic, "\xc3\x97", 2, &ids, &n, &capacity, "here", &error),
                 SS_ERROR_INPUT, "here: byte 0xc3 at 0");
  assert_int_equal(n, 7);
  // Every byte survives the byte vocabulary, but a zero, which must not end the text.
  char all[257] = "";
  for (int k = 0; k < 256; k++)
    all[k] = (char)(unsigned char)k;
  assert_ok(vocabulary_create_bytes(&bytes, "jsonl", 4, &error));
  n = 0;
  assert_ok(vocabulary_encode(bytes, all, 256, &ids, &n, &capacity, "test", &error));
  assert_ok(vocabulary_decode(bytes, ids, n, true, &text, &error));
  assert_memory_equal(text, "\xef\xbf\xbd", 3);
  assert_string_equal(text + 3, all + 1);
  free(text);
  free(ids);
  vocabulary_free(arithmetic);
  vocabulary_free(bytes);
}

static void vocabularies_are_described(void **state) {
  (void)state;
  ss_error error = {0};
  vocabulary *made = characters(16), *again = NULL, *other = characters(17), *bytes = NULL;
  json_t *json = vocabulary_json(made);
  assert_ok(vocabulary_from_json(&again, json, "test", &error));
  assert_true(vocabulary_hash(made) == vocabulary_hash(again));
  assert_true(vocabulary_hash(made) != vocabulary_hash(other));
  json_t *json_again = vocabulary_json(again);
  assert_true(json_equal(json, json_again));
  json_decref(json_again);
  json_object_set_new(json, "n_anchor", json_integer(0));
  assert_refused(vocabulary_from_json(&again, json, "file", &error), SS_ERROR_INPUT,
                 "file: vocabulary: n_anchor 0");
  json_object_set_new(json, "n_anchor", json_integer(8));
  json_object_set_new(json, "kind", json_string("words"));
  assert_refused(vocabulary_from_json(&again, json, "file", &error), SS_ERROR_INPUT, "kind \"words\"");
  json_object_del(json, "task");
  assert_refused(vocabulary_from_json(&again, json, "file", &error), SS_ERROR_INPUT,
                 "expected an object with kind");
  assert_refused(vocabulary_create_characters(&bytes, "aba", "t", 4, &error), SS_ERROR_INPUT, "character 2");
  assert_refused(vocabulary_create_characters(&bytes, "a\n", "t", 4, &error), SS_ERROR_INPUT,
                 "not printable");
  assert_refused(vocabulary_create_characters(&bytes, "", "t", 4, &error), SS_ERROR_INPUT, "empty");
  assert_refused(vocabulary_create_bytes(&bytes, "Task!", 4, &error), SS_ERROR_INPUT, "lower-case");
  assert_refused(vocabulary_create_bytes(&bytes, "t", 65537, &error), SS_ERROR_INPUT, "65537 anchors");
  json_decref(json);
  vocabulary_free(made);
  vocabulary_free(again);
  vocabulary_free(other);
}

// Builds an example from a compact form: segments "kind text references" separated by '|', kinds c s a.
static ss_status build(example *out, const char *form, ss_error *error) {
  char copy[512], *rest = copy;
  snprintf(copy, sizeof copy, "%s", form);
  example_reset(out, "test");
  for (char *part = strtok_r(rest, "|", &rest); part != NULL; part = strtok_r(rest, "|", &rest)) {
    char *fields = part, *kind = strtok_r(fields, " ", &fields), *text = strtok_r(fields, " ", &fields);
    if (strcmp(text, "_") == 0)
      text[0] = '\0';
    SS_TRY(example_segment_add(out,
                               kind[0] == 'c'   ? SPAN_CONTEXT
                               : kind[0] == 's' ? SPAN_STEP
                                                : SPAN_ANSWER,
                               text, (int64_t)strlen(text), error));
    for (char *reference; (reference = strtok_r(fields, " ", &fields)) != NULL;)
      SS_TRY(example_reference_add(out, atoi(reference), error));
  }
  return example_finish(out, error);
}

static const char derivation[] =
    "c ((12+7)*(3|c -(8/2)))|s 12+7=19 0|s 8/2=4 1|s 3-4=-1 0 1 3|s 19*-1=-19 0 2 4|a -19 5";

static void examples_are_checked(void **state) {
  (void)state;
  ss_error error = {0};
  example made = {0};
  assert_ok(build(&made, derivation, &error));
  assert_ok(build(&made, "c 1|s 2", &error));  // a step may do without references
  assert_refused(build(&made, "s 1", &error), SS_ERROR_INPUT, "the first segment must be a context");
  assert_refused(build(&made, "", &error), SS_ERROR_INPUT, "the first segment must be a context");
  assert_refused(build(&made, "c 1|s 2|c 3", &error), SS_ERROR_INPUT, "segment 2: expected contexts first");
  assert_refused(build(&made, "c 1|a 2 0|s 3", &error), SS_ERROR_INPUT, "segment 2: expected contexts first");
  assert_refused(build(&made, "c 1|a 2 0|a 3 0", &error), SS_ERROR_INPUT, "at most one answer");
  assert_refused(build(&made, "c 1|a 2", &error), SS_ERROR_INPUT, "an answer needs at least one reference");
  assert_refused(build(&made, "c 1|c 2 0", &error), SS_ERROR_INPUT, "a context has no references");
  assert_refused(build(&made, "c 1|s 2 1", &error), SS_ERROR_INPUT, "segment 1 references 1");
  assert_refused(build(&made, "c 1|s 2 -1", &error), SS_ERROR_INPUT, "segment 1 references -1");
  assert_refused(build(&made, "c 1|c 2|s 3 1 0", &error), SS_ERROR_INPUT, "references 1 and 0");
  assert_refused(build(&made, "c 1|s 3 0 0", &error), SS_ERROR_INPUT, "references 0 and 0");
  assert_refused(build(&made, "c 1|s _ 0", &error), SS_ERROR_INPUT, "segment 1 has no text");
  example_free(&made);
}

static void check_text(const rendering *rendered, const vocabulary *vocabulary, const char *expected) {
  ss_error error = {0};
  char *text = NULL;
  assert_ok(vocabulary_decode(vocabulary, rendered->tokens, rendered->n_token, false, &text, &error));
  assert_string_equal(text, expected);
  free(text);
}

static void the_arms_text_is_the_designs(void **state) {
  (void)state;
  ss_error error = {0};
  vocabulary *vocabulary = characters(16);
  example made = {0};
  rendering annotated = {0}, other = {0};
  assert_ok(build(&made, derivation, &error));
  assert_ok(render_annotated(&annotated, &made, vocabulary, 16, &error));
  check_text(&annotated, vocabulary,
             "<bos><arith>((12+7)*(3<#0>-(8/2)))<#1><[><#0><:>12+7=19<#2><[><#1><:>8/2=4<#3>"
             "<[><#0><#1><#3><:>3-4=-1<#4><[><#0><#2><#4><:>19*-1=-19<#5><[><=><#5><:>-19<eos>");
  assert_ok(render_arm(&other, &annotated, ARM_SPAN, vocabulary, 7, &error));
  check_text(&other, vocabulary,
             "<bos><arith>((12+7)*(3<#7>-(8/2)))<#8><[><#7><:>12+7=19<#9><[><#8><:>8/2=4<#10>"
             "<[><#7><#8><#10><:>3-4=-1<#11><[><#7><#9><#11><:>19*-1=-19<#12><[><=><#12><:>-19<eos>");
  assert_ok(render_arm(&other, &annotated, ARM_DENSE, vocabulary, 9, &error));
  check_text(
      &other, vocabulary,
      "<bos><arith>((12+7)*(3<#9>-(8/2)))<#10>12+7=19<#11>8/2=4<#12>3-4=-1<#13>19*-1=-19<#14>-19<eos>");
  assert_int_equal(other.prompt_end, annotated.prompt_end);
  for (int64_t row = 0; row < other.n_token; row++)
    assert_int_equal(other.loss[row], row >= other.prompt_end);
  assert_refused(render_arm(&other, &annotated, ARM_SPAN, vocabulary, 10, &error), SS_ERROR_LIMIT,
                 "7 segments from anchor 10 on, but the vocabulary has 16 anchors");
  assert_ok(build(&made, "c 1|s 2 0", &error));
  assert_ok(render_annotated(&annotated, &made, vocabulary, 16, &error));
  check_text(&annotated, vocabulary, "<bos><arith>1<#0><[><#0><:>2<#1><[><eos>");
  assert_ok(render_arm(&other, &annotated, ARM_DENSE, vocabulary, 0, &error));
  check_text(&other, vocabulary, "<bos><arith>1<#0>2<#1><eos>");
  assert_int_equal(other.layout.segments[2].kind, SPAN_END);
  example_free(&made);
  rendering_free(&annotated);
  rendering_free(&other);
  vocabulary_free(vocabulary);
}

static void limits_are_named(void **state) {
  (void)state;
  ss_error error = {0};
  vocabulary *vocabulary = characters(3);
  example made = {0};
  rendering annotated = {0};
  assert_ok(build(&made, "c 1|c 2|a 3 0 1", &error));
  assert_ok(render_annotated(&annotated, &made, vocabulary, 5, &error));
  assert_refused(render_annotated(&annotated, &made, vocabulary, 4, &error), SS_ERROR_LIMIT,
                 "segment 2 has a header of 5 tokens, more than max_header = 4");
  assert_ok(build(&made, "c 1|c 2|s 3 0", &error));  // the end is a fourth segment
  assert_refused(render_annotated(&annotated, &made, vocabulary, 8, &error), SS_ERROR_LIMIT,
                 "4 segments, but the vocabulary has 3 anchors");
  assert_ok(build(&made, "c 1|c x", &error));
  assert_refused(render_annotated(&annotated, &made, vocabulary, 8, &error), SS_ERROR_INPUT,
                 "test: character 'x'");
  arm arm = ARM_DENSE;
  assert_ok(arm_from_name("span", &arm, &error));
  assert_int_equal(arm, ARM_SPAN);
  assert_refused(arm_from_name("spam", &arm, &error), SS_ERROR_USAGE, "expected dense, annotated or span");
  example_free(&made);
  rendering_free(&annotated);
  vocabulary_free(vocabulary);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(vocabularies_write_and_read_text),
      cmocka_unit_test(vocabularies_are_described),
      cmocka_unit_test(examples_are_checked),
      cmocka_unit_test(the_arms_text_is_the_designs),
      cmocka_unit_test(limits_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
