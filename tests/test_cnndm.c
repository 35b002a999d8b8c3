// The cnndm task: annotation, truncation, what comes of strange texts, and whole datasets.
#include "data/tasks/cnndm.h"

#include <jansson.h>

#include "commands/commands.h"
#include "common/random.h"
#include "data/generate.h"
#include "data/render.h"
#include "data/store.h"
#include "tests/helpers.h"

#define ARTICLE                                                                                              \
  "(CNN) -- The harbour of Lissen opened a second pier on Monday. Mayor Ida Fell said that it cost $4 "      \
  "million. \"It is ours,\" said Gen. Ash of the harbour watch. Ships from the U.S. and Norway came to see " \
  "it. No. The old pier of Lissen will close in May. Nobody was hurt by the fireworks, the watch said."
#define HIGHLIGHTS                                                                                         \
  "Lissen opens a second pier .\nNEW: Pier cost $4 million, mayor says .\nOld pier of Lissen to close in " \
  "May"

static const char *const sentences[] = {"The harbour of Lissen opened a second pier on Monday.",
                                        " Mayor Ida Fell said that it cost $4 million.",
                                        " \"It is ours,\" said Gen. Ash of the harbour watch.",
                                        " Ships from the U.S. and Norway came to see it. No.",
                                        " The old pier of Lissen will close in May.",
                                        " Nobody was hurt by the fireworks, the watch said."};
static const char *const lines[] = {" Lissen opens a second pier.", " Pier cost $4 million, mayor says.",
                                    " Old pier of Lissen to close in May."};
#define N_SENTENCE 6
#define N_LINE 3

static cnndm_config defaults(void) {
  ss_error error = {0};
  cnndm_config config;
  const ss_key_group groups[] = {{cnndm_keys, &config}, {NULL, NULL}};
  memset(&config, 0, sizeof config);
  assert_ok(ss_config_defaults(groups, &error));
  config.context_tokens = 0;
  return config;
}

typedef struct {
  vocabulary *vocabulary;
  cnndm_annotator *annotator;
  example example;
  rendering rendering;
} annotation;

static void start(annotation *made, const cnndm_config *config, int32_t n_anchor) {
  ss_error error = {0};
  memset(made, 0, sizeof *made);
  assert_ok(vocabulary_create_bytes(&made->vocabulary, "cnndm", n_anchor, &error));
  assert_ok(cnndm_annotator_create(&made->annotator, config, made->vocabulary, &error));
}

static void stop(annotation *made) {
  cnndm_annotator_free(made->annotator);
  vocabulary_free(made->vocabulary);
  example_free(&made->example);
  rendering_free(&made->rendering);
}

static const char *annotate(annotation *made, const char *article, const char *summary) {
  ss_error error = {0};
  const char *reason = "unset";
  assert_ok(cnndm_annotate(made->annotator, "row", article, (int64_t)strlen(article), summary,
                           summary == NULL ? 0 : (int64_t)strlen(summary), &made->example, &reason, &error));
  if (reason == NULL && summary != NULL)
    assert_ok(render_annotated(&made->rendering, &made->example, made->vocabulary, 16, &error));
  return reason;
}

static void assert_segment(const example *example, int64_t s, int32_t kind, const char *text) {
  assert_true(s < example->n_segment);
  const example_segment *segment = &example->segments[s];
  assert_int_equal(segment->kind, kind);
  assert_int_equal(segment->text_end - segment->text_first, strlen(text));
  assert_memory_equal(example->text + segment->text_first, text, strlen(text));
}

static int64_t meta(const example *example, const char *group, const char *name) {
  json_t *object = json_loads(example->meta, 0, NULL);
  const json_t *value = json_object_get(json_object_get(object, group), name);
  assert_true(json_is_integer(value));
  int64_t result = (int64_t)json_integer_value(value);
  json_decref(object);
  return result;
}

