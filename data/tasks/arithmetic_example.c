// An evaluated expression -> an example: pieces, steps, gold references, answer.
#include <stdio.h>
#include <string.h>

#include "common/memory.h"
#include "data/tasks/arithmetic_tree.h"

#define MOST_REFERENCES 3  // of one step: its operator and two operands

// The text of a node's value, cached: a step writes it once, the step that uses it copies it.
static ss_status write_result(arithmetic_expression *expression, arithmetic_node *node, ss_error *error) {
  node->result_first = (int32_t)expression->n_result;
  SS_TRY(arithmetic_value_write(&node->value, &expression->results, &expression->n_result,
                                &expression->result_capacity, error));
  if (expression->n_result > INT32_MAX / 2)
    return ss_fail(error, SS_ERROR_LIMIT, "the values of an expression take %lld bytes",
                   (long long)expression->n_result);
  node->result_end = (int32_t)expression->n_result;
  return SS_OK;
}

ss_status arithmetic_evaluate(arithmetic_expression *expression, int32_t division_decimals, const char *where,
                              ss_error *error) {
  static const arithmetic_value zero = {.small = true};
  for (int64_t k = 0; k < expression->n_node; k++) {
    arithmetic_node *node = &expression->nodes[k];
    if (node->operation == ARITHMETIC_LITERAL) {
      SS_TRY(arithmetic_value_parse(&node->value, expression->text + node->text_first,
                                    node->text_end - node->text_first, error));
      continue;
    }
    bool negation = node->operation == ARITHMETIC_NEGATION;
    const arithmetic_value *left = negation ? &zero : &expression->nodes[node->left].value;
    if (!arithmetic_value_apply(&node->value, negation ? '-' : node->operation, left,
                                &expression->nodes[node->right].value, division_decimals))
      return ss_fail(error, SS_ERROR_INPUT, "%s: division by zero at character %d of %s", where,
                     node->text_first + 1, expression->text);
  }
  return SS_OK;
}

// Pieces: the byte after each cut starts a new one. Literals are met in the order of the text.
static ss_status cut_pieces(arithmetic_expression *expression, int32_t piece_tokens, example *out,
                            ss_error *error) {
  if (expression->n_text > expression->piece_capacity)
    SS_TRY(ss_grow(&expression->piece_at, &expression->piece_capacity, expression->n_text,
                   sizeof *expression->piece_at, "pieces", error));
  int64_t literal = 0;
  int32_t first = 0, piece = 0, n_text = (int32_t)expression->n_text;
  while (first < n_text) {
    int32_t end = n_text - first <= piece_tokens ? n_text : first + piece_tokens;
    // Nodes stand in post-order, in which the literals keep the order of the text.
    for (; literal < expression->n_node; literal++) {
      const arithmetic_node *node = &expression->nodes[literal];
      if (node->operation != ARITHMETIC_LITERAL || node->text_end <= end)
        continue;
      if (node->text_first < end)
        end = node->text_end;
      break;
    }
    for (int32_t k = first; k < end; k++)
      expression->piece_at[k] = piece;
    SS_TRY(example_segment_add(out, SPAN_CONTEXT, expression->text + first, end - first, error));
    first = end;
    piece++;
  }
  return SS_OK;
}

// The text of an operand: literals as written, computed values as their step wrote them.
static const char *operand_text(const arithmetic_expression *expression, const arithmetic_node *operand,
                                int32_t *n) {
  if (operand->operation == ARITHMETIC_LITERAL) {
    *n = operand->text_end - operand->text_first;
    return expression->text + operand->text_first;
  }
  *n = operand->result_end - operand->result_first;
  return expression->results + operand->result_first;
}

static int32_t operand_segment(const arithmetic_expression *expression, const arithmetic_node *operand) {
  return operand->operation == ARITHMETIC_LITERAL ? expression->piece_at[operand->text_first]
                                                  : operand->segment;
}

static ss_status add_references(const int32_t *wanted, int32_t n, example *out, ss_error *error) {
  int32_t sorted[MOST_REFERENCES];
  int32_t n_sorted = 0;
  for (int32_t k = 0; k < n; k++) {
    int32_t place = n_sorted;
    while (place > 0 && sorted[place - 1] > wanted[k])
      place--;
    if (place > 0 && sorted[place - 1] == wanted[k])
      continue;
    for (int32_t j = n_sorted; j > place; j--)
      sorted[j] = sorted[j - 1];
    sorted[place] = wanted[k];
    n_sorted++;
  }
  for (int32_t k = 0; k < n_sorted; k++)
    SS_TRY(example_reference_add(out, sorted[k], error));
  return SS_OK;
}

