// The arithmetic task: random expressions, or expressions read from a file, worked out exactly, one operator a step.
//
// Text. A number is digits with an optional point and an optional percent sign; a negative literal is written with a
// bare minus (`3*-4`, `(-3+4)`), as in the steps. An expression is cut into context pieces: at the first token
// boundary after piece_tokens tokens that does not split a number (sign and percent sign belong to it). Steps follow
// in post-order: `LEFT op RIGHT=RESULT` without blanks, literals as written, computed operands as their step wrote
// them. A minus before a bracket is a step `0-X=...`. The answer repeats the last step's result.
//
// References (gold, from the tree): the pieces that hold the step's operator or a literal operand, and the steps of
// its computed operands.
//
// Values are exact decimals; only a quotient is rounded, to division_decimals decimals, half away from zero.
#ifndef SELFSPAN_DATA_TASKS_ARITHMETIC_H
#define SELFSPAN_DATA_TASKS_ARITHMETIC_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config.h"
#include "common/error.h"
#include "data/example.h"
#include "data/task.h"

// Text tokens of the task.
#define ARITHMETIC_ALPHABET "0123456789+-*/()[].%="

typedef enum {
  ARITHMETIC_BRACKETS_FULL,     // every operation
  ARITHMETIC_BRACKETS_MINIMAL,  // only where the tree needs them
  ARITHMETIC_BRACKETS_MIXED,    // where needed, and elsewhere by the toss of a coin
  ARITHMETIC_BRACKETS_SQUARE    // minimal; a pair around another pair is written [ ]
} arithmetic_brackets;

typedef struct {
  int64_t operators_low, operators_high;  // uniform over the number of operators
  double train_operators_weight;          // exponent of the training split's weights; 0: uniform there too
  char operators[SS_CONFIG_STRING];       // drawn uniformly
  int64_t leaf_low, leaf_high;            // literals' magnitude
  int64_t leaf_decimals;                  // a literal has 0 to so many decimals
  double negatives;                       // share of negative literals
  int64_t value_limit;                    // every |value| is below; 0: no limit
  int64_t division_decimals;
  int brackets;         // arithmetic_brackets
  bool outer_brackets;  // also around the whole expression
  int64_t piece_tokens;
  double validation_fraction, test_fraction;
} arithmetic_config;

// "arithmetic.*" over an arithmetic_config; also what `selfspan eval --expressions` needs (piece_tokens,
// division_decimals).
extern const ss_key arithmetic_keys[];
extern const data_task arithmetic_task;

// An expression with its tree and values; reused from one expression to the next.
typedef struct arithmetic_expression arithmetic_expression;
ss_status arithmetic_expression_create(arithmetic_expression **out, ss_error *error);
void arithmetic_expression_free(arithmetic_expression *expression);

// Parses n bytes: numbers, + - * / with the usual precedence (left-associative), unary minus, ( ) and [ ], blanks
// anywhere but inside numbers, an optional `=` at the end. `where` names the origin in messages, which give the
// column. The text kept is without blanks and without `=`.
ss_status arithmetic_parse(arithmetic_expression *expression, const char *text, int64_t n, const char *where,
                           ss_error *error);

// Computes every value of a parsed expression. Division by zero is an error that names operator and column.
ss_status arithmetic_evaluate(arithmetic_expression *expression, int32_t division_decimals, const char *where,
                              ss_error *error);

// Cuts an evaluated expression into pieces and writes the example: contexts, steps, answer, references, metadata.
ss_status arithmetic_build(arithmetic_expression *expression, int32_t piece_tokens, const char *id,
                           example *out, ss_error *error);

// The expression in canonical form: ( ) around every operation, numbers without superfluous zeros. Expressions with
// equal trees and literals have equal canonical texts, whatever their brackets. Valid until the next change.
ss_status arithmetic_canonical(arithmetic_expression *expression, const char **text, int64_t *n,
                               ss_error *error);

// The hash of the canonical text, which decides the split and what --exclude keeps out.
ss_status arithmetic_hash(arithmetic_expression *expression, uint64_t *hash, ss_error *error);

// Refuses a parsed expression whose steps alone need more than n_anchor anchors, before its value costs anything.
ss_status arithmetic_fits(const arithmetic_expression *expression, int32_t n_anchor, const char *where,
                          ss_error *error);

// Number of operators (steps) of a parsed expression, and the value's exact text, of an evaluated expression; the text is valid until the
// next change.
int32_t arithmetic_operators(const arithmetic_expression *expression);
ss_status arithmetic_result(arithmetic_expression *expression, const char **text, int64_t *n,
                            ss_error *error);

#endif
