// Scoring of summaries: ROUGE F against the gold summary, stemmed, as the field reports it; what the summary is like
// (length, repetition, novelty); and which article sentences its headers select.
//
// A summary's text is its steps, one a line: Lsum's sentences. Gold is the whole summary, whatever of it fitted into the
// example; the article is what the example has of it. Selected sentences are compared as sets, all article sentences that
// any header names with all that gold's name: a good summary may tell the same in another order. (References by step are
// counted for every task, eval/compare.h.)
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/greedy_oracle.h"
#include "eval/ngrams.h"
#include "eval/rouge.h"
#include "eval/task.h"

#define LEAD_SENTENCES 3

enum {
  ROUGE1,
  ROUGE2,
  ROUGEL,
  ROUGELSUM,
  WORDS,
  SENTENCES,
  REPEATED_3,
  NOVEL_1,
  NOVEL_2,
  NOVEL_3,
  NOVEL_4,
  SELECTED_PRECISION,
  SELECTED_RECALL,
  SELECTED_F,
  N_METRIC
};

static const eval_metric metrics[N_METRIC] = {
    [ROUGE1] = {"rouge1", "R1", 100, 2, true},
    [ROUGE2] = {"rouge2", "R2", 100, 2, true},
    [ROUGEL] = {"rougeL", "RL", 100, 2, true},
    [ROUGELSUM] = {"rougeLsum", "RLsum", 100, 2, true},
    [WORDS] = {"words", "words", 1, 1, false},
    [SENTENCES] = {"sentences", "sentences", 1, 2, false},
    [REPEATED_3] = {"repeated_3grams", "rep3%", 100, 1, false},
    [NOVEL_1] = {"novel_1grams", NULL, 100, 1, false},
    [NOVEL_2] = {"novel_2grams", "new2%", 100, 1, false},
    [NOVEL_3] = {"novel_3grams", NULL, 100, 1, false},
    [NOVEL_4] = {"novel_4grams", "new4%", 100, 1, false},
    [SELECTED_PRECISION] = {"selected_precision", NULL, 100, 1, false},
    [SELECTED_RECALL] = {"selected_recall", NULL, 100, 1, false},
    [SELECTED_F] = {"selected_f", "sel F%", 100, 1, false},
};
_Static_assert(N_METRIC <= EVAL_MAX_METRIC, "all metrics fit");

// --- texts ---

typedef struct {
  char *bytes;
  int64_t n, capacity;
  int64_t sentences, words;
} summary_text;

static bool blank(char c) {
  return isspace((unsigned char)c);
}

// A sentence becomes a line of its own, whatever breaks it has.
static ss_status add_sentence(summary_text *text, const char *bytes, int64_t n, ss_error *error) {
  while (n > 0 && blank(bytes[0]))
    bytes++, n--;
  while (n > 0 && blank(bytes[n - 1]))
    n--;
  if (n == 0)
    return SS_OK;
  SS_TRY(ss_grow(&text->bytes, &text->capacity, text->n + n + 1, 1, "summary", error));
  for (int64_t k = 0; k < n; k++) {
    text->words += !blank(bytes[k]) && (k == 0 || blank(bytes[k - 1]));
    text->bytes[text->n++] = bytes[k] == '\n' ? ' ' : bytes[k];
  }
  text->bytes[text->n++] = '\n';
  text->sentences++;
  return SS_OK;
}

// A summary of which the steps are a part, because not all of it fitted, stands whole in the answer, a sentence a line.
static ss_status gold_text(const example *gold, summary_text *text, ss_error *error) {
  const char *line = gold->n_answer > 0 ? gold->answers : "";
  while (*line != '\0') {
    size_t n = strcspn(line, "\n");
    SS_TRY(add_sentence(text, line, (int64_t)n, error));
    line += n + (line[n] == '\n');
  }
  if (gold->n_answer > 0)
    return SS_OK;
  for (int64_t s = 0; s < gold->n_segment; s++)
    if (gold->segments[s].kind == SPAN_STEP)
      SS_TRY(add_sentence(text, gold->text + gold->segments[s].text_first,
                          gold->segments[s].text_end - gold->segments[s].text_first, error));
  return SS_OK;
}

static ss_status written_text(const eval_output *output, summary_text *text, ss_error *error) {
  for (int64_t k = 0; k < output->n_step; k++)
    SS_TRY(add_sentence(text, output->steps[k], (int64_t)strlen(output->steps[k]), error));
  return SS_OK;
}

static int64_t context_count(const example *gold) {
  int64_t n = 0;
  while (n < gold->n_segment && gold->segments[n].kind == SPAN_CONTEXT)
    n++;
  return n;
}

static rouge_text article_of(const example *gold) {
  int64_t n = context_count(gold);
  return (rouge_text){gold->text, n > 0 ? gold->segments[n - 1].text_end : 0};
}

static ss_status measure_texts(const example *gold, const summary_text *reference,
                               const summary_text *written, double *values, ss_error *error) {
  rouge_text own = {written->bytes, written->n}, theirs = {reference->bytes, reference->n};
  rouge_item item = {own, &theirs, 1};
  rouge_scorer *scorer = NULL;
  rouge_scores scores;
  ngram_shares shares;
  SS_TRY(rouge_scorer_create(&scorer, true, error));
  ss_status status = rouge_score_item(scorer, &item, &scores, error);
  rouge_scorer_free(scorer);
  SS_TRY(status);
  SS_TRY(ngram_shares_of(own, article_of(gold), &shares, error));
  values[ROUGE1] = scores.of[ROUGE_1].f;
  values[ROUGE2] = scores.of[ROUGE_2].f;
  values[ROUGEL] = scores.of[ROUGE_L].f;
  values[ROUGELSUM] = scores.of[ROUGE_LSUM].f;
  values[WORDS] = (double)written->words;
  values[SENTENCES] = (double)written->sentences;
  values[REPEATED_3] = shares.repeated;
  for (int n = 0; n < NGRAM_LONGEST; n++)
    values[NOVEL_1 + n] = shares.novel[n];
  return SS_OK;
}