// Every step refers to the steps before it as well, and to at least so many sentences.
static void steps_refer_to_steps(void **state) {
  (void)state;
  annotation made;
  cnndm_config config = defaults();
  config.previous_steps = 1;
  start(&made, &config, 64);
  assert_null(annotate(&made, ARTICLE, HIGHLIGHTS));
  static const int32_t expected[] = {0, 1, N_SENTENCE, 4, N_SENTENCE + 1};
  assert_int_equal(made.example.n_reference, 5);
  assert_memory_equal(made.example.references, expected, sizeof expected);
  assert_int_equal(meta(&made.example, "references", "n"), 3);
  stop(&made);
  config.least_references = config.references = 2;
  start(&made, &config, 64);
  assert_null(annotate(&made, ARTICLE, HIGHLIGHTS));
  for (int s = 0; s < N_LINE; s++)
    assert_int_equal(made.example.segments[N_SENTENCE + s].n_reference, s == 0 ? 2 : 3);
  stop(&made);
  ss_error error = {0};
  cnndm_annotator *annotator = NULL;
  vocabulary *vocabulary = NULL;
  config.least_references = 3;
  assert_ok(vocabulary_create_bytes(&vocabulary, "cnndm", 64, &error));
  assert_refused(cnndm_annotator_create(&annotator, &config, vocabulary, &error), SS_ERROR_USAGE,
                 "least_references is 3");
  vocabulary_free(vocabulary);
}

static void sentences_are_segments(void **state) {
  (void)state;
  annotation made;
  cnndm_config config = defaults();
  start(&made, &config, 64);
  assert_null(annotate(&made, ARTICLE, HIGHLIGHTS));
  const example *example = &made.example;
  assert_int_equal(example->n_segment, N_SENTENCE + N_LINE);
  for (int s = 0; s < N_SENTENCE; s++)
    assert_segment(example, s, SPAN_CONTEXT, sentences[s]);
  for (int s = 0; s < N_LINE; s++)
    assert_segment(example, N_SENTENCE + s, SPAN_STEP, lines[s]);
  static const int32_t expected[] = {0, 1, 4};
  assert_int_equal(example->n_reference, 3);
  assert_memory_equal(example->references, expected, sizeof expected);
  for (int s = 0; s < N_LINE; s++)
    assert_int_equal(example->segments[N_SENTENCE + s].n_reference, 1);
  assert_int_equal(example->n_answer, 0);
  assert_string_equal(example->id, "row");
  assert_int_equal(meta(example, "article", "sentences"), 6);
  assert_int_equal(meta(example, "article", "words"), 59);
  assert_int_equal(meta(example, "summary", "words"), 19);
  assert_int_equal(meta(example, "article", "lost_sentences"), 0);
  assert_int_equal(meta(example, "references", "n"), 3);
  assert_int_equal(meta(example, "references", "sentences"), 3);
  assert_int_equal(meta(example, "references", "words"), 10 + 9 + 9);
  assert_int_equal(meta(example, "cleaned", "dateline"), 1);
  assert_int_equal(meta(example, "cleaned", "update"), 1);
  // The prompt alone is the same.
  assert_null(annotate(&made, ARTICLE, NULL));
  assert_int_equal(example->n_segment, N_SENTENCE);
  for (int s = 0; s < N_SENTENCE; s++)
    assert_segment(example, s, SPAN_CONTEXT, sentences[s]);
  stop(&made);
}

static void the_article_is_cut_at_a_sentence(void **state) {
  (void)state;
  annotation made;
  cnndm_config config = defaults();
  int64_t three = 2;
  for (int s = 0; s < 3; s++)
    three += (int64_t)strlen(sentences[s]) + 1;
  config.summary_tokens = 200;
  for (int more = -1; more <= 1; more++) {
    config.context_tokens = three + 200 + more;
    start(&made, &config, 64);
    assert_null(annotate(&made, ARTICLE, HIGHLIGHTS));
    int kept = more < 0 ? 2 : 3;
    assert_int_equal(made.example.n_segment, kept + N_LINE);
    assert_true(made.rendering.n_token <= config.context_tokens);
    assert_int_equal(meta(&made.example, "article", "sentences"), N_SENTENCE);
    assert_int_equal(meta(&made.example, "article", "lost_sentences"), N_SENTENCE - kept);
    int64_t lost = 0;
    for (int s = kept; s < N_SENTENCE; s++)
      lost += (int64_t)strlen(sentences[s]);
    assert_int_equal(meta(&made.example, "article", "lost_tokens"), lost);
    // "Old pier" has lost its sentence and takes the next best one.
    assert_int_equal(meta(&made.example, "references", "lost"), 1);
    assert_int_equal(made.example.segments[kept + 2].n_reference, 1);
    assert_int_equal(made.example.references[2], 0);
    // A summary of another length leaves the article as it is.
    assert_null(annotate(&made, ARTICLE, "Piers open"));
    assert_int_equal(made.example.n_segment, kept + 1);
    assert_null(annotate(&made, ARTICLE, NULL));
    assert_int_equal(made.example.n_segment, kept);
    stop(&made);
  }
  config.context_tokens = 200 + 2 + (int64_t)strlen(sentences[0]);
  start(&made, &config, 64);
  assert_string_equal(annotate(&made, ARTICLE, HIGHLIGHTS),
                      "the article's first sentence does not fit in cnndm.context_tokens");
  stop(&made);
}

