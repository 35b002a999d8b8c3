#include "data/tasks/arithmetic_tree.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/memory.h"

#define ATTEMPTS_BASE 1000
#define ATTEMPTS_PER_OPERATOR 200
#define MOST_OPERATORS_IN_SET 4

ss_status arithmetic_expression_create(arithmetic_expression **out, ss_error *error) {
  return ss_allocate(out, 1, sizeof **out, "expression", error);
}

void arithmetic_expression_free(arithmetic_expression *expression) {
  if (expression == NULL)
    return;
  for (int64_t k = 0; k < expression->n_prepared; k++)
    arithmetic_value_clear(&expression->nodes[k].value);
  free(expression->nodes);
  free(expression->text);
  free(expression->results);
  free(expression->canonical);
  free(expression->piece_at);
  free(expression);
}

void arithmetic_reset(arithmetic_expression *expression) {
  expression->n_node = 0;
  expression->n_text = 0;
  expression->n_result = 0;
  expression->n_canonical = 0;
}

ss_status arithmetic_node_add(arithmetic_expression *expression, char operation, int32_t left, int32_t right,
                              int32_t *out, ss_error *error) {
  if (expression->n_node >= expression->node_capacity)
    SS_TRY(ss_grow(&expression->nodes, &expression->node_capacity, expression->n_node + 1,
                   sizeof *expression->nodes, "expression nodes", error));
  arithmetic_node *node = &expression->nodes[expression->n_node];
  if (expression->n_node >= expression->n_prepared) {
    memset(&node->value, 0, sizeof node->value);
    ++expression->n_prepared;
  }
  arithmetic_value_set(&node->value, 0, 0);
  node->operation = operation;
  node->left = left;
  node->right = right;
  *out = (int32_t)expression->n_node++;
  return SS_OK;
}

// --- drawing ---

typedef struct {
  arithmetic_expression *expression;
  const arithmetic_config *config;
  ss_random *random;
  int32_t n_operation;  // operators in the set
  int64_t attempts;     // left, over the whole tree
} drawing;

static ss_status draw_literal(drawing *draw, int32_t *out, ss_error *error) {
  const arithmetic_config *config = draw->config;
  SS_TRY(arithmetic_node_add(draw->expression, ARITHMETIC_LITERAL, -1, -1, out, error));
  arithmetic_node *node = &draw->expression->nodes[*out];
  int32_t decimals = 0;
  int64_t scale = 1;
  if (config->leaf_decimals > 0)
    decimals = (int32_t)ss_random_range(draw->random, 0, config->leaf_decimals);
  for (int32_t k = 0; k < decimals; k++)
    scale *= 10;
  int64_t mantissa = ss_random_range(draw->random, config->leaf_low * scale, config->leaf_high * scale);
  for (; decimals > 0 && mantissa % 10 == 0; decimals--)
    mantissa /= 10;
  if (config->negatives > 0 && ss_random_uniform(draw->random) < config->negatives)
    mantissa = -mantissa;
  node->mantissa = mantissa;
  node->decimals = decimals;
  arithmetic_value_set(&node->value, mantissa, decimals);
  return SS_OK;
}

// Computes the node with a random operator that keeps the limit: when the first one drawn does not, the others are
// tried in random order.
static bool draw_operation(drawing *draw, arithmetic_node *node) {
  char operations[MOST_OPERATORS_IN_SET];
  memcpy(operations, draw->config->operators, (size_t)draw->n_operation);
  const arithmetic_value *left = &draw->expression->nodes[node->left].value;
  const arithmetic_value *right = &draw->expression->nodes[node->right].value;
  for (int32_t n = draw->n_operation; n > 0; n--) {
    int32_t pick = (int32_t)ss_random_below(draw->random, (uint64_t)n);
    node->operation = operations[pick];
    operations[pick] = operations[n - 1];
    if (arithmetic_value_apply(&node->value, node->operation, left, right,
                               (int32_t)draw->config->division_decimals) &&
        (draw->config->value_limit == 0 || arithmetic_value_below(&node->value, draw->config->value_limit)))
      return true;
  }
  return false;
}

