// Scoring of text tasks: answers and steps are compared after white space is made uniform.

#include <ctype.h>
#include <string.h>

#include "eval/tasks/registry.h"

// Equal but for the amount and kind of white space between words, and at the ends.
static bool same_words(const char *a, int64_t n_a, const char *b, int64_t n_b) {
  const char *end_a = a + n_a, *end_b = b + n_b;
  for (;;) {
    while (a < end_a && isspace((unsigned char)*a))
      a++;
    while (b < end_b && isspace((unsigned char)*b))
      b++;
    if (a == end_a || b == end_b)
      return a == end_a && b == end_b;
    while (a < end_a && b < end_b && !isspace((unsigned char)*a) && *a == *b)
      a++, b++;
    bool word_end_a = a == end_a || isspace((unsigned char)*a);
    bool word_end_b = b == end_b || isspace((unsigned char)*b);
    if (!word_end_a || !word_end_b)
      return false;
  }
}

static ss_status score(const example *gold, const eval_output *output, eval_score *score, ss_error *error) {
  (void)error;
  for (int64_t s = 0; s < gold->n_segment; s++) {
    const example_segment *segment = &gold->segments[s];
    if (segment->kind != SPAN_STEP)
      continue;
    int64_t k = score->steps_gold++;
    if (k < output->n_step)
      score->steps_correct += same_words(gold->text + segment->text_first,
                                         segment->text_end - segment->text_first, output->steps[k],
                                         (int64_t)strlen(output->steps[k]));
  }
  if (gold->n_answer == 0) {
    // A task without answers is right when every step is, and nothing else was written.
    score->correct = output->answer == NULL && score->steps_correct == score->steps_gold &&
                     output->n_step == score->steps_gold;
  } else if (output->answer != NULL) {
    const char *accepted = gold->answers;
    for (int32_t k = 0; k < gold->n_answer && !score->correct; k++, accepted += strlen(accepted) + 1)
      score->correct = same_words(accepted, (int64_t)strlen(accepted), output->answer,
                                  (int64_t)strlen(output->answer));
  }
  score->score = score->correct ? 1 : 0;
  return SS_OK;
}

static int32_t group(const example *gold) {
  int32_t steps = 0;
  for (int64_t s = 0; s < gold->n_segment; s++)
    steps += gold->segments[s].kind == SPAN_STEP;
  return steps;
}

const eval_task eval_task_jsonl = {.name = "jsonl",
                                   .score = score,
                                   .group = group,
                                   .group_name = "steps",
                                   .score_name = "score"};