static ss_status add_step(arithmetic_expression *expression, arithmetic_node *node, char **body,
                          int64_t *capacity, example *out, ss_error *error) {
  bool negation = node->operation == ARITHMETIC_NEGATION;
  const arithmetic_node *left = negation ? NULL : &expression->nodes[node->left];
  const arithmetic_node *right = &expression->nodes[node->right];
  int32_t wanted[MOST_REFERENCES] = {expression->piece_at[node->text_first],
                                     operand_segment(expression, right)};
  int32_t n_wanted = 2;
  if (!negation)
    wanted[n_wanted++] = operand_segment(expression, left);
  SS_TRY(write_result(expression, node, error));
  int32_t n_left = 1, n_right = 0;
  const char *left_text = negation ? "0" : operand_text(expression, left, &n_left);
  const char *right_text = operand_text(expression, right, &n_right);
  int32_t n_result = node->result_end - node->result_first;
  int64_t length = (int64_t)n_left + n_right + n_result + 2;
  if (length > *capacity)
    SS_TRY(ss_grow(body, capacity, length, 1, "step", error));
  char *write = *body;
  memcpy(write, left_text, (size_t)n_left);
  write[n_left] = negation ? '-' : node->operation;
  memcpy(write + n_left + 1, right_text, (size_t)n_right);
  write[n_left + 1 + n_right] = '=';
  memcpy(write + n_left + 2 + n_right, expression->results + node->result_first, (size_t)n_result);
  node->segment = (int32_t)out->n_segment;
  SS_TRY(example_segment_add(out, SPAN_STEP, write, length, error));
  return add_references(wanted, n_wanted, out, error);
}

static ss_status add_answer(arithmetic_expression *expression, example *out, ss_error *error) {
  arithmetic_node *root = &expression->nodes[expression->n_node - 1];
  // A lone literal has no step that wrote its value: 50% is answered by 0.5.
  if (root->operation == ARITHMETIC_LITERAL)
    SS_TRY(write_result(expression, root, error));
  if (expression->n_result + 1 > expression->result_capacity)
    SS_TRY(ss_grow(&expression->results, &expression->result_capacity, expression->n_result + 1, 1,
                   "value text", error));
  expression->results[expression->n_result] = '\0';
  const char *text = expression->results + root->result_first;  // the last result written
  SS_TRY(example_segment_add(out, SPAN_ANSWER, text, root->result_end - root->result_first, error));
  SS_TRY(example_reference_add(out, operand_segment(expression, root), error));
  return example_answer_add(out, text, error);
}

ss_status arithmetic_build(arithmetic_expression *expression, int32_t piece_tokens, const char *id,
                           example *out, ss_error *error) {
  char *body = expression->canonical;  // scratch: the canonical text is valid until the next change
  int64_t capacity = expression->canonical_capacity;
  char meta[48] = "{\"operators\":";
  int32_t n_operator = arithmetic_operators(expression);
  size_t n_meta = strlen(meta);
  n_meta += (size_t)arithmetic_write_integer(meta + n_meta, n_operator);
  memcpy(meta + n_meta, "}", 2);
  example_reset(out, id);
  expression->n_result = 0;
  ss_status status = cut_pieces(expression, piece_tokens, out, error);
  for (int64_t k = 0; status == SS_OK && k < expression->n_node; k++)
    if (expression->nodes[k].operation != ARITHMETIC_LITERAL)
      status = add_step(expression, &expression->nodes[k], &body, &capacity, out, error);
  expression->canonical = body;
  expression->canonical_capacity = capacity;
  expression->n_canonical = 0;
  SS_TRY(status);
  SS_TRY(add_answer(expression, out, error));
  return example_meta_set(out, meta, error);
}

ss_status arithmetic_fits(const arithmetic_expression *expression, int32_t n_anchor, const char *where,
                          ss_error *error) {
  int32_t n_operator = arithmetic_operators(expression);
  if (n_operator >= n_anchor)  // a step an operator, and at least one piece of expression
    return ss_fail(error, SS_ERROR_LIMIT, "%s: %d operators, but the vocabulary has %d anchors", where,
                   n_operator, n_anchor);
  return SS_OK;
}

int32_t arithmetic_operators(const arithmetic_expression *expression) {
  int32_t n = 0;
  for (int64_t k = 0; k < expression->n_node; k++)
    n += expression->nodes[k].operation != ARITHMETIC_LITERAL;
  return n;
}

ss_status arithmetic_result(arithmetic_expression *expression, const char **text, int64_t *n,
                            ss_error *error) {
  if (expression->n_node == 0)
    return ss_fail(error, SS_ERROR_INTERNAL, "an empty expression has no value");
  arithmetic_node *root = &expression->nodes[expression->n_node - 1];
  SS_TRY(write_result(expression, root, error));
  SS_TRY(ss_grow(&expression->results, &expression->result_capacity, expression->n_result + 1, 1,
                 "value text", error));
  expression->results[expression->n_result] = '\0';
  *text = expression->results + root->result_first;
  *n = root->result_end - root->result_first;
  return SS_OK;
}
