// The common room: configuration, command lines, errors, memory, tables, numbers, random numbers.
#include "tests/helpers.h"

#include "common/cli.h"
#include "common/config.h"
#include "common/memory.h"
#include "common/random.h"
#include "common/table.h"

typedef struct {
  int64_t n_layer, seed;
  double rate;
  bool tied;
  int norm;
  char name[SS_CONFIG_STRING];
} settings;

static const ss_key model_keys[] = {
    SS_CONFIG_INT(settings, n_layer, "model.n_layer", "6", 1, 64, "layers"),
    SS_CONFIG_BOOL(settings, tied, "model.tied", "true", "output shares the embedding"),
    SS_CONFIG_CHOICE(settings, norm, "model.norm", "layer", "layer|rms", "normalisation"),
    {0},
};

static const ss_key train_keys[] = {
    SS_CONFIG_INT(settings, seed, "seed", "-1", 1, 0, "seed"),
    SS_CONFIG_REAL(settings, rate, "train.learning_rate", "1e-3", 0, 1, "peak rate"),
    SS_CONFIG_TEXT(settings, name, "train.name", "", "label of the run"),
    {0},
};

typedef struct {
  settings values;
  ss_key_group groups[3];
} fixture;

static void prepare(fixture *f) {
  ss_error error = {0};
  memset(f, 0, sizeof *f);
  f->groups[0] = (ss_key_group){model_keys, &f->values};
  f->groups[1] = (ss_key_group){train_keys, &f->values};
  assert_ok(ss_config_defaults(f->groups, &error));
}

static void expect_refused(const char *yaml, ss_status status, const char *part) {
  fixture f;
  ss_error error = {0};
  char path[TEST_PATH];
  prepare(&f);
  test_write(path, "refused.yaml", yaml);
  assert_refused(ss_config_load(f.groups, path, &error), status, part);
}

static void config_defaults(void **state) {
  (void)state;
  fixture f;
  prepare(&f);
  assert_int_equal(f.values.n_layer, 6);
  assert_int_equal(f.values.seed, -1);
  assert_near(f.values.rate, 1e-3, 0);
  assert_true(f.values.tied);
  assert_int_equal(f.values.norm, 0);
  assert_string_equal(f.values.name, "");
}

static void config_bad_default_is_refused(void **state) {
  (void)state;
  settings values = {0};
  ss_error error = {0};
  const ss_key keys[] = {SS_CONFIG_INT(settings, n_layer, "n", "99", 1, 64, ""), {0}};
  const ss_key_group groups[] = {{keys, &values}, {0}};
  assert_refused(ss_config_defaults(groups, &error), SS_ERROR_USAGE, "an integer in [1, 64]");
}

static void config_yaml(void **state) {
  (void)state;
  fixture f;
  ss_error error = {0};
  char path[TEST_PATH];
  prepare(&f);
  test_write(path, "good.yaml",
             "# comment\nmodel:\n  n_layer: 12\n  tied: no\n  norm: rms\nseed: 7\ntrain:\n"
             "  learning_rate: 3e-4  # note\n  name: \"a: b\"\n");
  assert_ok(ss_config_load(f.groups, path, &error));
  assert_int_equal(f.values.n_layer, 12);
  assert_int_equal(f.values.seed, 7);
  assert_near(f.values.rate, 3e-4, 0);
  assert_false(f.values.tied);
  assert_int_equal(f.values.norm, 1);
  assert_string_equal(f.values.name, "a: b");
  prepare(&f);
  test_write(path, "dotted.yaml", "model.n_layer: 3\ntrain: {learning_rate: 0.5}\nmodel:\n  norm: \"rms\"\n");
  assert_ok(ss_config_load(f.groups, path, &error));
  assert_int_equal(f.values.n_layer, 3);
  assert_int_equal(f.values.norm, 1);
  assert_near(f.values.rate, 0.5, 0);
  test_write(path, "empty.yaml", "# nothing yet\n");
  assert_ok(ss_config_load(f.groups, path, &error));
  test_write(path, "section.yaml", "model:\n  # n_layer: 3\n");
  assert_ok(ss_config_load(f.groups, path, &error));
}

