// Annotation of articles: any bytes as article and summary, under any limits. What comes of them is an example that renders,
// fits, and whose contexts together are what the sentences are of.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/render.h"
#include "data/sentences.h"
#include "data/tasks/cnndm.h"

#define N_SETTING 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool condition, const char *what, const ss_error *error) {
  if (condition)
    return;
  fprintf(stderr, "%s: %s\n", what, error->message);
  abort();
}

static void check_sentences(const char *text, int64_t n) {
  ss_error error = {0};
  sentence_splitter *splitter = NULL;
  const int64_t *ends = NULL;
  int64_t n_sentence = 0, last = 0;
  require(sentence_splitter_create(&splitter, &error) == SS_OK, "splitter", &error);
  require(sentence_split(splitter, text, n, &ends, &n_sentence, &error) == SS_OK, "split", &error);
  for (int64_t k = 0; k < n_sentence; last = ends[k++])
    require(ends[k] > last, "an empty sentence", &error);
  require(last == n, "sentences do not cover the text", &error);
  sentence_splitter_free(splitter);
}

static void check_example(const cnndm_config *config, const vocabulary *vocabulary, const example *example) {
  ss_error error = {0};
  rendering rendered = {0};
  int64_t contexts = 0;
  while (contexts < example->n_segment && example->segments[contexts].kind == SPAN_CONTEXT)
    contexts++;
  require(contexts > 0 && contexts < example->n_segment, "no context or no step", &error);
  for (int64_t k = 0; k < example->n_reference; k++)
    require(example->references[k] >= 0 && example->references[k] < contexts, "a reference", &error);
  require(render_annotated(&rendered, example, vocabulary, INT32_MAX, &error) == SS_OK, "rendering", &error);
  require(config->context_tokens == 0 || rendered.n_token <= config->context_tokens, "too many tokens",
          &error);
  void *tally = NULL;
  require(cnndm_tally_create(&tally, &error) == SS_OK && cnndm_tally_add(tally, example, &error) == SS_OK,
          "tally", &error);
  cnndm_tally_free(tally);
  rendering_free(&rendered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const rules[] = {"all", "none", "blanks,lines", "all,-lines"};
  if (size < N_SETTING)
    return 0;
  ss_error error = {0};
  cnndm_config config = {.context_tokens = data[0] < 64 ? 0 : 60 + 4 * data[0],
                         .summary_tokens = 16 + data[1],
                         .summary_sentences = 1 + data[2] % 8,
                         .references = 1 + data[3] % 4,
                         .shortest_sentence = data[4] % 32,
                         .longest_sentence = data[5] == 0 ? 0 : 64 + data[5]};
  strcpy(config.clean, rules[data[6] % 4]);
  const char *article = (const char *)data + N_SETTING;
  int64_t n = (int64_t)size - N_SETTING;
  const char *separator = memchr(article, 0x1E, (size_t)n);
  int64_t n_article = separator == NULL ? n : separator - article;
  const char *summary = separator == NULL ? NULL : separator + 1;
  vocabulary *vocabulary = NULL;
  cnndm_annotator *annotator = NULL;
  example made = {0};
  const char *reason = NULL;
  check_sentences(article, n_article);
  require(vocabulary_create_bytes(&vocabulary, "cnndm", 12 + data[7], &error) == SS_OK, "vocabulary", &error);
  if (cnndm_annotator_create(&annotator, &config, vocabulary, &error) == SS_OK) {
    require(cnndm_annotate(annotator, "row", article, n_article, summary,
                           summary == NULL ? 0 : n - n_article - 1, &made, &reason, &error) == SS_OK,
            "annotation", &error);
    if (reason == NULL && summary != NULL)
      check_example(&config, vocabulary, &made);
  }
  example_free(&made);
  cnndm_annotator_free(annotator);
  vocabulary_free(vocabulary);
  return 0;
}
