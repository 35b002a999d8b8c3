#include "eval/samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/wrap.h"

static void print_rule(FILE *file) {
  for (int k = 0; k < SS_WRAP_WIDTH; k++)
    fputc('=', file);
  fputc('\n', file);
}

static void print_text(FILE *file, const char *head, const char *text, int64_t n) {
  ss_print_wrapped(file, head, text, n, SS_WRAP_WIDTH);
}

static void print_references(FILE *file, const int32_t *references, int64_t n) {
  fprintf(file, "      <-");
  for (int64_t k = 0; k < n; k++)
    fprintf(file, " #%d", references[k]);
  fputc('\n', file);
}

static void print_context(FILE *file, const example *gold) {
  for (int64_t s = 0; s < gold->n_segment && gold->segments[s].kind == SPAN_CONTEXT; s++) {
    char head[32];
    snprintf(head, sizeof head, "  #%-3lld", (long long)s);
    print_text(file, head, gold->text + gold->segments[s].text_first,
               gold->segments[s].text_end - gold->segments[s].text_first);
  }
}

static void print_gold(FILE *file, const example *gold) {
  int step = 0;
  fprintf(file, "\ngold\n");
  for (int64_t s = 0; s < gold->n_segment; s++) {
    const example_segment *segment = &gold->segments[s];
    char head[32];
    if (segment->kind != SPAN_STEP && segment->kind != SPAN_ANSWER)
      continue;
    if (segment->kind == SPAN_STEP)
      snprintf(head, sizeof head, "  %2d  ", ++step);
    else
      snprintf(head, sizeof head, "   =  ");
    print_text(file, head, gold->text + segment->text_first, segment->text_end - segment->text_first);
    print_references(file, gold->references + segment->reference_first, segment->n_reference);
  }
}

static void print_written(FILE *file, const eval_written *written) {
  for (int64_t k = 0; k <= written->n_step; k++) {
    const char *text = k < written->n_step ? written->steps[k] : written->answer;
    char head[32];
    if (text == NULL)
      continue;
    if (k < written->n_step)
      snprintf(head, sizeof head, "  %2lld  ", (long long)k + 1);
    else
      snprintf(head, sizeof head, "   =  ");
    print_text(file, head, text, (int64_t)strlen(text));
    if (k < written->n_header)
      print_references(file, written->references + written->headers[k].first,
                       written->headers[k].end - written->headers[k].first);
  }
  if (written->n_step == 0 && written->answer == NULL)
    fprintf(file, "      (nothing)\n");
}

static const eval_item *find_item(const eval_result *result, int64_t index) {
  for (int64_t i = 0; i < result->n_item; i++)
    if (result->items[i].index == index)
      return &result->items[i];
  return NULL;
}

static const eval_sample *find_sample(const eval_result *result, int64_t index) {
  for (int64_t k = 0; k < result->n_sample; k++)
    if (result->samples[k].index == index)
      return &result->samples[k];
  return NULL;
}

static void print_arm(FILE *file, const eval_result *result, int64_t index) {
  const eval_sample *sample = find_sample(result, index);
  const eval_item *item = find_item(result, index);
  if (sample == NULL)
    return;
  fprintf(file, "\n%s", result->label);
  for (int64_t m = 0; item != NULL && result->task != NULL && m < result->task->n_metric; m++) {
    const eval_metric *metric = &result->task->metrics[m];
    if (metric->compared && metric->heading != NULL && !isnan(item->metrics[m]))
      fprintf(file, "  %s %.*f", metric->heading, metric->decimals, metric->scale * item->metrics[m]);
  }
  if (item != NULL && result->decoded)
    fprintf(file, "  %lld tokens, %lld rows read%s", (long long)item->generated_tokens,
            (long long)item->attended_rows, item->stop == DECODE_STOP_EOS ? "" : ", cut off");
  fputc('\n', file);
  print_written(file, &sample->written);
}

// The lowest index above `after` that any result has a sample of; -1: none.
static int64_t next_index(const eval_result *results, int64_t count, int64_t after) {
  int64_t found = -1;
  for (int64_t r = 0; r < count; r++)
    for (int64_t k = 0; k < results[r].n_sample; k++) {
      int64_t index = results[r].samples[k].index;
      if (index > after && (found < 0 || index < found))
        found = index;
    }
  return found;
}

ss_status eval_print_samples(FILE *file, store *data, const eval_result *results, int64_t count,
                             ss_error *error) {
  example gold = {0};
  rendering annotated = {0};
  ss_status status = SS_OK;
  for (int64_t index = next_index(results, count, -1); index >= 0 && status == SS_OK;
       index = next_index(results, count, index)) {
    status = store_read(data, index, 1, &gold, &annotated, error);
    if (status != SS_OK)
      break;
    print_rule(file);
    fprintf(file, "%s\n\n", gold.id);
    print_context(file, &gold);
    print_gold(file, &gold);
    for (int64_t r = 0; r < count; r++)
      print_arm(file, &results[r], index);
    fputc('\n', file);
  }
  example_free(&gold);
  rendering_free(&annotated);
  return status;
}
