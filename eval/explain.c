// How dense and span compare, in sentences that are made from the numbers and from nothing else.
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "eval/results.h"

#define SENTENCE_BYTES 512
#define SOLVED 0.98          // at this accuracy an arm leaves little to gain
#define MANY_MALFORMED 0.01  // share of items worth a sentence

static void say(json_t *sentences, const char *format, ...) SS_PRINTF(2, 3);
static void say(json_t *sentences, const char *format, ...) {
  char text[SENTENCE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  json_array_append_new(sentences, json_string(text));
}

static const eval_result *find(const eval_result *results, int count, const char *label) {
  for (int k = 0; k < count; k++)
    if (strcmp(results[k].label, label) == 0 && results[k].all.items > 0)
      return &results[k];
  return NULL;
}

// A killed run leaves sequences, but not how long they took.
static void say_untimed(json_t *sentences, const eval_result *result) {
  int64_t untimed = result->all.items - result->speed.n_sequence;
  if (result->decoded && untimed > 0)
    say(sentences,
        "%s: %lld of its %lld examples were decoded by a run that was killed; seconds, rates and MB/ex are "
        "of the others.",
        result->label, (long long)untimed, (long long)result->all.items);
}

static bool overlap(const eval_rates *a, const eval_rates *b) {
  return a->accuracy_low <= b->accuracy_high && b->accuracy_low <= a->accuracy_high;
}

static void say_verdict(json_t *sentences, const eval_rates *dense, const eval_rates *span, int64_t items) {
  double points = 100 * (span->accuracy - dense->accuracy);
  const char *intervals = overlap(dense, span) ? "overlap" : "do not overlap";
  if (points > 0)
    say(sentences,
        "span is above dense by %.1f points (%.1f%% against %.1f%%); the 95%% intervals of %lld items %s.",
        points, 100 * span->accuracy, 100 * dense->accuracy, (long long)items, intervals);
  else
    say(sentences,
        "dense is not below span: %.1f%% (%.1f-%.1f) against %.1f%% (%.1f-%.1f); the 95%% intervals of %lld "
        "items %s%s.",
        100 * dense->accuracy, 100 * dense->accuracy_low, 100 * dense->accuracy_high, 100 * span->accuracy,
        100 * span->accuracy_low, 100 * span->accuracy_high, (long long)items, intervals,
        overlap(dense, span) ? ", so these items do not tell the arms apart" : "");
}

// Reading less: the part of the comparison that does not depend on accuracy.
static void say_rows(json_t *sentences, const eval_rates *dense, const eval_rates *span) {
  if (isnan(dense->rows_per_example) || isnan(span->rows_per_example) || span->rows_per_example <= 0)
    return;
  double times = dense->rows_per_example / span->rows_per_example;
  say(sentences,
      "span reads %.2fx %s rows an example (%.0f against %.0f), headers included; it writes %.2fx the "
      "tokens.",
      times >= 1 ? times : 1 / times, times >= 1 ? "fewer" : "more", span->rows_per_example,
      dense->rows_per_example, span->tokens_per_example / dense->tokens_per_example);
}

// Wrong choices, or right choices and wrong arithmetic?
static void say_references(json_t *sentences, const eval_result *result, const eval_rates *span) {
  const eval_counts *all = &result->all;
  if (isnan(span->reference_exact))
    return;
  int64_t others = all->items - all->all_exact_items, others_correct = all->correct - all->all_exact_correct;
  say(sentences, "span's headers name exactly the gold segments in %.1f%% of %lld steps.",
      100 * span->reference_exact, (long long)all->headers);
  if (all->all_exact_items > 0 && others > 0)
    say(sentences,
        "Where all headers of an item are exact (%lld items) its answer is right in %.1f%%, elsewhere (%lld) "
        "in %.1f%%.",
        (long long)all->all_exact_items,
        100.0 * (double)all->all_exact_correct / (double)all->all_exact_items, (long long)others,
        100.0 * (double)others_correct / (double)others);
  int64_t wrong = all->items - all->correct, wrong_choice = others - others_correct;
  if (wrong > 0)
    say(sentences,
        "Of span's %lld wrong answers %lld have a header that is not exact; %lld are wrong in spite of exact "
        "headers.",
        (long long)wrong, (long long)wrong_choice, (long long)(wrong - wrong_choice));
}

static void say_oracle(json_t *sentences, const eval_result *oracle, const eval_rates *span) {
  if (oracle == NULL)
    return;
  eval_rates forced = eval_rates_of(oracle, &oracle->all);
  say(sentences, "With the gold headers forced span reaches %.1f%%: wrong choices cost %.1f points.",
      100 * forced.accuracy, 100 * (forced.accuracy - span->accuracy));
}

// The highest group that both arms have, where the difference is expected first.
static void say_longest(json_t *sentences, const eval_result *dense, const eval_result *span) {
  int group = EVAL_N_GROUP - 1;
  while (group >= 0 && (dense->groups[group].items == 0 || span->groups[group].items == 0))
    group--;
  if (group < 0 || dense->groups[group].items == dense->all.items)
    return;
  eval_rates a = eval_rates_of(dense, &dense->groups[group]), b = eval_rates_of(span, &span->groups[group]);
  say(sentences, "At %d %s (%lld items): dense %.1f%% (%.1f-%.1f), span %.1f%% (%.1f-%.1f).", group,
      dense->group_name, (long long)dense->groups[group].items, 100 * a.accuracy, 100 * a.accuracy_low,
      100 * a.accuracy_high, 100 * b.accuracy, 100 * b.accuracy_low, 100 * b.accuracy_high);
}

static void say_reasons(json_t *sentences, const eval_result *dense_result, const eval_result *span_result,
                        const eval_result *oracle, const eval_rates *dense, const eval_rates *span) {
  if (dense->accuracy >= SOLVED && span->accuracy >= SOLVED)
    say(sentences, "Both arms are at or above %.0f%%: this data leaves next to nothing to gain.",
        100 * SOLVED);
  say_longest(sentences, dense_result, span_result);
  say_references(sentences, span_result, span);
  say_oracle(sentences, oracle, span);
  if (span->malformed > MANY_MALFORMED)
    say(sentences,
        "%.1f%% of span's items are malformed, dense's %.1f%% (decode.constrain forbids malformed headers).",
        100 * span->malformed, 100 * dense->malformed);
  double dense_seconds = dense_result->train_seconds, span_seconds = span_result->train_seconds;
  if (dense_seconds > 0 && span_seconds > 0 && fabs(dense_seconds / span_seconds - 1) > 0.1)
    say(sentences, "dense trained for %.0f s, span for %.0f s.", dense_seconds, span_seconds);
}

// What the task's metrics say, where no answer is right or wrong.
static void say_metrics(json_t *sentences, const eval_result *dense, const eval_result *span) {
  const eval_task *task = span->task;
  if (strcmp(span->against, dense->label) != 0)
    return;
  for (int64_t m = 0; m < task->n_metric; m++) {
    const eval_metric *metric = &task->metrics[m];
    const eval_metric_mean *by = &span->differences[m];
    double scale = metric->scale;
    if (!metric->compared || metric->heading == NULL || by->items == 0)
      continue;
    say(sentences,
        "%s: span %.*f, dense %.*f; over %lld items span less dense is %+.*f, 95%% interval %+.*f to %+.*f.",
        metric->heading, metric->decimals, scale * span->metrics[m].interval.mean, metric->decimals,
        scale * dense->metrics[m].interval.mean, (long long)by->items, metric->decimals,
        scale * by->interval.mean, metric->decimals, scale * by->interval.low, metric->decimals,
        scale * by->interval.high);
  }
}

static void compare_arms(json_t *sentences, const eval_result *results, int count) {
  const eval_result *dense_result = find(results, count, "dense"),
                    *span_result = find(results, count, "span");
  if (dense_result == NULL || span_result == NULL)
    return;
  eval_rates dense = eval_rates_of(dense_result, &dense_result->all);
  eval_rates span = eval_rates_of(span_result, &span_result->all);
  if (span_result->task != NULL && span_result->task->open_ended) {
    say_metrics(sentences, dense_result, span_result);
    say_rows(sentences, &dense, &span);
    return;
  }
  say_verdict(sentences, &dense, &span, span_result->all.items);
  if (dense.accuracy >= span.accuracy)
    say_reasons(sentences, dense_result, span_result, find(results, count, "span/oracle"), &dense, &span);
  say_rows(sentences, &dense, &span);
}

json_t *eval_explain(const eval_result *results, int count) {
  json_t *sentences = json_array();
  compare_arms(sentences, results, count);
  for (int k = 0; k < count; k++)
    say_untimed(sentences, &results[k]);
  return sentences;
}