// A subtree in which no operator fits is drawn anew, shape and literals included.
static ss_status draw_tree(drawing *draw, int32_t n_operator, int32_t *out, bool *found, ss_error *error) {
  *found = true;
  if (n_operator == 0)
    return draw_literal(draw, out, error);
  arithmetic_expression *expression = draw->expression;
  int64_t mark = expression->n_node;
  while (draw->attempts-- > 0) {
    int32_t left = 0, right = 0;
    int32_t n_left = (int32_t)ss_random_below(draw->random, (uint64_t)n_operator);
    expression->n_node = mark;
    SS_TRY(draw_tree(draw, n_left, &left, found, error));
    if (*found)
      SS_TRY(draw_tree(draw, n_operator - 1 - n_left, &right, found, error));
    if (!*found)
      return SS_OK;
    SS_TRY(arithmetic_node_add(expression, '+', left, right, out, error));
    if (draw_operation(draw, &expression->nodes[*out]))
      return SS_OK;
  }
  *found = false;
  return SS_OK;
}

ss_status arithmetic_draw(arithmetic_expression *expression, const arithmetic_config *config,
                          int32_t n_operator, ss_random *random, bool *found, ss_error *error) {
  drawing draw = {expression, config, random, (int32_t)strlen(config->operators),
                  ATTEMPTS_BASE + (int64_t)ATTEMPTS_PER_OPERATOR * n_operator};
  int32_t root = 0;
  arithmetic_reset(expression);
  return draw_tree(&draw, n_operator, &root, found, error);
}

// --- writing ---

typedef struct {
  arithmetic_expression *expression;
  char *text;  // where to write: large enough
  int64_t n;
  int brackets;  // arithmetic_brackets
  ss_random *random;
} writing;

static bool needs_brackets(writing *write, const arithmetic_node *parent, const arithmetic_node *child,
                           bool right) {
  if (child->operation == ARITHMETIC_LITERAL)
    return false;
  bool parent_product = parent->operation == '*' || parent->operation == '/';
  bool child_product = child->operation == '*' || child->operation == '/';
  if (write->brackets == ARITHMETIC_BRACKETS_FULL || (right && parent_product == child_product) ||
      (parent_product && !child_product))
    return true;
  return write->brackets == ARITHMETIC_BRACKETS_MIXED && (ss_random_next(write->random) & 1) != 0;
}

static void write_literal(writing *write, arithmetic_node *node) {
  char digits[24];
  int64_t mantissa = node->mantissa;
  char *out = write->text + write->n;
  int64_t n = 0;
  if (mantissa < 0) {
    out[n++] = '-';
    mantissa = -mantissa;
  }
  int32_t n_digit = arithmetic_write_integer(digits, mantissa);
  if (node->decimals >= n_digit) {
    out[n++] = '0';
    out[n++] = '.';
    for (int32_t k = n_digit; k < node->decimals; k++)
      out[n++] = '0';
    memcpy(out + n, digits, (size_t)n_digit);
    n += n_digit;
  } else {
    for (int32_t k = 0; k < n_digit; k++) {
      if (k == n_digit - node->decimals)
        out[n++] = '.';
      out[n++] = digits[k];
    }
  }
  node->text_first = (int32_t)write->n;
  node->text_end = (int32_t)(write->n + n);
  write->n += n;
}