static void config_unknown_key(void **state) {
  (void)state;
  expect_refused("seed: 1\nmodel:\n  n_layers: 12\n", SS_ERROR_USAGE,
                 "refused.yaml:3: unknown key 'model.n_layers'; did you mean 'model.n_layer'?");
  expect_refused("n_layer: 12\n", SS_ERROR_USAGE, "did you mean 'model.n_layer'?");
  expect_refused("zzzzzz: 1\n", SS_ERROR_USAGE, ":1: unknown key 'zzzzzz'; --help lists the keys");
}

static void config_wrong_type(void **state) {
  (void)state;
  expect_refused("model:\n  n_layer: many\n", SS_ERROR_USAGE,
                 ":2: model.n_layer: 'many' is not an integer in [1, 64]");
  expect_refused("model: {n_layer: \"6\"}\n", SS_ERROR_USAGE, "\"6\" is not an integer");
  expect_refused("model: {n_layer: 6.5}\n", SS_ERROR_USAGE, "'6.5' is not an integer");
  expect_refused("model: {n_layer: 0x6}\n", SS_ERROR_USAGE, "'0x6' is not an integer");
  expect_refused("model: {tied: 1}\n", SS_ERROR_USAGE, "'1' is not true or false");
  expect_refused("model: {norm: batch}\n", SS_ERROR_USAGE, "'batch' is not one of layer|rms");
  expect_refused("model: {norm: lay}\n", SS_ERROR_USAGE, "'lay' is not one of layer|rms");
  expect_refused("model:\n  n_layer:\n", SS_ERROR_USAGE, "model.n_layer: no value, expected an integer");
  expect_refused("train: {learning_rate: nan}\n", SS_ERROR_USAGE, "'nan' is not a number in [0, 1]");
  expect_refused("model: 3\n", SS_ERROR_USAGE, "model is a section");
  expect_refused("seed:\n  a: 1\n", SS_ERROR_USAGE, "seed: a mapping is not an integer");
}

static void config_out_of_range(void **state) {
  (void)state;
  expect_refused("model:\n  n_layer: 65\n", SS_ERROR_USAGE,
                 ":2: model.n_layer: '65' is not an integer in [1, 64]");
  expect_refused("train: {learning_rate: 1.5}\n", SS_ERROR_USAGE, "a number in [0, 1]");
  expect_refused("seed: 99999999999999999999\n", SS_ERROR_USAGE, "is not an integer");
  expect_refused("train: {learning_rate: 1e999}\n", SS_ERROR_USAGE, "a number in [0, 1]");
}

static void config_duplicate_key(void **state) {
  (void)state;
  expect_refused("seed: 1\nmodel: {tied: yes}\nseed: 1\n", SS_ERROR_USAGE,
                 ":3: duplicate key 'seed', already set at line 1");
  expect_refused("model.n_layer: 1\nmodel:\n  n_layer: 1\n", SS_ERROR_USAGE,
                 ":3: duplicate key 'model.n_layer'");
}

static void config_not_yaml(void **state) {
  (void)state;
  expect_refused("model:\n\tn_layer: 3\n", SS_ERROR_INPUT, ":2: not valid YAML");
  expect_refused("model: {n_layer: 3\n", SS_ERROR_INPUT, "not valid YAML");
  expect_refused("\x89HDF\r\n\x1a\n\xff\xfe", SS_ERROR_INPUT, "refused.yaml: not a text file in UTF-8");
  expect_refused("just words\n", SS_ERROR_INPUT, "expected \"key: value\" lines");
  expect_refused("seed: [1, 2]\n", SS_ERROR_USAGE, ":1: seed: a list is not a value here");
  expect_refused("- seed: 1\n", SS_ERROR_USAGE, "a list is not a value here");
  expect_refused("seed: &a 1\n", SS_ERROR_INPUT, "anchors");
  expect_refused("seed: *a\n", SS_ERROR_INPUT, "refused.yaml:1");
  expect_refused("seed: !!int 1\n", SS_ERROR_INPUT, "tags");
  expect_refused("seed: 1\n---\nseed: 2\n", SS_ERROR_INPUT, "second YAML document");
  expect_refused("? {seed: 1}\n: 2\n", SS_ERROR_INPUT, "a mapping stands where a key is expected");
}

