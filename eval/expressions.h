// A plain list of expressions as a source of examples: parsed, worked out exactly, cut into pieces. What cannot be
// asked is passed over and named.
#ifndef SELFSPAN_EVAL_EXPRESSIONS_H
#define SELFSPAN_EVAL_EXPRESSIONS_H

#include <jansson.h>
#include <stdint.h>

#include "common/error.h"
#include "data/tasks/arithmetic.h"
#include "eval/evaluate.h"

typedef struct expression_list expression_list;

// Opens the file PATH: an expression a line, empty lines ignored. Examples are written in `vocabulary`, and must fit
// `n_positions` tokens in the arm's rendering; of `config` piece_tokens and division_decimals are used. All must
// outlive the list.
ss_status expression_list_open(expression_list **out, const char *path, const arithmetic_config *config,
                               const vocabulary *vocabulary, arm arm, int32_t max_header, int64_t n_positions,
                               ss_error *error);
void expression_list_close(expression_list *list);

// An eval_source over an expression_list. Ids are "line-N", N being also the index. The example's meta has
// "operators" and "exact", the expression's exact value (to 100 decimals), which its answer may not be: a
// derivation rounds each quotient to division_decimals.
ss_status expression_list_next(void *list, example *example, rendering *annotated, int64_t *index, bool *done,
                               ss_error *error);

// What was passed over: a list of {"line", "expression", "kind", "reason"}. Kind "no value": not an expression, or
// a division by zero. Kind "cannot ask": the vocabulary lacks a character, too long, too many segments. The caller
// owns the reference.
json_t *expression_list_skipped(const expression_list *list);

#endif