static void anchors_bound_the_segments(void **state) {
  (void)state;
  annotation made;
  ss_error error = {0};
  cnndm_config config = defaults();
  config.summary_sentences = 4;
  start(&made, &config, 4 + 1 + 2);
  assert_null(annotate(&made, ARTICLE, HIGHLIGHTS));
  assert_int_equal(made.example.n_segment, 2 + N_LINE);
  assert_int_equal(meta(&made.example, "article", "lost_sentences"), 4);
  stop(&made);
  cnndm_annotator *annotator = NULL;
  vocabulary *vocabulary = NULL;
  assert_ok(vocabulary_create_bytes(&vocabulary, "cnndm", 5, &error));
  assert_refused(cnndm_annotator_create(&annotator, &config, vocabulary, &error), SS_ERROR_USAGE,
                 "data.n_anchor is 5");
  config.summary_sentences = 1;
  config.context_tokens = 100;
  config.summary_tokens = 98;
  assert_refused(cnndm_annotator_create(&annotator, &config, vocabulary, &error), SS_ERROR_USAGE,
                 "cnndm.summary_tokens is 98");
  config.context_tokens = 0;
  config.longest_sentence = 31;
  assert_refused(cnndm_annotator_create(&annotator, &config, vocabulary, &error), SS_ERROR_USAGE,
                 "cnndm.longest_sentence is 31");
  strcpy(config.clean, "dashes");
  assert_refused(cnndm_annotator_create(&annotator, &config, vocabulary, &error), SS_ERROR_USAGE, "dashes");
  vocabulary_free(vocabulary);
}

static void a_summary_that_is_cut_stays_whole_beside(void **state) {
  (void)state;
  annotation made;
  cnndm_config config = defaults();
  static const char whole[] =
      "Lissen opens a second pier.\nPier cost $4 million, mayor says.\nOld pier of Lissen to close in May.";
  config.summary_sentences = 2;
  start(&made, &config, 64);
  assert_null(annotate(&made, ARTICLE, HIGHLIGHTS));
  assert_int_equal(made.example.n_segment, N_SENTENCE + 2);
  assert_int_equal(meta(&made.example, "summary", "lost_sentences"), 1);
  assert_int_equal(meta(&made.example, "summary", "lost_tokens"), strlen(lines[2]));
  assert_int_equal(made.example.n_answer, 1);
  assert_string_equal(made.example.answers, whole);
  stop(&made);
  // The same by tokens: two steps of <[> <#k> <:>, text and anchor, and <[> <eos>.
  config = defaults();
  config.context_tokens = 1000;
  for (int less = 0; less < 2; less++) {
    config.summary_tokens = 2 + 4 + (int64_t)strlen(lines[0]) + 4 + (int64_t)strlen(lines[1]) - less;
    start(&made, &config, 64);
    assert_null(annotate(&made, ARTICLE, HIGHLIGHTS));
    assert_int_equal(made.example.n_segment, N_SENTENCE + 2 - less);
    assert_int_equal(made.rendering.n_token - made.rendering.prompt_end,
                     less ? 2 + 4 + (int64_t)strlen(lines[0]) : config.summary_tokens);
    assert_string_equal(made.example.answers, whole);
    stop(&made);
  }
  config.summary_tokens = 20;
  start(&made, &config, 64);
  assert_string_equal(annotate(&made, ARTICLE, HIGHLIGHTS),
                      "the summary's first sentence does not fit in cnndm.summary_tokens");
  stop(&made);
}