// --- references ---

static double ratio(int64_t a, int64_t b) {
  return b > 0 ? (double)a / (double)b : NAN;
}

enum { IN_GOLD = 1, IN_OUTPUT = 2 };

static void mark(uint8_t *marks, int64_t n, int32_t segment, uint8_t bit) {
  if (segment >= 0 && segment < n)
    marks[segment] |= bit;
}

static ss_status measure_selection(const example *gold, const eval_output *output, double *values,
                                   ss_error *error) {
  int64_t n = context_count(gold), in_gold = 0, in_output = 0, in_both = 0;
  uint8_t *marks = NULL;
  SS_TRY(ss_allocate(&marks, n, 1, "selected sentences", error));
  for (int64_t r = 0; r < gold->n_reference; r++)
    mark(marks, n, gold->references[r], IN_GOLD);
  for (int64_t h = 0; h < output->n_header; h++)
    for (int64_t r = output->headers[h].first; r < output->headers[h].end; r++)
      mark(marks, n, output->references[r], IN_OUTPUT);
  for (int64_t k = 0; k < n; k++) {
    in_gold += (marks[k] & IN_GOLD) != 0;
    in_output += (marks[k] & IN_OUTPUT) != 0;
    in_both += marks[k] == (IN_GOLD | IN_OUTPUT);
  }
  free(marks);
  values[SELECTED_PRECISION] = ratio(in_both, in_output);
  values[SELECTED_RECALL] = ratio(in_both, in_gold);
  values[SELECTED_F] = ratio(2 * in_both, in_gold + in_output);
  return SS_OK;
}

// --- the task ---

static ss_status score(const example *gold, const eval_output *output, eval_score *score, ss_error *error) {
  summary_text reference = {0}, written = {0};
  ss_status status = gold_text(gold, &reference, error);
  if (status == SS_OK)
    status = written_text(output, &written, error);
  if (status == SS_OK)
    status = measure_texts(gold, &reference, &written, score->metrics, error);
  if (status == SS_OK && output->has_headers)
    status = measure_selection(gold, output, score->metrics, error);
  free(reference.bytes);
  free(written.bytes);
  score->steps_gold = reference.sentences;
  score->score = (score->metrics[ROUGE1] + score->metrics[ROUGE2] + score->metrics[ROUGEL]) / 3;
  return status;
}

// By the summary's sentences.
static int32_t group(const example *gold) {
  int32_t steps = 0;
  for (int64_t s = 0; s < gold->n_segment; s++)
    steps += gold->segments[s].kind == SPAN_STEP;
  return steps;
}

// --- extracts ---

static ss_status select_lead(const example *gold, int32_t *segments, int64_t *n, ss_error *error) {
  (void)error;
  for (*n = 0; *n < LEAD_SENTENCES && *n < context_count(gold); ++*n)
    segments[*n] = (int32_t)*n;
  return SS_OK;
}

static ss_status pick(greedy_oracle *oracle, const example *gold, const summary_text *target,
                      int32_t *segments, int64_t *n, ss_error *error) {
  int64_t *ends = NULL, count = context_count(gold);
  const int32_t *picked = NULL;
  int32_t n_picked = 0;
  SS_TRY(ss_allocate(&ends, count, sizeof *ends, "sentences", error));
  for (int64_t k = 0; k < count; k++)
    ends[k] = gold->segments[k].text_end;
  ss_status status = greedy_oracle_source(oracle, gold->text, ends, count, error);
  if (status == SS_OK)
    status = greedy_oracle_pick(oracle, target->bytes, target->n, count, 0, GREEDY_ORACLE_ALL, &picked,
                                &n_picked, NULL, error);
  for (int32_t k = 0; k < n_picked && status == SS_OK; k++)
    segments[k] = picked[k];
  *n = n_picked;
  free(ends);
  return status;
}

// The whole summary is the target, so that the extract is what picking sentences can reach, found greedily.
static ss_status select_oracle(const example *gold, int32_t *segments, int64_t *n, ss_error *error) {
  greedy_oracle *oracle = NULL;
  summary_text target = {0};
  SS_TRY(greedy_oracle_create(&oracle, error));
  ss_status status = gold_text(gold, &target, error);
  if (status == SS_OK)
    status = pick(oracle, gold, &target, segments, n, error);
  greedy_oracle_free(oracle);
  free(target.bytes);
  return status;
}

static const eval_baseline baselines[] = {{"lead3", select_lead}, {"oracle", select_oracle}};

const eval_task eval_task_cnndm = {.name = "cnndm",
                                   .score = score,
                                   .group = group,
                                   .group_name = "sentences",
                                   .score_name = "rouge",
                                   .metrics = metrics,
                                   .n_metric = N_METRIC,
                                   .open_ended = true,
                                   .baselines = baselines,
                                   .n_baseline = sizeof baselines / sizeof *baselines};
