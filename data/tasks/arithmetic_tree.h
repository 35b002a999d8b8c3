// Expression trees, inside the arithmetic task: nodes in post-order, the text they were read from or written to.
// Others include data/tasks/arithmetic.h.
#ifndef SELFSPAN_DATA_TASKS_ARITHMETIC_TREE_H
#define SELFSPAN_DATA_TASKS_ARITHMETIC_TREE_H

#include "common/random.h"
#include "data/tasks/arithmetic.h"
#include "data/tasks/arithmetic_value.h"

#define ARITHMETIC_LITERAL '\0'
#define ARITHMETIC_NEGATION 'n'  // unary minus before a bracket or another minus; only parsing makes it

// One node. Children stand before their parent, so walking the array is walking in post-order.
typedef struct {
  char operation;                    // ARITHMETIC_LITERAL, ARITHMETIC_NEGATION, + - * /
  int32_t left, right;               // nodes; a negation has only `right`
  int32_t text_first, text_end;      // bytes of the literal, or of the operator, in the expression's text
  int32_t result_first, result_end;  // bytes of the value's text in `results` (literals: as written)
  int64_t mantissa;                  // of a drawn literal: mantissa / 10^decimals
  int32_t decimals;
  int32_t segment;  // while building an example: the step that computes the node
  arithmetic_value value;
} arithmetic_node;

struct arithmetic_expression {
  arithmetic_node *nodes;
  int64_t n_node, n_prepared, node_capacity;  // nodes[0 .. n_prepared) have a usable `value`
  char *text;                                 // as written
  int64_t n_text, text_capacity;
  char *results;  // values' texts
  int64_t n_result, result_capacity;
  char *canonical;
  int64_t n_canonical, canonical_capacity;
  int32_t *piece_at;  // [n_text] the context piece of each byte
  int64_t piece_capacity;
};

// Empties the expression, keeping its storage.
void arithmetic_reset(arithmetic_expression *expression);

// Appends a node of this operation; its number goes to *out. The value is 0 until set.
ss_status arithmetic_node_add(arithmetic_expression *expression, char operation, int32_t left, int32_t right,
                              int32_t *out, ss_error *error);

// Draws a tree with n_operator operators within the configured limits; values are computed. *found is false when
// none was found within a fixed number of attempts.
ss_status arithmetic_draw(arithmetic_expression *expression, const arithmetic_config *config,
                          int32_t n_operator, ss_random *random, bool *found, ss_error *error);

// Writes a drawn tree as text in the configured bracket style.
ss_status arithmetic_write(arithmetic_expression *expression, const arithmetic_config *config,
                           ss_random *random, ss_error *error);

#endif
