// The jsonl task: import, broken rows, exclusion, export and back.
#include "commands/commands.h"
#include "data/jsonl_write.h"
#include "data/store.h"
#include "data/tasks/jsonl.h"
#include "tests/helpers.h"

#define ROW_A                                                                                           \
  "{\"id\":\"a1\",\"split\":\"train\",\"segments\":[{\"kind\":\"context\",\"text\":\"Caf\xc3\xa9 \"},"  \
  "{\"kind\":\"context\",\"text\":\"tea\"},{\"kind\":\"step\",\"text\":\"x\\n\",\"references\":[0,1]}," \
  "{\"kind\":\"answer\",\"text\":\"y\",\"references\":[2]}],\"answers\":[\"y\",\"why\"],"               \
  "\"meta\":{\"source\":\"n\",\"k\":[1,2.5]}}"
#define ROW_B                                                                                \
  "{\"id\":\"b\",\"split\":\"test\",\"segments\":[{\"kind\":\"context\",\"text\":\"only\"}," \
  "{\"kind\":\"step\",\"text\":\"s\",\"references\":[]}],\"answers\":[],\"meta\":{}}"

static ss_status parse(const char *text, example *out, data_split *split, ss_error *error) {
  return jsonl_parse_row(text, (int64_t)strlen(text), "rows: line 1", out, split, error);
}

static void a_row_is_an_example(void **state) {
  (void)state;
  ss_error error = {0};
  example row = {0};
  data_split split = DATA_TEST;
  char *text = NULL;
  assert_ok(parse(ROW_A, &row, &split, &error));
  assert_int_equal(split, DATA_TRAIN);
  assert_int_equal(row.n_segment, 4);
  assert_int_equal(row.n_reference, 3);
  assert_int_equal(row.n_answer, 2);
  assert_string_equal(row.text, "Caf\xc3\xa9 teax\ny");
  assert_ok(jsonl_row_text(&row, data_split_name(split), &text, &error));
  assert_string_equal(text, ROW_A);
  free(text);
  assert_ok(parse(ROW_B, &row, &split, &error));
  assert_ok(jsonl_row_text(&row, data_split_name(split), &text, &error));
  assert_string_equal(text, ROW_B);
  free(text);
  // References of a step, answers and metadata may be absent.
  assert_ok(
      parse("{\"id\":\"c\",\"split\":\"validation\",\"segments\":[{\"kind\":\"context\",\"text\":\"x\"},"
            "{\"kind\":\"step\",\"text\":\"s\"}]}",
            &row, &split, &error));
  assert_int_equal(split, DATA_VALIDATION);
  example_free(&row);
}

static void refuse(const char *text, const char *part) {
  ss_error error = {0};
  example row = {0};
  data_split split = DATA_TRAIN;
  assert_refused(parse(text, &row, &split, &error), SS_ERROR_INPUT, part);
  example_free(&row);
}

#define SEGMENTS "\"segments\":[{\"kind\":\"context\",\"text\":\"x\"}]"