static void config_missing_file(void **state) {
  (void)state;
  fixture f;
  ss_error error = {0};
  prepare(&f);
  assert_refused(ss_config_load(f.groups, "/nonexistent/x.yaml", &error), SS_ERROR_IO,
                 "/nonexistent/x.yaml: cannot open the config: No such file");
  assert_int_not_equal(ss_config_load(f.groups, "/tmp", &error), SS_OK);
}

static void config_long_names(void **state) {
  (void)state;
  char yaml[5000] = "";
  memset(yaml, 'k', 900);
  memcpy(yaml + 900, ": 1\n", 5);
  expect_refused(yaml, SS_ERROR_INPUT, "key longer");
  snprintf(yaml, sizeof yaml, "train:\n  name: ");
  memset(yaml + strlen(yaml), 'v', 600);
  expect_refused(yaml, SS_ERROR_USAGE, "text of at most 511 bytes");
  char *next = yaml;
  for (int depth = 0; depth < 12; depth++)
    next += sprintf(next, "%*sa:\n", depth, "");
  sprintf(next, "%*sb: 1\n", 12, "");
  expect_refused(yaml, SS_ERROR_INPUT, "nested deeper than 8 levels");
}

static void config_set(void **state) {
  (void)state;
  fixture f;
  ss_error error = {0};
  prepare(&f);
  assert_ok(ss_config_set(f.groups, "model.n_layer=2", "--set", &error));
  assert_ok(ss_config_set(f.groups, "train.name=a=b", "--set", &error));
  assert_ok(ss_config_set(f.groups, "train.name=", "--set", &error));
  assert_ok(ss_config_set(f.groups, "seed=-9223372036854775808", "--set", &error));
  assert_int_equal(f.values.n_layer, 2);
  assert_string_equal(f.values.name, "");
  assert_true(f.values.seed == INT64_MIN);
  assert_refused(ss_config_set(f.groups, "model.n_layer", "--set", &error), SS_ERROR_USAGE,
                 "is not KEY=VALUE");
  assert_refused(ss_config_set(f.groups, "=3", "--set", &error), SS_ERROR_USAGE, "is not KEY=VALUE");
  assert_refused(ss_config_set(f.groups, "model.n_layre=3", "--set", &error), SS_ERROR_USAGE,
                 "--set: unknown key 'model.n_layre'; did you mean 'model.n_layer'?");
  assert_refused(ss_config_set(f.groups, "model.n_layer=0", "--set", &error), SS_ERROR_USAGE, "[1, 64]");
  assert_refused(ss_config_set(f.groups, "train.name=\xff", "--set", &error), SS_ERROR_USAGE, "train.name");
  assert_int_equal(f.values.n_layer, 2);
}

static void config_file_then_set(void **state) {
  (void)state;
  fixture f;
  ss_error error = {0};
  char path[TEST_PATH];
  const char *items[] = {"seed=3", "seed=4"};
  const ss_string_list assignments = {items, 2};
  prepare(&f);
  f.values.n_layer = 50;
  test_write(path, "set.yaml", "seed: 1\nmodel: {norm: rms}\n");
  assert_ok(ss_cli_config(f.groups, path, &assignments, &error));
  assert_int_equal(f.values.seed, 4);
  assert_int_equal(f.values.norm, 1);
  assert_int_equal(f.values.n_layer, 6);
}

static void config_json_round_trip(void **state) {
  (void)state;
  fixture a, b;
  ss_error error = {0};
  prepare(&a);
  prepare(&b);
  a.values.n_layer = 13;
  a.values.seed = INT64_MAX;
  a.values.rate = 0.1 + 0.2;
  a.values.tied = false;
  a.values.norm = 1;
  snprintf(a.values.name, sizeof a.values.name, "quote \" and \xc3\xbc");
  json_t *object = ss_config_json(a.groups);
  char *text = json_dumps(object, JSON_COMPACT);
  json_t *read = json_loads(text, 0, NULL);
  assert_non_null(read);
  assert_ok(ss_config_from_json(b.groups, read, "test", &error));
  assert_memory_equal(&a.values, &b.values, sizeof a.values);
  json_object_set_new(read, "model.width", json_integer(3));
  assert_refused(ss_config_from_json(b.groups, read, "file.h5", &error), SS_ERROR_USAGE,
                 "file.h5: unknown key 'model.width'");
  json_decref(read);
  read = json_pack("{s:s}", "model.n_layer", "6");
  assert_refused(ss_config_from_json(b.groups, read, "file.h5", &error), SS_ERROR_USAGE, "is not an integer");
  json_decref(read);
  read = json_pack("{s:n}", "model.n_layer");
  assert_refused(ss_config_from_json(b.groups, read, "file.h5", &error), SS_ERROR_USAGE, "'null'");
  json_decref(read);
  read = json_array();
  assert_refused(ss_config_from_json(b.groups, read, "file.h5", &error), SS_ERROR_INPUT, "not a JSON object");
  json_decref(read);
  free(text);
  json_decref(object);
}