static void short_sentences_join_and_long_ones_part(void **state) {
  (void)state;
  annotation made;
  cnndm_config config = defaults();
  config.shortest_sentence = 10;
  config.longest_sentence = 40;
  start(&made, &config, 64);
  assert_null(annotate(
      &made,
      "No. Yes. It did rain on us there. Oh. Why? They walked home along the river, past the mill and "
      "over the bridge. Abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz.",
      "Rain"));
  assert_segment(&made.example, 0, SPAN_CONTEXT, "No. Yes. It did rain on us there. Oh.");
  assert_segment(&made.example, 1, SPAN_CONTEXT, " Why?");
  assert_segment(&made.example, 2, SPAN_CONTEXT, " They walked home along the river,");
  assert_segment(&made.example, 3, SPAN_CONTEXT, " past the mill and over the bridge.");
  assert_segment(&made.example, 4, SPAN_CONTEXT, " Abcdefghijklmnopqrstuvwxyzabcdefghijklm");
  assert_segment(&made.example, 5, SPAN_CONTEXT, "nopqrstuvwxyz.");
  assert_segment(&made.example, 6, SPAN_STEP, " Rain.");
  stop(&made);
}

static void nothing_left_has_a_reason(void **state) {
  (void)state;
  annotation made;
  cnndm_config config = defaults();
  start(&made, &config, 64);
  assert_string_equal(annotate(&made, "", "A line"), "no text is left of the article");
  assert_string_equal(annotate(&made, " \n\t", "A line"), "no text is left of the article");
  assert_string_equal(annotate(&made, ARTICLE, " \n \n"), "no text is left of the summary");
  assert_string_equal(made.example.id, "row");
  // Without a common word there is no reference.
  assert_null(annotate(&made, ARTICLE, "Quite otherwise"));
  assert_int_equal(made.example.n_reference, 0);
  stop(&made);
}

// Any bytes, NULs included: the contexts are the article with single blanks (its clean-up switched off), no segment is empty
// or longer than allowed, references are among the kept.
static void any_bytes_are_annotated(void **state) {
  (void)state;
  ss_error error = {0};
  annotation made;
  cnndm_config config = defaults();
  strcpy(config.clean, "none");
  config.shortest_sentence = 5;
  config.longest_sentence = 30;
  static const char alphabet[] = "aaBcde  ..?!,;\"'\n\t\xC3\xA9\xE2\x80\x9D\xFF\xF0\x9F\x98\x80 No. Mr.";
  ss_random random = ss_random_seed(3, 1);
  start(&made, &config, 300);
  for (int round = 0; round < 2000; round++) {
    char article[256], summary[64], expected[256];
    int64_t n[2] = {ss_random_range(&random, 0, sizeof article - 1),
                    ss_random_range(&random, 0, sizeof summary - 1)};
    for (int64_t k = 0; k < n[0]; k++)
      article[k] = alphabet[ss_random_below(&random, sizeof alphabet)];
    for (int64_t k = 0; k < n[1]; k++)
      summary[k] = alphabet[ss_random_below(&random, sizeof alphabet)];
    const char *reason = NULL;
    assert_ok(
        cnndm_annotate(made.annotator, "row", article, n[0], summary, n[1], &made.example, &reason, &error));
    if (reason != NULL)
      continue;
    int64_t length = 0, at = 0, contexts = 0;
    for (int64_t k = 0; k < n[0]; k++) {
      bool blank = article[k] == ' ' || (article[k] >= '\t' && article[k] <= '\r');
      if (!blank)
        expected[length++] = article[k];
      else if (length > 0 && expected[length - 1] != ' ')
        expected[length++] = ' ';
    }
    length -= length > 0 && expected[length - 1] == ' ';
    for (; contexts < made.example.n_segment && made.example.segments[contexts].kind == SPAN_CONTEXT;
         contexts++) {
      const example_segment *segment = &made.example.segments[contexts];
      assert_true(segment->text_end > segment->text_first && segment->text_end - segment->text_first <= 30);
      at = segment->text_end;
    }
    assert_int_equal(at, length);
    assert_memory_equal(made.example.text, expected, (size_t)length);
    for (int64_t r = 0; r < made.example.n_reference; r++)
      assert_true(made.example.references[r] >= 0 && made.example.references[r] < contexts);
    assert_ok(render_annotated(&made.rendering, &made.example, made.vocabulary, 16, &error));
  }
  stop(&made);
}