static void broken_rows_are_named(void **state) {
  (void)state;
  refuse("{\"id\":", "rows: line 1: no JSON");
  refuse("[]", "expected a JSON object");
  // Texts go on as zero-terminated strings.
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[{\"kind\":\"context\",\"text\":\"x\\u0000y\"}]}",
         "rows: line 1: no JSON");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"answers\":[\"x\\u0000y\"]," SEGMENTS "}",
         "near '\"x\\u0000y\"'");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"meta\":{\"x\":\"\\u0000\"}," SEGMENTS "}",
         "rows: line 1: no JSON");
  refuse("{\"split\":\"train\"," SEGMENTS "}", "field \"id\" is missing");
  refuse("{\"id\":3,\"split\":\"train\"," SEGMENTS "}", "field \"id\", expected a string");
  refuse("{\"id\":\"\",\"split\":\"train\"," SEGMENTS "}", "an id of 0 bytes");
  refuse("{\"id\":\"a\"," SEGMENTS "}", "field \"split\" is missing");
  refuse("{\"id\":\"a\",\"split\":\"dev\"," SEGMENTS "}",
         "split \"dev\", expected train, validation or test");
  refuse("{\"id\":\"a\",\"split\":\"train\"}", "field \"segments\" is missing");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":{}}", "field \"segments\", expected an array");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[]}", "the first segment must be a context");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[3]}", "segment 0, expected an object");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segment\":[]," SEGMENTS "}", "unknown field \"segment\"");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"id\":\"b\"," SEGMENTS "}", "duplicate");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[{\"kind\":\"context\",\"text\":\"x\",\"ref\":[]}]}",
         "unknown field \"ref\"");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[{\"kind\":\"end\",\"text\":\"x\"}]}",
         "kind \"end\", expected context, step or answer");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[{\"kind\":\"context\",\"text\":\"x\"},"
         "{\"kind\":\"step\",\"text\":\"y\",\"references\":[1]}]}",
         "segment 1 references 1");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[{\"kind\":\"context\",\"text\":\"x\"},"
         "{\"kind\":\"step\",\"text\":\"y\",\"references\":[\"0\"]}]}",
         "segment 1: reference 0, expected the index");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[{\"kind\":\"context\",\"text\":\"\"}]}",
         "has no text");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"answers\":[3]," SEGMENTS "}", "answer 0, expected a string");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"meta\":[]," SEGMENTS "}", "field \"meta\", expected an object");
  refuse("{\"id\":\"a\",\"split\":\"train\",\"segments\":[{\"kind\":\"context\",\"text\":\"\xff\"}]}",
         "no JSON");
}

// Runs `selfspan data jsonl` with arguments up to NULL.
static ss_status run_data(ss_error *error, ...) {
  char *argv[24] = {"data", "jsonl", "--quiet"};
  int argc = 3;
  va_list arguments;
  va_start(arguments, error);
  for (char *argument; (argument = va_arg(arguments, char *)) != NULL;)
    argv[argc++] = argument;
  va_end(arguments);
  argv[argc] = NULL;
  return ss_command_data(argc, argv, error);
}

static void files_go_in_and_come_out(void **state) {
  (void)state;
  ss_error error = {0};
  char rows[TEST_PATH], out[TEST_PATH], setting[TEST_PATH + 16], path[2 * TEST_PATH], back[TEST_PATH],
      *text = NULL;
  size_t size = 0;
  int64_t n = 0;
  test_write(rows, "rows.jsonl", ROW_A "\n\n" ROW_B "\r\n" ROW_A);  // the last line has no end
  snprintf(setting, sizeof setting, "jsonl.path=%s", rows);
  test_path(out, "imported");
  test_path(back, "back.jsonl");
  assert_ok(run_data(&error, "--set", setting, "--out", out, NULL));
  snprintf(path, sizeof path, "%s/train.h5", out);
  store *data = NULL;
  assert_ok(store_open(&data, path, true, &error));
  assert_int_equal(store_n_example(data), 2);
  // The set does not tell where its source lay.
  assert_string_equal(json_string_value(json_object_get(store_config(data), "jsonl.path")), "rows.jsonl");
  assert_ok(jsonl_write(data, back, true, &n, &error));
  assert_int_equal(n, 2);
  store_close(data);
  assert_ok(ss_read_file(back, &text, &size, &error));
  assert_string_equal(text, ROW_A "\n" ROW_A "\n");
  free(text);
  snprintf(path, sizeof path, "%s/validation.h5", out);
  assert_false(ss_file_exists(path));  // no rows, no file
  assert_refused(run_data(&error, "--set", setting, "--out", out, "--force", "--set", "data.validation=3",
                          NULL),
                 SS_ERROR_USAGE, "the task has no validation examples");
  assert_refused(run_data(&error, "--set", setting, "--out", out, "--force", "--set", "data.train=3", NULL),
                 SS_ERROR_LIMIT, "3 examples asked for, task jsonl has 2");
}

static void broken_rows_stop_or_are_left_out(void **state) {
  (void)state;
  ss_error error = {0};
  char rows[TEST_PATH], out[TEST_PATH], setting[TEST_PATH + 16], path[2 * TEST_PATH], *text = NULL;
  size_t size = 0;
  test_write(rows, "broken.jsonl", ROW_A "\n{\"id\":\"x\"}\n" ROW_B "\nnonsense\n");
  snprintf(setting, sizeof setting, "jsonl.path=%s", rows);
  test_path(out, "skipped");
  assert_refused(run_data(&error, "--set", setting, "--out", out, NULL), SS_ERROR_INPUT,
                 "broken.jsonl: line 2: field \"split\" is missing");
  assert_false(ss_file_exists(out));
  assert_ok(run_data(&error, "--set", setting, "--out", out, "--set", "jsonl.on_error=skip", NULL));
  snprintf(path, sizeof path, "%s/card.json", out);
  assert_ok(ss_read_file(path, &text, &size, &error));
  assert_non_null(strstr(text, "2 broken rows left out"));
  assert_non_null(strstr(text, "broken.jsonl: line 4"));
  free(text);
  test_write(rows, "broken.jsonl", "nonsense\n");
  assert_refused(run_data(&error, "--set", setting, "--out", out, "--force", "--set", "jsonl.on_error=skip",
                          NULL),
                 SS_ERROR_INPUT, "no usable row (1 broken");
  assert_refused(run_data(&error, "--out", out, NULL), SS_ERROR_USAGE, "jsonl.path is empty");
  assert_refused(run_data(&error, "--out", out, "--set", "jsonl.path=/nowhere/rows", NULL), SS_ERROR_IO,
                 "/nowhere/rows");
}

static void excluded_contexts_stay_out(void **state) {
  (void)state;
  ss_error error = {0};
  char rows[TEST_PATH], list[TEST_PATH], out[TEST_PATH], setting[TEST_PATH + 16], path[2 * TEST_PATH];
  test_write(rows, "all.jsonl", ROW_A "\n" ROW_B "\n");
  test_write(list, "exclude.txt", "\nCaf\xc3\xa9tea \n");  // white space aside, the contexts of the first row
  snprintf(setting, sizeof setting, "jsonl.path=%s", rows);
  test_path(out, "excluded");
  assert_ok(run_data(&error, "--set", setting, "--out", out, "--exclude", list, NULL));
  snprintf(path, sizeof path, "%s/train.h5", out);
  assert_false(ss_file_exists(path));
  snprintf(path, sizeof path, "%s/test.h5", out);
  assert_true(ss_file_exists(path));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_row_is_an_example),        cmocka_unit_test(broken_rows_are_named),
      cmocka_unit_test(files_go_in_and_come_out),   cmocka_unit_test(broken_rows_stop_or_are_left_out),
      cmocka_unit_test(excluded_contexts_stay_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