static char *printed(void (*print)(FILE *file, void *argument), void *argument) {
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_non_null(file);
  print(file, argument);
  assert_int_equal(fclose(file), 0);
  return text;
}

static void print_help(FILE *file, void *argument) {
  ss_config_help(argument, file);
}

static void config_help(void **state) {
  (void)state;
  fixture f;
  prepare(&f);
  char *text = printed(print_help, f.groups);
  assert_string_equal(text, "  model.n_layer        integer [1, 64]  6      layers\n"
                            "  model.tied           bool             true   output shares the embedding\n"
                            "  model.norm           layer|rms        layer  normalisation\n"
                            "  seed                 integer          -1     seed\n"
                            "  train.learning_rate  real [0, 1]      1e-3   peak rate\n"
                            "  train.name           text             \"\"     label of the run\n");
  free(text);
}

typedef struct {
  bool json;
  int64_t seed;
  double top;
  const char *config;
  ss_string_list set, rest;
  bool help;
} arguments;

static ss_status parse(arguments *a, ss_error *error, int argc, const char *const *argv) {
  const ss_option options[] = {{"json", SS_OPTION_FLAG, &a->json, NULL, ""},
                               {"seed", SS_OPTION_INT, &a->seed, "N", ""},
                               {"top-p", SS_OPTION_REAL, &a->top, "P", ""},
                               {"config", SS_OPTION_STRING, &a->config, "FILE", ""},
                               {"set", SS_OPTION_LIST, &a->set, "KEY=VALUE", ""},
                               {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line = {.command = "train", .summary = "", .usage = "train", .options = options};
  memset(a, 0, sizeof *a);
  return ss_cli_parse(&line, argc, (char **)argv, &a->rest, &a->help, error);
}

#define PARSE(...)                                                                         \
  (ss_string_list_free(&a.set), ss_string_list_free(&a.rest),                              \
   parse(&a, &error, (int)(sizeof(const char *[]){"train", __VA_ARGS__} / sizeof(char *)), \
         (const char *[]){"train", __VA_ARGS__}))

static void cli_values(void **state) {
  (void)state;
  arguments a = {0};
  ss_error error = {0};
  assert_ok(PARSE("--json", "--seed", "-5", "--top-p=0.9", "--config", "a.yaml", "--set", "x=1", "file",
                  "--set=y=2", "--", "--json"));
  assert_true(a.json);
  assert_int_equal(a.seed, -5);
  assert_near(a.top, 0.9, 0);
  assert_string_equal(a.config, "a.yaml");
  assert_int_equal(a.set.count, 2);
  assert_string_equal(a.set.items[1], "y=2");
  assert_int_equal(a.rest.count, 2);
  assert_string_equal(a.rest.items[1], "--json");
  assert_false(a.help);
  ss_string_list_free(&a.set);
  ss_string_list_free(&a.rest);
}

static void cli_mistakes(void **state) {
  (void)state;
  arguments a = {0};
  ss_error error = {0};
  assert_refused(PARSE("--confg", "x"), SS_ERROR_USAGE, "unknown option '--confg'; did you mean '--config'?");
  assert_refused(PARSE("--confg=x"), SS_ERROR_USAGE, "did you mean '--config'?");
  assert_refused(PARSE("--elephants"), SS_ERROR_USAGE, "see selfspan train --help");
  assert_refused(PARSE("-config"), SS_ERROR_USAGE, "two dashes");
  assert_refused(PARSE("--config"), SS_ERROR_USAGE, "--config: needs a value (FILE)");
  assert_refused(PARSE("--config", "--json"), SS_ERROR_USAGE, "--config: needs a value");
  assert_refused(PARSE("--json=yes"), SS_ERROR_USAGE, "--json: takes no value");
  assert_refused(PARSE("--seed", "1", "--seed=2"), SS_ERROR_USAGE, "--seed: given twice");
  assert_refused(PARSE("--seed", "1x"), SS_ERROR_USAGE, "--seed: '1x' is not an integer");
  assert_refused(PARSE("--top-p", "inf"), SS_ERROR_USAGE, "--top-p: 'inf' is not a number");
  ss_string_list_free(&a.rest);
}

static void nearest_word(void **state) {
  (void)state;
  const char *const words[] = {"data", "train", "generate", "eval"};
  assert_string_equal(ss_nearest("trian", words, 4), "train");
  assert_string_equal(ss_nearest("Eval", words, 4), "eval");
  assert_string_equal(ss_nearest("genrate", words, 4), "generate");
  assert_null(ss_nearest("xyz", words, 4));
  assert_null(ss_nearest("", words, 4));
}

static void parse_numbers(void **state) {
  (void)state;
  ss_error error = {0};
  int64_t i = 0;
  double r = 0;
  assert_ok(ss_parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &i, "n", &error));
  assert_true(i == INT64_MAX);
  static const char *const bad[] = {"", " 1", "1 ", "1.0", "0x10", "--1", "one", "+"};
  for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
    assert_refused(ss_parse_int(bad[k], 0, 9, &i, "n", &error), SS_ERROR_USAGE, "is not an integer");
  assert_refused(ss_parse_int("9223372036854775808", INT64_MIN, INT64_MAX, &i, "n", &error), SS_ERROR_USAGE,
                 "out of range");
  assert_refused(ss_parse_int("10", 0, 9, &i, "n", &error), SS_ERROR_USAGE, "n: 10 is out of range [0, 9]");
  assert_ok(ss_parse_real("-1.5e-3", -1, 1, &r, "x", &error));
  assert_near(r, -1.5e-3, 0);
  static const char *const unreal[] = {"", "nan", "inf", "0x1p3", " 1", "1 ", "1e", ".", "1,5"};
  for (size_t k = 0; k < sizeof unreal / sizeof *unreal; k++)
    assert_refused(ss_parse_real(unreal[k], -9, 9, &r, "x", &error), SS_ERROR_USAGE, "is not a number");
  assert_refused(ss_parse_real("1e999", -INFINITY, INFINITY, &r, "x", &error), SS_ERROR_USAGE,
                 "out of range");
}

static void error_keeps_the_first(void **state) {
  (void)state;
  ss_error error = {0};
  assert_int_equal(ss_fail(&error, SS_ERROR_INPUT, "first\nline %d", 1), SS_ERROR_INPUT);
  ss_fail(&error, SS_ERROR_IO, "second");
  assert_int_equal(error.status, SS_ERROR_INPUT);
  assert_string_equal(error.message, "first line 1");
  assert_int_equal(ss_error_context(&error, "file %s", "x"), SS_ERROR_INPUT);
  assert_string_equal(error.message, "file x: first line 1");
  char huge[4000];
  memset(huge, 'h', sizeof huge);
  huge[sizeof huge - 1] = '\0';
  ss_error_context(&error, "%s", huge);
  assert_int_equal(strlen(error.message), sizeof error.message - 1);
  assert_int_equal(ss_fail(NULL, SS_ERROR_IO, "nobody listens"), SS_ERROR_IO);
}

static void memory_limits(void **state) {
  (void)state;
  ss_error error = {0};
  double *array = NULL;
  assert_ok(ss_allocate(&array, 3, sizeof *array, "array", &error));
  assert_int_equal((uintptr_t)array % 64, 0);
  assert_near(array[2], 0, 0);
  free(array);
  assert_ok(ss_allocate(&array, 0, sizeof *array, "array", &error));
  assert_non_null(array);
  free(array);
  assert_refused(ss_allocate(&array, INT64_MAX / 4, sizeof *array, "logits", &error), SS_ERROR_MEMORY,
                 "logits: ");
  assert_refused(ss_allocate(&array, -1, sizeof *array, "logits", &error), SS_ERROR_INTERNAL, "negative");
  int32_t *list = NULL;
  int64_t capacity = 0;
  for (int32_t i = 0; i < 1000; i++) {
    assert_ok(ss_grow(&list, &capacity, i + 1, sizeof *list, "list", &error));
    list[i] = i;
  }
  assert_int_equal(list[999], 999);
  assert_refused(ss_grow(&list, &capacity, INT64_MAX, sizeof *list, "list", &error), SS_ERROR_MEMORY, "list");
  assert_int_equal(list[999], 999);
  free(list);
}

static void print_table(FILE *file, void *argument) {
  ss_table_print(argument, file);
}

static void table_alignment(void **state) {
  (void)state;
  ss_error error = {0};
  ss_table *table = NULL;
  const char *const columns[] = {"arm", "accuracy", "rows"};
  assert_ok(ss_table_create(&table, columns, 3, &error));
  assert_ok(ss_table_row(table, &error));
  assert_ok(ss_table_cell(table, &error, "%s", "dense"));
  assert_ok(ss_table_cell(table, &error, "%.1f%% \xc2\xb1 %d", 86.7, 2));
  assert_ok(ss_table_cell(table, &error, "%d", 22714));
  assert_refused(ss_table_cell(table, &error, "x"), SS_ERROR_INTERNAL, "more cells");
  assert_ok(ss_table_row(table, &error));
  assert_ok(ss_table_cell(table, &error, "sp\xc3\xa4n\n"));
  assert_ok(ss_table_cell(table, &error, "9%%"));
  char *text = printed(print_table, table);
  assert_string_equal(text, "arm     accuracy   rows\n"
                            "-----  ---------  -----\n"
                            "dense  86.7% \xc2\xb1 2  22714\n"
                            "sp\xc3\xa4n          9%      -\n");
  free(text);
  ss_table_free(table);
}

static void random_is_pinned(void **state) {
  (void)state;
  // Computed independently from the published splitmix64.
  assert_true(ss_mix64(0) == 0xe220a8397b1dcdafull);
  ss_random random = ss_random_seed(42, 7);
  assert_true(ss_random_next(&random) == 0xf2e97ff18bab339cull);
  assert_true(ss_random_next(&random) == 0xc6abedaf19bbbfe9ull);
  assert_true(ss_random_next(&random) == 0x634fc582fa2c6e0dull);
  ss_random saved = random;
  uint64_t next = ss_random_next(&random);
  assert_true(ss_random_next(&saved) == next);
}

static void random_bounds(void **state) {
  (void)state;
  ss_random random = ss_random_seed(1, 2);
  int seen[7] = {0};
  double mean = 0, square = 0;
  for (int i = 0; i < 70000; i++) {
    int64_t value = ss_random_range(&random, -3, 3);
    assert_in_range(value + 3, 0, 6);
    seen[value + 3]++;
    double uniform = ss_random_uniform(&random), normal = ss_random_normal(&random);
    assert_true(uniform >= 0 && uniform < 1);
    assert_true(isfinite(normal));
    mean += normal / 70000;
    square += normal * normal / 70000;
  }
  for (int i = 0; i < 7; i++)
    assert_in_range(seen[i], 9500, 10500);  // 5 standard deviations
  assert_near(mean, 0, 0.02);
  assert_near(square, 1, 0.03);
  assert_true(ss_random_below(&random, 1) == 0);
  assert_true(ss_random_range(&random, 5, 5) == 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(config_defaults),
      cmocka_unit_test(config_bad_default_is_refused),
      cmocka_unit_test(config_yaml),
      cmocka_unit_test(config_unknown_key),
      cmocka_unit_test(config_wrong_type),
      cmocka_unit_test(config_out_of_range),
      cmocka_unit_test(config_duplicate_key),
      cmocka_unit_test(config_not_yaml),
      cmocka_unit_test(config_missing_file),
      cmocka_unit_test(config_long_names),
      cmocka_unit_test(config_set),
      cmocka_unit_test(config_file_then_set),
      cmocka_unit_test(config_json_round_trip),
      cmocka_unit_test(config_help),
      cmocka_unit_test(cli_values),
      cmocka_unit_test(cli_mistakes),
      cmocka_unit_test(nearest_word),
      cmocka_unit_test(parse_numbers),
      cmocka_unit_test(error_keeps_the_first),
      cmocka_unit_test(memory_limits),
      cmocka_unit_test(table_alignment),
      cmocka_unit_test(random_is_pinned),
      cmocka_unit_test(random_bounds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