static void a_megabyte_is_annotated(void **state) {
  (void)state;
  annotation made;
  const int64_t n = 1 << 20;
  char *text = malloc((size_t)n + 1);
  for (int form = 0; form < 6; form++) {
    cnndm_config config = defaults();
    config.context_tokens = 1024;
    config.longest_sentence = form < 3 ? 600 : 0;
    for (int64_t k = 0; k < n; k++)
      text[k] = form % 3 == 0 ? 'a' : form % 3 == 1 ? "word "[k % 5] : "He said it again. "[k % 18];
    text[n] = '\0';
    start(&made, &config, 256);
    const char *reason = annotate(&made, text, "He said a word");
    if (form == 3 || form == 4) {  // one sentence
      assert_string_equal(reason, "the article's first sentence does not fit in cnndm.context_tokens");
    } else {
      assert_null(reason);
      assert_true(made.rendering.n_token <= 1024);
      assert_true(meta(&made.example, "article", "tokens") >= n - 1);
    }
    stop(&made);
  }
  free(text);
}

// --- datasets ---

static ss_status run_data(ss_error *error, ...) {
  char *argv[32] = {"data", "cnndm", "--quiet"};
  int argc = 3;
  va_list arguments;
  va_start(arguments, error);
  for (char *argument; (argument = va_arg(arguments, char *)) != NULL;)
    argv[argc++] = argument;
  va_end(arguments);
  argv[argc] = NULL;
  return ss_command_data(argc, argv, error);
}

// N rows: variations on the article, every 7th empty once it is cleaned.
static void write_rows(char path[TEST_PATH], const char *name, int n) {
  FILE *file = fopen(test_path(path, name), "w");
  assert_non_null(file);
  for (int k = 0; k < n; k++) {
    json_t *row = json_pack("{s:s+, s:s, s:i}", "article", k % 7 == 3 ? "" : "Boat ",
                            k % 7 == 3 ? "(CNN) -- " : ARTICLE, "highlights", HIGHLIGHTS, "id", k);
    char *text = json_dumps(row, JSON_COMPACT);
    fprintf(file, "%s\n", text);
    free(text);
    json_decref(row);
  }
  assert_int_equal(fclose(file), 0);
}

static json_t *read_card(const char *folder) {
  char path[2 * TEST_PATH];
  snprintf(path, sizeof path, "%s/card.json", folder);
  json_t *card = json_load_file(path, 0, NULL);
  assert_non_null(card);
  return card;
}

static void assert_same_file(const char *a_folder, const char *b_folder, const char *name) {
  ss_error error = {0};
  char a_path[2 * TEST_PATH], b_path[2 * TEST_PATH], a_hash[33], b_hash[33];
  snprintf(a_path, sizeof a_path, "%s/%s", a_folder, name);
  snprintf(b_path, sizeof b_path, "%s/%s", b_folder, name);
  assert_ok(ss_hash_file(a_path, a_hash, &error));
  assert_ok(ss_hash_file(b_path, b_hash, &error));
  assert_string_equal(a_hash, b_hash);
}

static void a_dataset_does_not_depend_on_threads(void **state) {
  (void)state;
  ss_error error = {0};
  char rows[TEST_PATH], one[TEST_PATH], three[TEST_PATH], setting[TEST_PATH + 32], other[TEST_PATH + 32];
  write_rows(rows, "rows.jsonl", 600);
  snprintf(setting, sizeof setting, "cnndm.train=%s", rows);
  snprintf(other, sizeof other, "cnndm.test=%s", rows);
  assert_ok(run_data(&error, "--set", setting, "--set", other, "--set", "data.test=100", "--out",
                     (char *)test_path(one, "one"), "--threads", "1", NULL));
  assert_ok(run_data(&error, "--set", setting, "--set", other, "--set", "data.test=100", "--out",
                     (char *)test_path(three, "three"), "--threads", "3", NULL));
  assert_same_file(one, three, "train.h5");
  assert_same_file(one, three, "test.h5");
  assert_same_file(one, three, "card.json");
  assert_same_file(one, three, "card.md");
  json_t *card = read_card(one);
  const json_t *train = json_object_get(json_object_get(card, "splits"), "train");
  assert_int_equal(json_integer_value(json_object_get(train, "examples")), 600 - 86);
  assert_int_equal(json_integer_value(json_object_get(train, "skipped")), 86);
  assert_int_equal(json_integer_value(json_object_get(json_object_get(train, "skipped_reasons"),
                                                      "no text is left of the article")),
                   86);
  assert_string_equal(json_string_value(json_array_get(json_object_get(train, "skipped_first"), 1)),
                      "10: no text is left of the article");
  assert_int_equal(json_array_size(json_object_get(train, "skipped_first")), GENERATE_MOST_NAMED);
  const json_t *content = json_object_get(train, "content");
  assert_near(json_real_value(json_object_get(content, "article: sentences")), 6, 1e-12);
  assert_near(json_real_value(json_object_get(content, "references per summary sentence")), 1, 1e-12);
  assert_int_equal(json_integer_value(json_object_get(content, "cleaned by rule update, places in all")),
                   600 - 86);
  // Only the names of the sources are kept.
  assert_string_equal(json_string_value(json_object_get(json_object_get(card, "config"), "cnndm.train")),
                      "rows.jsonl");
  json_decref(card);
}

