#include "data/tasks/arithmetic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "data/tasks/arithmetic_tree.h"

#define ATTEMPTS_IN_SPLIT 4000  // draws for one index before it is given up; a share of 0.01 needs about 100

const ss_key arithmetic_keys[] =
    {SS_CONFIG_INT(arithmetic_config, operators_low, "arithmetic.operators_low", "1", 1, 64,
                   "fewest operators"),
     SS_CONFIG_INT(arithmetic_config, operators_high, "arithmetic.operators_high", "8", 1, 64,
                   "most operators; their number is uniform"),
     SS_CONFIG_REAL(arithmetic_config, train_operators_weight, "arithmetic.train_operators_weight", "0", -4,
                    4, "training text draws n operators with probability ~ n^weight; 0: uniform"),
     SS_CONFIG_TEXT(arithmetic_config, operators, "arithmetic.operators", "+-*",
                    "operators, each drawn equally often"),
     SS_CONFIG_INT(arithmetic_config, leaf_low, "arithmetic.leaf_low", "0", 0, 1e9, "smallest literal"),
     SS_CONFIG_INT(arithmetic_config, leaf_high, "arithmetic.leaf_high", "9", 0, 1e9, "largest literal"),
     SS_CONFIG_INT(arithmetic_config, leaf_decimals, "arithmetic.leaf_decimals", "0", 0, 6,
                   "most decimals of a literal; their number is uniform"),
     SS_CONFIG_REAL(arithmetic_config, negatives, "arithmetic.negatives", "0", 0, 1,
                    "share of negative literals, written -3"),
     SS_CONFIG_INT(arithmetic_config, value_limit, "arithmetic.value_limit", "100", 0, 1e15,
                   "every |value| is below; 0: no limit"),
     SS_CONFIG_INT(arithmetic_config, division_decimals, "arithmetic.division_decimals", "10", 0, 100,
                   "decimals of a quotient, rounded half away from zero"),
     SS_CONFIG_CHOICE(arithmetic_config, brackets, "arithmetic.brackets", "full", "full|minimal|mixed|square",
                      "brackets around every operation, where needed, in between, or MathGLM's [(...)]"),
     SS_CONFIG_BOOL(arithmetic_config, outer_brackets, "arithmetic.outer_brackets", "yes",
                    "brackets around the whole expression too"),
     SS_CONFIG_INT(arithmetic_config, piece_tokens, "arithmetic.piece_tokens", "12", 1, 1e6,
                   "the expression is cut into context pieces of at least so many tokens"),
     SS_CONFIG_REAL(arithmetic_config, validation_fraction, "arithmetic.validation_fraction", "0.01", 0, 0.5,
                    "share of all expressions (by their hash) that belong to validation"),
     SS_CONFIG_REAL(arithmetic_config, test_fraction, "arithmetic.test_fraction", "0.01", 0, 0.5,
                    "share of all expressions that belong to test; the rest is train"),
     {0}};

typedef struct {
  arithmetic_config config;
  uint64_t seed;
  uint64_t *excluded;  // sorted hashes
  int64_t n_excluded, excluded_capacity;
} arithmetic_state;

static ss_status check_config(const arithmetic_config *config, ss_error *error) {
  if (config->operators_low > config->operators_high)
    return ss_fail(error, SS_ERROR_USAGE,
                   "arithmetic.operators_low = %lld exceeds arithmetic.operators_high = %lld",
                   (long long)config->operators_low, (long long)config->operators_high);
  if (config->leaf_low > config->leaf_high)
    return ss_fail(error, SS_ERROR_USAGE, "arithmetic.leaf_low = %lld exceeds arithmetic.leaf_high = %lld",
                   (long long)config->leaf_low, (long long)config->leaf_high);
  if (config->value_limit > 0 && config->leaf_high >= config->value_limit)
    return ss_fail(error, SS_ERROR_USAGE,
                   "arithmetic.leaf_high = %lld, expected below arithmetic.value_limit = %lld",
                   (long long)config->leaf_high, (long long)config->value_limit);
  if (config->operators[0] == '\0')
    return ss_fail(error, SS_ERROR_USAGE, "arithmetic.operators is empty, expected some of + - * /");
  for (const char *at = config->operators; *at != '\0'; at++)
    if (strchr("+-*/", *at) == NULL || strchr(at + 1, *at) != NULL)
      return ss_fail(error, SS_ERROR_USAGE,
                     "arithmetic.operators = \"%s\", expected some of + - * /, each once", config->operators);
  return SS_OK;
}

