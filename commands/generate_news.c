// Articles as prompts, and summaries with the sentences that they rest on.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/generate.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/wrap.h"
#include "data/tasks/cnndm.h"

// --- prompts ---

static ss_status annotate_file(cnndm_annotator *annotator, const char *path, example *out, ss_error *error) {
  char *text = NULL;
  size_t size = 0;
  const char *reason = NULL;
  SS_TRY(ss_read_file(path, &text, &size, error));
  ss_status status = cnndm_annotate(annotator, path, text, (int64_t)size, NULL, 0, out, &reason, error);
  free(text);
  if (status == SS_OK && reason != NULL)
    return ss_fail(error, SS_ERROR_INPUT, "%s: %s", path, reason);
  return status;
}

ss_status generate_add_texts(generate_run *run, ss_error *error) {
  const generate_options *options = run->options;
  const vocabulary *vocabulary = run->file->vocabulary;
  cnndm_annotator *annotator = NULL;
  cnndm_config config = options->cnndm;
  int64_t positions = gpt_get_config(run->file->model)->n_positions;
  if (options->texts.count == 0)
    return SS_OK;
  if (strcmp(vocabulary_task_name(vocabulary), cnndm_task.name) != 0)
    return ss_fail(error, SS_ERROR_USAGE, "--text: %s was trained for task %s, expected one for %s",
                   options->model, vocabulary_task_name(vocabulary), cnndm_task.name);
  if (config.context_tokens == 0 || config.context_tokens > positions)
    config.context_tokens = positions;
  SS_TRY(cnndm_annotator_create(&annotator, &config, vocabulary, error));
  ss_status status = SS_OK;
  for (int k = 0; k < options->texts.count && status == SS_OK; k++) {
    generate_prompt *prompt = NULL;
    status = generate_prompt_add(run, &prompt, error);
    if (status == SS_OK)
      status = annotate_file(annotator, options->texts.items[k], &prompt->content, error);
    if (status == SS_OK)
      prompt->article = options->texts.items[k];
  }
  cnndm_annotator_free(annotator);
  return status;
}

// --- what was written ---

static int64_t lost_sentences(const example *content) {
  json_t *meta = content->n_meta > 0 ? json_loads(content->meta, 0, NULL) : NULL;
  int64_t lost = json_integer_value(json_object_get(json_object_get(meta, "article"), "lost_sentences"));
  json_decref(meta);
  return lost;
}

static void print_sources(const generate_prompt *prompt, const decode_result *result,
                          const span_segment *segment) {
  bool colours = isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL;
  const example *content = &prompt->content;
  fputs(colours ? "\033[2m" : "", stdout);
  for (int32_t r = 0; r < segment->n_reference; r++) {
    int32_t source = result->layout.references[segment->reference_first + r];
    char head[32];
    if (source >= content->n_segment) {
      printf("      sentence %d of the summary\n", source - (int32_t)content->n_segment + 1);
      continue;
    }
    snprintf(head, sizeof head, "      #%-3d ", source);
    ss_print_wrapped(stdout, head, content->text + content->segments[source].text_first,
                     content->segments[source].text_end - content->segments[source].text_first,
                     SS_WRAP_WIDTH);
  }
  fputs(colours ? "\033[0m" : "", stdout);
}

static ss_status print_sentence(const generate_run *run, const generate_prompt *prompt,
                                const decode_result *result, const span_segment *segment, int number,
                                ss_error *error) {
  char *text = NULL, head[32];
  int32_t first = segment->header_end == SPAN_ROW_OPEN ? segment->end : segment->header_end;
  SS_TRY(vocabulary_decode(run->file->vocabulary, result->tokens + first, segment->end - first, true, &text,
                           error));
  snprintf(head, sizeof head, "%3d  ", number);
  ss_print_wrapped(stdout, head, text, (int64_t)strlen(text), SS_WRAP_WIDTH);
  free(text);
  if (run->options->show_spans)
    print_sources(prompt, result, segment);
  return SS_OK;
}

static void print_totals(const decode_result *result) {
  int64_t available = 0;
  for (int32_t row = result->n_prompt; row < result->n_token; row++)
    available += row;
  printf("\n%d tokens read %lld rows, %.1f%% of the %lld that a dense model reads for them",
         result->n_token - result->n_prompt, (long long)result->attended_rows,
         available > 0 ? 100.0 * (double)result->attended_rows / (double)available : 0.0,
         (long long)available);
  int32_t malformed = span_malformed_total(&result->malformed);
  if (malformed > 0)
    printf("; %d malformed", malformed);
  if (result->stop != DECODE_STOP_EOS)
    printf("; cut off, for want of %s", result->stop == DECODE_STOP_LENGTH ? "room" : "anchors");
  printf("\n");
}

ss_status generate_show_news(const generate_run *run, const generate_prompt *prompt,
                             const decode_result *result, ss_error *error) {
  int64_t lost = lost_sentences(&prompt->content);
  int number = 0;
  printf("%s: %lld sentences, %d tokens", prompt->article, (long long)prompt->content.n_segment,
         result->n_prompt);
  if (lost > 0)
    printf("; %lld more at the end did not fit (cnndm.context_tokens)", (long long)lost);
  printf("\n\n");
  for (int32_t s = 0; s < result->layout.n_segment; s++) {
    const span_segment *segment = &result->layout.segments[s];
    if (segment->first >= result->n_prompt && segment->kind != SPAN_END)
      SS_TRY(print_sentence(run, prompt, result, segment, ++number, error));
  }
  print_totals(result);
  return SS_OK;
}

void generate_show_speed(const generate_run *run, const decode_statistics *statistics) {
  if (run->options->texts.count == 0 || run->list != NULL)
    return;
  // A sequence's first token comes out of its prefill.
  double tokens = (double)(statistics->generated_tokens - statistics->n_sequence);
  printf("articles read in %.2f s, %.1f tokens/s after that\n", statistics->prefill_seconds,
         statistics->decode_seconds > 0 ? tokens / statistics->decode_seconds : 0.0);
}