static void the_store_gives_back_what_was_annotated(void **state) {
  (void)state;
  ss_error error = {0};
  char rows[TEST_PATH], out[TEST_PATH], path[2 * TEST_PATH], setting[TEST_PATH + 32];
  write_rows(rows, "few.jsonl", 2);
  snprintf(setting, sizeof setting, "cnndm.validation=%s", rows);
  assert_ok(run_data(&error, "--set", setting, "--out", (char *)test_path(out, "few"), NULL));
  snprintf(path, sizeof path, "%s/validation.h5", out);
  store *data = NULL;
  example row = {0};
  rendering rendered = {0};
  assert_ok(store_open(&data, path, true, &error));
  assert_int_equal(store_n_example(data), 2);
  assert_string_equal(store_task(data), "cnndm");
  assert_ok(store_read(data, 1, 1, &row, &rendered, &error));
  assert_string_equal(row.id, "1");
  assert_int_equal(row.n_segment, N_SENTENCE + N_LINE);
  assert_segment(&row, 1, SPAN_CONTEXT, sentences[1]);
  assert_segment(&row, N_SENTENCE, SPAN_STEP, lines[0]);
  example_free(&row);
  rendering_free(&rendered);
  store_close(data);
}

#define GOOD \
  "{\"id\":\"good\",\"article\":\"The pier is new. It is long.\",\"highlights\":\"New pier\",\"url\":[1]}\n"

static void broken_rows_are_named(void **state) {
  (void)state;
  ss_error error = {0};
  char rows[TEST_PATH], out[TEST_PATH], setting[TEST_PATH + 32];
  test_write(rows, "broken.jsonl",
             "{\"id\":\"a\",\"article\":\"x\"}\n" GOOD
             "{\"id\":\"b\",\"article\":\"\",\"highlights\":\"x\"}\n"
             "{\"id\":\"c\",\"article\":\"x\\u0000y\",\"highlights\":\"x\"}\n"
             "{\"id\":\"d\",\"article\":\"\xff\",\"highlights\":\"x\"}\nno JSON\n");
  snprintf(setting, sizeof setting, "cnndm.train=%s", rows);
  assert_refused(run_data(&error, "--set", setting, "--set", "cnndm.on_error=fail", "--out",
                          (char *)test_path(out, "refused"), NULL),
                 SS_ERROR_INPUT, "highlights");
  assert_false(ss_file_exists(out));
  assert_ok(run_data(&error, "--set", setting, "--out", (char *)test_path(out, "broken"), NULL));
  json_t *card = read_card(out);
  const char *notes = json_string_value(json_object_get(card, "notes"));
  assert_non_null(notes);
  assert_non_null(strstr(notes, "highlights"));
  assert_non_null(strstr(notes, "  broken.jsonl: line 6"));  // without the folder
  assert_int_equal(json_integer_value(
                       json_object_get(json_object_get(json_object_get(card, "splits"), "train"),
                                       "examples")),
                   1);
  json_decref(card);
  test_write(rows, "none.jsonl", "no JSON\n");
  snprintf(setting, sizeof setting, "cnndm.train=%s", rows);
  assert_refused(run_data(&error, "--set", setting, "--out", (char *)test_path(out, "none"), NULL),
                 SS_ERROR_INPUT, "no usable row (1 broken, 0 excluded)");
  assert_refused(run_data(&error, "--out", out, NULL), SS_ERROR_USAGE, "--set cnndm.train=FILE");
  assert_refused(run_data(&error, "--set", "cnndm.test=/nonexistent/rows.csv", "--out", out, NULL),
                 SS_ERROR_IO, "/nonexistent/rows.csv");
}

