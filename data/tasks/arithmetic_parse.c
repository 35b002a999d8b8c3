// Plain expressions -> trees, by recursive descent: sum := product (+- product)*, product := unary (*/ unary)*,
// unary := `-` unary | number | bracket.
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "data/tasks/arithmetic_tree.h"

#define DEEPEST_NESTING 1000
#define LONGEST_EXPRESSION (1 << 20)

typedef struct {
  arithmetic_expression *expression;
  const char *where;
  int32_t *column;  // [n_text + 1] place in the source of each byte kept, counted from 1
  int32_t at;       // into expression->text
  int32_t depth;
  ss_error *error;
} parser;

static ss_status complain(const parser *parser, const char *expected) {
  const arithmetic_expression *expression = parser->expression;
  int32_t column = parser->column[parser->at];
  if (parser->at >= expression->n_text)
    return ss_fail(parser->error, SS_ERROR_INPUT, "%s: the expression ends at column %d, expected %s",
                   parser->where, column, expected);
  unsigned char byte = (unsigned char)expression->text[parser->at];
  if (byte < ' ' || byte > '~')
    return ss_fail(parser->error, SS_ERROR_INPUT, "%s: byte 0x%02x at column %d, expected %s", parser->where,
                   byte, column, expected);
  return ss_fail(parser->error, SS_ERROR_INPUT, "%s: '%c' at column %d, expected %s", parser->where, byte,
                 column, expected);
}

static char peek(const parser *parser) {
  return parser->at < parser->expression->n_text ? parser->expression->text[parser->at] : '\0';
}

static bool is_digit(char character) {
  return character >= '0' && character <= '9';
}

// True when the next byte stands right after this one in the source: blanks do not join numbers.
static bool adjacent(const parser *parser) {
  return parser->column[parser->at] == parser->column[parser->at - 1] + 1;
}

static ss_status parse_number(parser *parser, int32_t *out) {
  int32_t first = parser->at;
  int32_t n_digit = 0;
  bool point = false;
  if (peek(parser) == '-')
    parser->at++;
  while (is_digit(peek(parser)) || (peek(parser) == '.' && !point)) {
    if (parser->at > first && !adjacent(parser) && parser->expression->text[parser->at - 1] != '-')
      return complain(parser, "an operator");
    point = point || peek(parser) == '.';
    n_digit += peek(parser) != '.';
    parser->at++;
  }
  if (n_digit == 0)
    return complain(parser, "a digit");
  if (peek(parser) == '%')
    parser->at++;
  SS_TRY(arithmetic_node_add(parser->expression, ARITHMETIC_LITERAL, -1, -1, out, parser->error));
  arithmetic_node *node = &parser->expression->nodes[*out];
  node->text_first = first;
  node->text_end = parser->at;
  return SS_OK;
}

static ss_status parse_sum(parser *parser, int32_t *out);

static ss_status parse_bracket(parser *parser, int32_t *out) {
  char close = peek(parser) == '(' ? ')' : ']';
  parser->at++;
  SS_TRY(parse_sum(parser, out));
  if (peek(parser) != close)
    return complain(parser, close == ')' ? "an operator or ')'" : "an operator or ']'");
  parser->at++;
  return SS_OK;
}

static ss_status parse_unary(parser *parser, int32_t *out) {
  char character = peek(parser);
  if (++parser->depth > DEEPEST_NESTING)
    return ss_fail(parser->error, SS_ERROR_LIMIT, "%s: nested deeper than %d at column %d", parser->where,
                   DEEPEST_NESTING, parser->column[parser->at]);
  ss_status status;
  char next = parser->at + 1 < parser->expression->n_text ? parser->expression->text[parser->at + 1] : '\0';
  if (is_digit(character) || character == '.' || (character == '-' && (is_digit(next) || next == '.'))) {
    status = parse_number(parser, out);
  } else if (character == '(' || character == '[') {
    status = parse_bracket(parser, out);
  } else if (character == '-') {
    int32_t place = parser->at++, operand = 0;
    status = parse_unary(parser, &operand);
    if (status == SS_OK)
      status = arithmetic_node_add(parser->expression, ARITHMETIC_NEGATION, -1, operand, out, parser->error);
    if (status == SS_OK) {
      parser->expression->nodes[*out].text_first = place;
      parser->expression->nodes[*out].text_end = place + 1;
    }
  } else {
    status = complain(parser, "a number, '-' or an opening bracket");
  }
  parser->depth--;
  return status;
}

static ss_status add_operator(parser *parser, int32_t place, int32_t left, int32_t right, int32_t *out) {
  SS_TRY(arithmetic_node_add(parser->expression, parser->expression->text[place], left, right, out,
                             parser->error));
  parser->expression->nodes[*out].text_first = place;
  parser->expression->nodes[*out].text_end = place + 1;
  return SS_OK;
}

static ss_status parse_product(parser *parser, int32_t *out) {
  SS_TRY(parse_unary(parser, out));
  while (peek(parser) == '*' || peek(parser) == '/') {
    int32_t place = parser->at++, left = *out, right = 0;
    SS_TRY(parse_unary(parser, &right));
    SS_TRY(add_operator(parser, place, left, right, out));
  }
  return SS_OK;
}

static ss_status parse_sum(parser *parser, int32_t *out) {
  SS_TRY(parse_product(parser, out));
  while (peek(parser) == '+' || peek(parser) == '-') {
    int32_t place = parser->at++, left = *out, right = 0;
    SS_TRY(parse_product(parser, &right));
    SS_TRY(add_operator(parser, place, left, right, out));
  }
  return SS_OK;
}

static bool is_blank(char character) {
  return character == ' ' || character == '\t' || character == '\r' || character == '\n';
}

// Keeps the bytes that are no blanks, and where they stood; drops one `=` at the end.
static ss_status squeeze(parser *parser, const char *text, int64_t n) {
  arithmetic_expression *expression = parser->expression;
  SS_TRY(ss_grow(&expression->text, &expression->text_capacity, n + 1, 1, "expression text", parser->error));
  SS_TRY(ss_allocate(&parser->column, n + 1, sizeof *parser->column, "columns", parser->error));
  for (int64_t k = 0; k < n; k++)
    if (!is_blank(text[k])) {
      parser->column[expression->n_text] = (int32_t)k + 1;
      expression->text[expression->n_text++] = text[k];
    }
  parser->column[expression->n_text] = (int32_t)n + 1;
  if (expression->n_text > 0 && expression->text[expression->n_text - 1] == '=')
    --expression->n_text;
  expression->text[expression->n_text] = '\0';
  return SS_OK;
}

ss_status arithmetic_parse(arithmetic_expression *expression, const char *text, int64_t n, const char *where,
                           ss_error *error) {
  if (n > LONGEST_EXPRESSION)
    return ss_fail(error, SS_ERROR_LIMIT, "%s: an expression of %lld bytes, expected at most %d", where,
                   (long long)n, LONGEST_EXPRESSION);
  parser parser = {expression, where, NULL, 0, 0, error};
  int32_t root = 0;
  arithmetic_reset(expression);
  ss_status status = squeeze(&parser, text, n);
  if (status == SS_OK)
    status = parse_sum(&parser, &root);
  if (status == SS_OK && parser.at < expression->n_text)
    status = complain(&parser, "an operator or the end");
  free(parser.column);
  return status;
}