static void write_node(writing *write, int32_t index, bool bracket) {
  arithmetic_node *node = &write->expression->nodes[index];
  if (node->operation == ARITHMETIC_LITERAL) {
    write_literal(write, node);
    return;
  }
  int64_t open = write->n;
  if (bracket)
    write->text[write->n++] = '(';
  arithmetic_node *nodes = write->expression->nodes;
  write_node(write, node->left, needs_brackets(write, node, &nodes[node->left], false));
  node->text_first = (int32_t)write->n;
  node->text_end = (int32_t)write->n + 1;
  write->text[write->n++] = node->operation;
  write_node(write, node->right, needs_brackets(write, node, &nodes[node->right], true));
  if (!bracket)
    return;
  bool around = write->brackets == ARITHMETIC_BRACKETS_SQUARE &&
                memchr(write->text + open + 1, ')', (size_t)(write->n - open - 1)) != NULL;
  if (around)
    write->text[open] = '[';
  write->text[write->n++] = around ? ']' : ')';
}

ss_status arithmetic_write(arithmetic_expression *expression, const arithmetic_config *config,
                           ss_random *random, ss_error *error) {
  // A literal takes at most 22 bytes, an operator 3 with its brackets.
  SS_TRY(ss_grow(&expression->text, &expression->text_capacity, 24 * expression->n_node + 1, 1,
                 "expression text", error));
  writing write = {expression, expression->text, 0, config->brackets, random};
  int32_t root = (int32_t)expression->n_node - 1;
  write_node(&write, root, config->outer_brackets);
  expression->n_text = write.n;
  expression->text[write.n] = '\0';
  return SS_OK;
}

// --- canonical text ---

// A literal as written, without the zeros that do not change it.
static void canonical_literal(arithmetic_expression *expression, const arithmetic_node *node) {
  const char *at = expression->text + node->text_first, *end = expression->text + node->text_end;
  char *out = expression->canonical + expression->n_canonical;
  int64_t n = 0;
  bool percent = end[-1] == '%';
  if (*at == '-') {
    out[n++] = '-';
    at++;
  }
  end -= percent;
  const char *point = memchr(at, '.', (size_t)(end - at));
  const char *whole_end = point == NULL ? end : point;
  while (at < whole_end && *at == '0')
    at++;
  if (at == whole_end)
    out[n++] = '0';
  if (point != NULL)
    while (end > point && (end[-1] == '0' || end[-1] == '.'))
      if (*--end == '.')
        break;
  memcpy(out + n, at, (size_t)(end - at));
  n += end - at;
  if (percent)
    out[n++] = '%';
  expression->n_canonical += n;
}

static void canonical_node(arithmetic_expression *expression, int32_t index) {
  const arithmetic_node *node = &expression->nodes[index];
  if (node->operation == ARITHMETIC_LITERAL) {
    canonical_literal(expression, node);
    return;
  }
  expression->canonical[expression->n_canonical++] = '(';
  if (node->operation != ARITHMETIC_NEGATION)
    canonical_node(expression, node->left);
  expression->canonical[expression->n_canonical++] = node->operation == ARITHMETIC_NEGATION ? '-'
                                                                                            : node->operation;
  canonical_node(expression, node->right);
  expression->canonical[expression->n_canonical++] = ')';
}

ss_status arithmetic_canonical(arithmetic_expression *expression, const char **text, int64_t *n,
                               ss_error *error) {
  if (expression->n_node == 0)
    return ss_fail(error, SS_ERROR_INTERNAL, "an empty expression has no canonical text");
  int64_t room = expression->n_text + 4 * expression->n_node +
                 1;  // ".5" becomes "0.5"; three bytes an operator
  if (room > expression->canonical_capacity)
    SS_TRY(
        ss_grow(&expression->canonical, &expression->canonical_capacity, room, 1, "canonical text", error));
  expression->n_canonical = 0;
  canonical_node(expression, (int32_t)expression->n_node - 1);
  expression->canonical[expression->n_canonical] = '\0';
  *text = expression->canonical;
  *n = expression->n_canonical;
  return SS_OK;
}

ss_status arithmetic_hash(arithmetic_expression *expression, uint64_t *hash, ss_error *error) {
  const char *text = NULL;
  int64_t n = 0;
  SS_TRY(arithmetic_canonical(expression, &text, &n, error));
  *hash = XXH3_64bits(text, (size_t)n);
  return SS_OK;
}