// An id that is cut stays UTF-8: it stands in the card. A split of which nothing is left is an error, and a reader is never
// exhausted before its last row.
static void rows_without_an_example_are_skipped(void **state) {
  (void)state;
  ss_error error = {0};
  char rows[TEST_PATH], out[TEST_PATH], setting[TEST_PATH + 32], id[80];
  static const char guide[] = "\"article\":\"This is a rush transcript.\",\"highlights\":\"x\"}\n";
  memset(id, 'x', sizeof id - 1);
  memcpy(id + 62, "\xC3\xA9", 2);  // of which 63 bytes would keep one
  id[sizeof id - 1] = '\0';
  FILE *file = fopen(test_path(rows, "guides.jsonl"), "w");
  assert_non_null(file);
  for (int k = 0; k < 20010; k++)
    fprintf(file, "{\"id\":\"%s\",%s", id, guide);
  assert_int_equal(fclose(file), 0);
  snprintf(setting, sizeof setting, "cnndm.train=%s", rows);
  assert_refused(run_data(&error, "--set", setting, "--out", (char *)test_path(out, "guides"), NULL),
                 SS_ERROR_INPUT, "train: no row of 20010 can be used (the last: the page is no article)");
  file = fopen(rows, "a");
  assert_non_null(file);
  fputs(GOOD, file);
  assert_int_equal(fclose(file), 0);
  assert_ok(run_data(&error, "--set", setting, "--set", "data.train=1", "--out", out, NULL));
  json_t *card = read_card(out);
  const json_t *train = json_object_get(json_object_get(card, "splits"), "train");
  const char *first = json_string_value(json_array_get(json_object_get(train, "skipped_first"), 0));
  assert_int_equal(json_integer_value(json_object_get(train, "skipped")), 20010);
  assert_memory_equal(first, id, 62);
  assert_string_equal(first + 62, ": the page is no article");
  json_decref(card);
}

static void rows_are_excluded_by_id_and_article(void **state) {
  (void)state;
  ss_error error = {0};
  char rows[TEST_PATH], excluded[TEST_PATH], out[TEST_PATH], setting[TEST_PATH + 32];
  test_write(rows, "three.jsonl",
             GOOD "{\"id\":\"far\",\"article\":\"The  boat is\\nfar.\",\"highlights\":\"Boat\"}\n"
                  "{\"id\":\"old\",\"article\":\"The mill is old.\",\"highlights\":\"Mill\"}\n");
  test_write(excluded, "excluded.txt", "good\nThe boat is far.\n");
  snprintf(setting, sizeof setting, "cnndm.test=%s", rows);
  assert_ok(run_data(&error, "--set", setting, "--exclude", excluded, "--out", (char *)test_path(out, "kept"),
                     NULL));
  json_t *card = read_card(out);
  assert_int_equal(json_integer_value(
                       json_object_get(json_object_get(json_object_get(card, "splits"), "test"), "examples")),
                   1);
  assert_non_null(strstr(json_string_value(json_object_get(card, "notes")), "2 rows excluded"));
  json_decref(card);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(steps_refer_to_steps),
                                     cmocka_unit_test(sentences_are_segments),
                                     cmocka_unit_test(the_article_is_cut_at_a_sentence),
                                     cmocka_unit_test(anchors_bound_the_segments),
                                     cmocka_unit_test(a_summary_that_is_cut_stays_whole_beside),
                                     cmocka_unit_test(short_sentences_join_and_long_ones_part),
                                     cmocka_unit_test(nothing_left_has_a_reason),
                                     cmocka_unit_test(any_bytes_are_annotated),
                                     cmocka_unit_test(a_megabyte_is_annotated),
                                     cmocka_unit_test(a_dataset_does_not_depend_on_threads),
                                     cmocka_unit_test(the_store_gives_back_what_was_annotated),
                                     cmocka_unit_test(broken_rows_are_named),
                                     cmocka_unit_test(rows_without_an_example_are_skipped),
                                     cmocka_unit_test(rows_are_excluded_by_id_and_article)};
  return cmocka_run_group_tests_name("cnndm", tests, NULL, NULL);
}
