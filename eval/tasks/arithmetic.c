// Scoring of arithmetic. `correct` is strict: the answer is the canonical answer's text, character by character.
// `score` asks for the value: 1 when answer and exact value agree after rounding half away from zero to two
// decimals (so "07" and "-0" count as 7 and 0). The exact value is meta "exact" where a list of expressions gave
// one, else the canonical answer. A step counts when its text equals the gold step's.

#include <jansson.h>
#include <string.h>

#include "eval/decimal.h"
#include "eval/tasks/registry.h"

#define ROUNDED_DECIMALS 2

static json_t *read_meta(const example *gold) {
  return gold->n_meta > 0 && gold->meta != NULL ? json_loads(gold->meta, 0, NULL) : NULL;
}

static bool same_text(const example *gold, const example_segment *segment, const char *text) {
  size_t n = (size_t)(segment->text_end - segment->text_first);
  return strlen(text) == n && memcmp(gold->text + segment->text_first, text, n) == 0;
}

static ss_status score(const example *gold, const eval_output *output, eval_score *score, ss_error *error) {
  for (int64_t s = 0; s < gold->n_segment; s++) {
    if (gold->segments[s].kind != SPAN_STEP)
      continue;
    int64_t k = score->steps_gold++;
    if (k < output->n_step)
      score->steps_correct += same_text(gold, &gold->segments[s], output->steps[k]);
  }
  if (gold->n_answer == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s: an arithmetic example without an answer", gold->id);
  if (output->answer == NULL)
    return SS_OK;
  score->correct = strcmp(output->answer, gold->answers) == 0;
  json_t *meta = read_meta(gold);
  const char *exact = json_string_value(json_object_get(meta, "exact"));
  bool agrees = false;
  ss_status status = decimal_agree(output->answer, exact != NULL ? exact : gold->answers, ROUNDED_DECIMALS,
                                   &agrees, error);
  json_decref(meta);
  score->score = agrees ? 1 : 0;
  return status;
}

// The number of operators, as the generator noted it; steps where it did not (one operator a step).
static int32_t group(const example *gold) {
  json_t *meta = read_meta(gold);
  const json_t *operators = json_object_get(meta, "operators");
  int32_t count = 0;
  if (json_is_integer(operators)) {
    count = (int32_t)json_integer_value(operators);
  } else {
    for (int64_t s = 0; s < gold->n_segment; s++)
      count += gold->segments[s].kind == SPAN_STEP;
  }
  json_decref(meta);
  return count;
}

const eval_task eval_task_arithmetic = {.name = "arithmetic",
                                        .score = score,
                                        .group = group,
                                        .group_name = "operators",
                                        .score_name = "rounded"};