static int compare_hashes(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static ss_status exclude_line(arithmetic_state *state, arithmetic_expression *expression, const char *path,
                              int64_t line, const char *text, int64_t n, ss_error *error) {
  char *where = NULL;
  uint64_t hash = 0;
  bool blank = true;
  for (int64_t k = 0; k < n; k++)
    blank = blank && (text[k] == ' ' || text[k] == '\t' || text[k] == '\r');
  if (blank)
    return SS_OK;
  SS_TRY(ss_format(&where, error, "%s: line %lld", path, (long long)line));
  ss_status status = arithmetic_parse(expression, text, n, where, error);
  free(where);
  SS_TRY(status);
  SS_TRY(arithmetic_hash(expression, &hash, error));
  SS_TRY(ss_grow(&state->excluded, &state->excluded_capacity, state->n_excluded + 1, sizeof hash,
                 "excluded expressions", error));
  state->excluded[state->n_excluded++] = hash;
  return SS_OK;
}

static ss_status read_excluded(arithmetic_state *state, const char *path, ss_error *error) {
  char *text = NULL;
  size_t size = 0;
  arithmetic_expression *expression = NULL;
  SS_TRY(ss_read_file(path, &text, &size, error));
  ss_status status = arithmetic_expression_create(&expression, error);
  int64_t line = 1;
  for (size_t first = 0; status == SS_OK && first < size; line++) {
    const char *newline = memchr(text + first, '\n', size - first);
    size_t end = newline == NULL ? size : (size_t)(newline - text);
    status = exclude_line(state, expression, path, line, text + first, (int64_t)(end - first), error);
    first = end + 1;
  }
  if (status == SS_OK && state->n_excluded > 0)
    qsort(state->excluded, (size_t)state->n_excluded, sizeof *state->excluded, compare_hashes);
  arithmetic_expression_free(expression);
  free(text);
  return status;
}

static void close_source(void *opaque) {
  arithmetic_state *state = opaque;
  if (state == NULL)
    return;
  free(state->excluded);
  free(state);
}

static ss_status open_source(void **out, const void *config, uint64_t seed, const char *exclude,
                             const data_opening *how, ss_error *error) {
  (void)how;
  arithmetic_state *state = NULL;
  SS_TRY(check_config(config, error));
  SS_TRY(ss_allocate(&state, 1, sizeof *state, "arithmetic source", error));
  state->config = *(const arithmetic_config *)config;
  state->seed = seed;
  ss_status status = exclude == NULL ? SS_OK : read_excluded(state, exclude, error);
  if (status != SS_OK)
    close_source(state);
  else
    *out = state;
  return status;
}

static ss_status make_vocabulary(void *state, int32_t n_anchor, vocabulary **out, ss_error *error) {
  (void)state;
  return vocabulary_create_characters(out, ARITHMETIC_ALPHABET, arithmetic_task.name, n_anchor, error);
}

static int64_t count_examples(void *state, data_split split) {
  const arithmetic_config *config = &((arithmetic_state *)state)->config;
  if ((split == DATA_VALIDATION && config->validation_fraction <= 0) ||
      (split == DATA_TEST && config->test_fraction <= 0))
    return 0;
  return -1;
}

static ss_status create_scratch(void *state, void **scratch, ss_error *error) {
  (void)state;
  arithmetic_expression *expression = NULL;
  SS_TRY(arithmetic_expression_create(&expression, error));
  *scratch = expression;
  return SS_OK;
}

static void free_scratch(void *scratch) {
  arithmetic_expression_free(scratch);
}

// The split is a property of the expression alone: no seed enters, so that sets of different seeds and
// configurations agree on it.
static data_split split_of(const arithmetic_config *config, uint64_t hash) {
  double place = (double)(hash >> 11) * 0x1.0p-53;
  if (place < config->test_fraction)
    return DATA_TEST;
  return place < config->test_fraction + config->validation_fraction ? DATA_VALIDATION : DATA_TRAIN;
}

static void write_id(char *id, data_split split, int64_t index) {
  const char *name = data_split_name(split);
  size_t n = strlen(name);
  memcpy(id, name, n);
  id[n++] = '-';
  n += (size_t)arithmetic_write_integer(id + n, index);
  id[n] = '\0';
}

// How many operators: uniform, but for training text with P(n) proportional to n^train_operators_weight.
static int32_t draw_operators(const arithmetic_config *config, data_split split, ss_random *random) {
  if (split != DATA_TRAIN || config->train_operators_weight == 0)
    return (int32_t)ss_random_range(random, config->operators_low, config->operators_high);
  double total = 0;
  for (int64_t n = config->operators_low; n <= config->operators_high; n++)
    total += pow((double)n, config->train_operators_weight);
  double place = ss_random_uniform(random) * total;
  int64_t n = config->operators_low;
  while (n < config->operators_high && (place -= pow((double)n, config->train_operators_weight)) >= 0)
    n++;
  return (int32_t)n;
}

static ss_status make_example(void *opaque, void *scratch, data_split split, int64_t index, example *out,
                              bool *skip, const char **reason, ss_error *error) {
  const arithmetic_state *state = opaque;
  const arithmetic_config *config = &state->config;
  arithmetic_expression *expression = scratch;
  ss_random random = ss_random_seed(ss_hash64(state->seed, (uint64_t)split, 0), (uint64_t)index);
  int32_t n_operator = draw_operators(config, split, &random);
  for (int attempt = 0; attempt < ATTEMPTS_IN_SPLIT; attempt++) {
    bool found = false;
    uint64_t hash = 0;
    SS_TRY(arithmetic_draw(expression, config, n_operator, &random, &found, error));
    if (!found) {
      *skip = true;
      *reason = "no expression keeps arithmetic.value_limit";
      return SS_OK;
    }
    SS_TRY(arithmetic_write(expression, config, &random, error));
    SS_TRY(arithmetic_hash(expression, &hash, error));
    if (split_of(config, hash) != split ||
        (state->n_excluded > 0 &&
         bsearch(&hash, state->excluded, (size_t)state->n_excluded, sizeof hash, compare_hashes) != NULL))
      continue;
    char id[48];
    write_id(id, split, index);
    *skip = false;
    return arithmetic_build(expression, (int32_t)config->piece_tokens, id, out, error);
  }
  *skip = true;
  *reason = "no expression with the drawn number of operators belongs to this split";
  return SS_OK;
}

const data_task arithmetic_task = {
    .name = "arithmetic",
    .summary = "random expressions, worked out one operator a step",
    .keys = arithmetic_keys,
    .config_size = sizeof(arithmetic_config),
    .open = open_source,
    .close = close_source,
    .vocabulary = make_vocabulary,
    .count = count_examples,
    .scratch_create = create_scratch,
    .scratch_free = free_scratch,
    .example = make_example,
};
