// Rows of text: forms, broken records, limits, many threads.
#include <fcntl.h>
#include <zlib.h>

#include "data/rows.h"
#include "tests/helpers.h"

static const rows_field news[] = {{"article", ROWS_FILLED}, {"highlights", ROWS_PRESENT}};

static rows_options news_options(void) {
  return (rows_options){.fields = news, .n_field = 2, .id = "id"};
}

static void write_bytes(char path[TEST_PATH], const char *name, const char *bytes, size_t n) {
  ss_error error = {0};
  assert_ok(ss_write_file(test_path(path, name), bytes, n, &error));
}

static void write_gzip(const char *path, const char *mode, const char *bytes, size_t n) {
  gzFile file = gzopen(path, mode);
  assert_non_null(file);
  assert_int_equal(gzwrite(file, bytes, (unsigned)n), (int)n);
  assert_int_equal(gzclose(file), Z_OK);
}

static rows *open_text(const char *name, const char *text, const rows_options *options) {
  ss_error error = {0};
  char path[TEST_PATH];
  rows *source = NULL;
  test_write(path, name, text);
  assert_ok(rows_open(&source, path, options, &error));
  return source;
}

static void assert_row(const rows *source, int64_t index, const char *id, int64_t line, const char *article,
                       const char *highlights) {
  ss_error error = {0};
  rows_scratch *scratch = NULL;
  rows_row row;
  assert_ok(rows_scratch_create(&scratch, &error));
  assert_ok(rows_read(source, scratch, index, &row, &error));
  assert_string_equal(row.id, id);
  assert_int_equal(row.line, line);
  assert_int_equal(row.index, index);
  assert_string_equal(row.values[0], article);
  assert_int_equal(row.lengths[0], strlen(article));
  assert_string_equal(row.values[1], highlights);
  rows_scratch_free(scratch);
}

static void assert_notes(const rows *source, int64_t n_row, int64_t n_broken, const char *part) {
  ss_error error = {0};
  char *notes = NULL;
  assert_int_equal(rows_count(source), n_row);
  assert_int_equal(rows_n_broken(source), n_broken);
  assert_ok(rows_notes(source, &notes, &error));
  if (part == NULL)
    assert_null(notes);
  else if (notes == NULL || strstr(notes, part) == NULL)
    fail_msg("notes \"%s\", expected \"%s\" in them", notes == NULL ? "" : notes, part);
  free(notes);
}

static void json_lines_are_rows(void **state) {
  (void)state;
  rows_options options = news_options();
  rows *source = open_text("a.jsonl",
                           "\xef\xbb\xbf{\"id\": \"x1\", \"article\": \"Caf\\u00e9\\n\xe2\x82\xac\", "
                           "\"highlights\": \"a\\nb\"}\r\n"
                           "\n"
                           "{\"id\": 17, \"highlights\": [\"a\", \"b\", \"\"], \"article\": \"t\"}\n"
                           "  {\"highlights\": \"\", \"article\": \"u\", \"url\": {\"deep\": [1, null]}}",
                           &options);
  assert_notes(source, 3, 0, "fields not used: \"url\" (line 4)");
  assert_row(source, 0, "x1", 1, "Caf\xc3\xa9\n\xe2\x82\xac", "a\nb");
  assert_row(source, 2, "row-3", 4, "u", "");
  assert_row(source, 1, "17", 3, "t", "a\nb\n");
  rows_close(source);
}

static void csv_records_are_rows(void **state) {
  (void)state;
  rows_options options = news_options();
  rows *source = open_text("a.csv",
                           "\xef\xbb\xbfid,\"article\",url,highlights\r\n"
                           "x1,\"one, \"\"two\"\"\nthree\r\n\",u,a\r\n"
                           "\r\n"
                           ",5\" disk,,\"\"\r\n"
                           "\"x3\",\"\"\"\",\"\",\"z\"",
                           &options);
  assert_notes(source, 3, 0, "fields not used: \"url\" (line 1)");
  assert_row(source, 0, "x1", 2, "one, \"two\"\nthree\r\n", "a");
  assert_row(source, 1, "row-2", 6, "5\" disk", "");
  assert_row(source, 2, "x3", 7, "\"", "z");
  rows_close(source);
}

static void stories_are_rows(void **state) {
  (void)state;
  ss_error error = {0};
  char folder[TEST_PATH], path[TEST_PATH];
  rows_options options = news_options();
  rows *source = NULL;
  assert_ok(ss_make_directories(test_path(folder, "stories/cnn/stories/too/deep"), &error));
  test_path(folder, "stories");
  assert_refused(rows_open(&source, folder, &options, &error), SS_ERROR_INPUT, "without a file NAME.story");
  test_write(path, "stories/cnn/stories/b.story",
             "(CNN) -- One.\r\n\r\nTwo\r\n\r\n@highlight\r\n\r\nFirst\r\nmore\r\n\r\n@highlight\r\n\r\n  "
             "Second  \r\n@highlight\r\n");
  test_write(path, "stories/cnn/stories/too/c.story", "too deep");
  test_write(path, "stories/a.story", "An @highlight inside\nstays\n@highlight\n");
  test_write(path, "stories/z.story", " \n");
  test_write(path, "stories/y.story", "no highlights");
  test_write(path, "stories/other.txt", "is passed over");
  write_gzip(test_path(path, "stories/q.story.gz"), "wb", "Text\n@highlight\nShort", 21);
  assert_ok(rows_open(&source, folder, &options, &error));
  assert_notes(source, 3, 2, "z.story: line 1: an empty file");
  assert_notes(source, 3, 2, "y.story: line 1: field \"highlights\" is missing");
  assert_row(source, 0, "a", 1, "An @highlight inside\nstays", "");
  assert_row(source, 1, "b", 1, "(CNN) -- One.\r\n\r\nTwo", "First more\nSecond");
  assert_row(source, 2, "q", 1, "Text", "Short");
  rows_close(source);
  assert_ok(rows_open(&source, test_path(path, "stories/cnn/stories/b.story"), &options, &error));
  assert_row(source, 0, "b", 1, "(CNN) -- One.\r\n\r\nTwo", "First more\nSecond");
  rows_close(source);
  options.format = ROWS_CSV;
  assert_refused(rows_open(&source, folder, &options, &error), SS_ERROR_USAGE, "a folder, expected a file");
  rows_field other = {"question", ROWS_PRESENT};
  options = (rows_options){.fields = &other, .n_field = 1};
  assert_refused(rows_open(&source, folder, &options, &error), SS_ERROR_INPUT, "no field \"question\"");
}

#define GOOD "{\"article\": \"t\", \"highlights\": \"h\"}\n"

// One broken line between two good ones: counted, named, left out; with `fail` the caller's error.
static void broken_json(const char *line, size_t n, const char *part) {
  ss_error error = {0};
  char path[TEST_PATH], text[4096], where[256];
  rows_options options = news_options();
  rows *source = NULL;
  size_t used = strlen(GOOD);
  memcpy(text, GOOD, used);
  memcpy(text + used, line, n);
  used += n;
  memcpy(text + used, "\n" GOOD, strlen(GOOD) + 1);
  write_bytes(path, "broken.jsonl", text, used + strlen(GOOD) + 1);
  snprintf(where, sizeof where, "broken.jsonl: line 2: %s", part);
  assert_ok(rows_open(&source, path, &options, &error));
  assert_notes(source, 2, 1, where);
  assert_row(source, 1, "row-3", 3, "t", "h");
  rows_close(source);
  options.fail = true;
  assert_refused(rows_open(&source, path, &options, &error), SS_ERROR_INPUT, where);
}

#define BROKEN_JSON(line, part) broken_json(line, sizeof(line) - 1, part)

static void broken_json_is_left_out(void **state) {
  (void)state;
  BROKEN_JSON("{\"article\": \"t\", ", "no JSON");
  BROKEN_JSON("[1]", "expected a JSON object");
  BROKEN_JSON("{\"article\": \"t\"}", "field \"highlights\" is missing");
  BROKEN_JSON("{\"article\": null, \"highlights\": \"\"}", "field \"article\" is missing");
  BROKEN_JSON("{\"article\": \" \\n\", \"highlights\": \"\"}", "field \"article\" is empty");
  BROKEN_JSON("{\"article\": 3, \"highlights\": \"\"}", "field \"article\", expected a string or an array");
  BROKEN_JSON("{\"article\": [\"a\", 3], \"highlights\": \"\"}",
              "field \"article\", expected a string or an array");
  BROKEN_JSON("{\"article\": \"t\", \"highlights\": \"\", \"id\": 1.5}",
              "field \"id\", expected a string or an integer");
  BROKEN_JSON("{\"article\": \"t\", \"highlights\": \"\", \"article\": \"u\"}", "no JSON: duplicate");
  BROKEN_JSON("{\"article\": \"\xff\", \"highlights\": \"\"}", "no JSON: unable to decode byte 0xff");
  BROKEN_JSON("{\"article\": \"\xed\xa0\x80\", \"highlights\": \"\"}", "no JSON");
  BROKEN_JSON("{\"article\": \"\\ud800\", \"highlights\": \"\"}", "no JSON");
  BROKEN_JSON("{\"article\": \"a\\u0000\", \"highlights\": \"\"}", "no JSON");
  BROKEN_JSON("{\"article\": \"a\0b\", \"highlights\": \"\"}", "no JSON");
}

static void broken_csv(const char *record, size_t n, int64_t n_row, const char *part) {
  ss_error error = {0};
  char path[TEST_PATH], text[4096], where[256];
  rows_options options = news_options();
  rows *source = NULL;
  size_t used = (size_t)snprintf(text, sizeof text, "article,highlights\nt,h\n");
  memcpy(text + used, record, n);
  used += n;
  memcpy(text + used, "\nu,i", 4);
  write_bytes(path, "broken.csv", text, used + 4);
  snprintf(where, sizeof where, "broken.csv: line 3: %s", part);
  assert_ok(rows_open(&source, path, &options, &error));
  assert_notes(source, n_row, 1, where);
  assert_row(source, 0, "row-1", 2, "t", "h");
  if (n_row == 2)
    assert_row(source, 1, "row-3", 4, "u", "i");
  rows_close(source);
}

#define BROKEN_CSV(record, n_row, part) broken_csv(record, sizeof(record) - 1, n_row, part)

static void broken_csv_is_left_out(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  rows_options options = news_options();
  rows *source = NULL;
  BROKEN_CSV("a", 2, "1 columns, expected 2");
  BROKEN_CSV("a,b,c", 2, "more than 2 columns");
  BROKEN_CSV("\"a \"quote\" b\",c", 2, "column 1: text behind a closing quote");
  BROKEN_CSV("a\xc3,b", 2, "byte 2 of the row is no UTF-8");
  BROKEN_CSV("a,b\0", 2, "byte 4 of the row is zero");
  // Not well-formed by Unicode's table 3-7: too long by a byte, surrogates, beyond U+10FFFF, cut off.
  BROKEN_CSV("\xc1\xbf,b", 2, "byte 1 of the row is no UTF-8");
  BROKEN_CSV("\xe0\x9f\xbf,b", 2, "byte 1 of the row is no UTF-8");
  BROKEN_CSV("\xed\xa0\x80,b", 2, "byte 1 of the row is no UTF-8");
  BROKEN_CSV("\xf0\x8f\xbf\xbf,b", 2, "byte 1 of the row is no UTF-8");
  BROKEN_CSV("\xf4\x90\x80\x80,b", 2, "byte 1 of the row is no UTF-8");
  BROKEN_CSV("abcdefghij,\xf0\x9f\x98", 2, "byte 12 of the row is no UTF-8");
  BROKEN_CSV(" ,b", 2, "field \"article\" is empty");
  BROKEN_CSV("a,\"b", 1, "a quoted field without an end: the rest of the file (2 lines)");
  BROKEN_CSV("a,\"b\r", 1, "a quoted field without an end");
  assert_refused(rows_open(&source, test_write(path, "c.csv", "article,text\n1,2\n"), &options, &error),
                 SS_ERROR_INPUT,
                 "line 1: no column \"highlights\", expected among the names in the header (article, text)");
  assert_refused(rows_open(&source, test_write(path, "c.csv", "article,highlights,article\n"), &options,
                           &error),
                 SS_ERROR_INPUT, "two columns are named \"article\"");
  assert_refused(rows_open(&source, test_write(path, "c.csv", "article,\"highlights\n"), &options, &error),
                 SS_ERROR_INPUT, "no header");
  assert_refused(rows_open(&source, test_write(path, "c.csv", "\"a\"x,\"\n\",b\n"), &options, &error),
                 SS_ERROR_INPUT, "line 1: the header: column 1: text behind");
  // A quote that is not doubled costs one row, a quote too many not more than the next one.
  source = open_text("d.csv",
                     "article,highlights\n\"a \" b\nc\",\"d\"\n\"e\",\"f\"\n\"g,\"h\"\n\"i\",\"j\"\n",
                     &options);
  assert_notes(source, 2, 2, "line 5: column 1: text behind");
  assert_row(source, 0, "row-2", 4, "e", "f");
  assert_row(source, 1, "row-4", 6, "i", "j");
  rows_close(source);
}

static void many_broken_rows_are_counted(void **state) {
  (void)state;
  char text[4096] = "";
  rows_options options = news_options();
  for (int k = 0; k < 25; k++)
    strcat(text, "{\"\xc3\xa9\": \n");
  rows *source = open_text("many.jsonl", text, &options);
  assert_notes(source, 0, 25, "25 broken rows left out, the first of them:\n");
  assert_notes(source, 0, 25, "line 10: ");
  char *notes = NULL;
  ss_error error = {0};
  assert_ok(rows_notes(source, &notes, &error));
  assert_null(strstr(notes, "line 11: "));
  free(notes);
  rows_close(source);
  const char *const empty[] = {"e.jsonl", "e.csv", "e.story", "e"};
  for (int k = 0; k < 4; k++) {
    source = open_text(empty[k], k % 2 == 0 ? "" : "\xef\xbb\xbf\n \n", &options);
    assert_notes(source, 0, 1, "line 1: an empty file, expected");
    rows_close(source);
  }
}

static void a_long_row_is_broken(void **state) {
  (void)state;
  rows_options options = news_options();
  options.longest = 1000;
  enum { SIZE = 3 << 20 };  // longer than what is read at a time
  char *text = malloc(SIZE + 256);
  assert_non_null(text);
  size_t n = (size_t)sprintf(text, "{\"article\": \"");
  memset(text + n, 'x', SIZE);
  n += SIZE;
  sprintf(text + n, "\"}\n" GOOD);
  rows *source = open_text("long.jsonl", text, &options);
  assert_notes(source, 1, 1, "line 1: a row of 3145743 bytes, expected at most 1000");
  assert_row(source, 0, "row-2", 2, "t", "h");
  rows_close(source);
  n = (size_t)sprintf(text, "article,highlights\n\"");
  for (size_t k = 0; k < SIZE; k += 2)
    memcpy(text + n + k, "\"\"", 2);
  n += SIZE;
  sprintf(text + n, "\n\n\",b\nt,h\n");
  source = open_text("long.csv", text, &options);
  assert_notes(source, 1, 1, "line 2: a row of 3145734 bytes");
  assert_row(source, 0, "row-2", 5, "t", "h");
  rows_close(source);
  // The same rows within a larger limit: a record spans the places where reading stops.
  options.longest = 0;
  source = open_text("long.csv", text, &options);
  assert_notes(source, 2, 0, NULL);
  assert_row(source, 1, "row-2", 5, "t", "h");
  rows_close(source);
  text[1000] = '\0';
  options.longest = 999;
  source = open_text("long.story", text, &options);
  assert_notes(source, 0, 1, "long.story: line 1: more than 999 bytes");
  rows_close(source);
  free(text);
}

static void gzip_is_read_like_plain_text(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], *bytes = NULL;
  size_t n = 0;
  rows_options options = news_options();
  rows *source = NULL;
  write_gzip(test_path(path, "g.jsonl.gz"), "wb", GOOD, strlen(GOOD) - 5);
  write_gzip(path, "ab", &GOOD[strlen(GOOD) - 5], 5);  // a second member in the middle of a row
  write_gzip(path, "ab", GOOD, strlen(GOOD));
  assert_ok(rows_open(&source, path, &options, &error));
  assert_notes(source, 2, 0, NULL);
  assert_row(source, 1, "row-2", 2, "t", "h");
  rows_close(source);
  assert_ok(ss_read_file(path, &bytes, &n, &error));
  bytes = realloc(bytes, n + 16);
  memset(bytes + n, 0, 16);
  write_bytes(path, "padded.gz", bytes, n + 16);  // told by its content
  assert_ok(rows_open(&source, path, &options, &error));
  assert_notes(source, 2, 0, NULL);
  rows_close(source);
  bytes[n + 5] = 'x';
  write_bytes(path, "garbage.jsonl.gz", bytes, n + 16);
  assert_refused(rows_open(&source, path, &options, &error), SS_ERROR_INPUT,
                 "gzip data are followed by something else");
  for (size_t cut = 2; cut < n; cut++) {  // also between the members, in headers and in trailers
    write_bytes(path, "cut.jsonl.gz", bytes, cut);
    ss_status status = rows_open(&source, path, &options, &error);
    if (status == SS_OK) {  // a whole member, or two
      assert_in_range(rows_count(source), 0, 1);
      rows_close(source);
    } else {
      assert_refused(status, SS_ERROR_INPUT, "cut.jsonl.gz: gzip data are cut off after");
    }
  }
  bytes[30] ^= 0x55;
  write_bytes(path, "corrupt.jsonl.gz", bytes, n);
  assert_refused(rows_open(&source, path, &options, &error), SS_ERROR_INPUT, "gzip data are");
  free(bytes);
  options.most_bytes = 20;
  assert_refused(rows_open(&source, test_path(path, "g.jsonl.gz"), &options, &error), SS_ERROR_LIMIT,
                 "more than 20 bytes when decompressed");
}

static void the_form_is_told_or_forced(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  rows_options options = news_options();
  rows *source = open_text("one", " \n" GOOD, &options);
  assert_notes(source, 1, 0, NULL);
  rows_close(source);
  source = open_text("two.txt", "highlights,article\na,b\n", &options);
  assert_row(source, 0, "row-1", 2, "b", "a");
  rows_close(source);
  assert_refused(rows_open(&source, test_write(path, "three", "some text\n"), &options, &error),
                 SS_ERROR_INPUT, "neither its name nor its content");
  options.format = ROWS_CSV;
  source = open_text("four.jsonl", "article,highlights\na,b\n", &options);
  assert_row(source, 0, "row-1", 2, "a", "b");
  rows_close(source);
  assert_refused(rows_open(&source, "/nowhere/rows.csv", &options, &error), SS_ERROR_IO, "/nowhere/rows.csv");
  assert_refused(rows_open(&source, "/dev/null", &options, &error), SS_ERROR_INPUT, "a device or pipe");
  assert_string_equal(rows_format_name(ROWS_STORY), "story");
}

typedef struct {
  int64_t calls, progress;
  bool fail;
} checker;

static ss_status check_row(void *context, rows_row *row, bool *leave_out, ss_error *problem) {
  checker *mine = context;
  mine->calls++;
  if (mine->fail)
    return ss_fail(problem, SS_ERROR_MEMORY, "mine");
  if (row->values[0][0] == 'b')
    return ss_fail(problem, SS_ERROR_INPUT, "begins with b");
  *leave_out = row->values[0][0] == 'c';
  return SS_OK;
}

static void count_progress(void *context, int64_t done, int64_t total) {
  checker *mine = context;
  assert_in_range(done, mine->progress, total);
  mine->progress = done;
}

static void the_caller_checks_rows(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  checker mine = {0};
  rows_options options = news_options();
  options.check = check_row;
  options.progress = count_progress;
  options.progress_context = &mine;
  options.context = &mine;
  rows *source = open_text("check.csv", "article,highlights\na,\nb,\nc,\nd,\n", &options);
  assert_int_equal(mine.calls, 4);
  assert_int_equal(mine.progress, 31);
  assert_notes(source, 2, 1, "check.csv: line 3: begins with b");
  assert_row(source, 1, "row-4", 5, "d", "");
  rows_close(source);
  mine = (checker){.fail = true};
  test_path(path, "check.csv");
  assert_refused(rows_open(&source, path, &options, &error), SS_ERROR_MEMORY, "mine");
  // Fields of other types are the caller's, through the object.
  options = (rows_options){0};
  source = open_text("any.jsonl", "{\"n\": [1, 2]}\n", &options);
  assert_notes(source, 1, 0, NULL);
  rows_scratch *scratch = NULL;
  rows_row row;
  assert_ok(rows_scratch_create(&scratch, &error));
  assert_ok(rows_read(source, scratch, 0, &row, &error));
  assert_int_equal(json_array_size(json_object_get(row.json, "n")), 2);
  assert_refused(rows_read(source, scratch, 1, &row, &error), SS_ERROR_INTERNAL, "expected below 1");
  rows_scratch_free(scratch);
  rows_close(source);
}

static void a_changed_file_is_noticed(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH];
  rows_options options = news_options();
  rows *source = open_text("changed.jsonl", GOOD GOOD, &options);
  rows_scratch *scratch = NULL;
  rows_row row;
  assert_ok(rows_scratch_create(&scratch, &error));
  int file = open(test_path(path, "changed.jsonl"), O_WRONLY);
  assert_int_equal(write(file, "xx", 2), 2);
  assert_int_equal(ftruncate(file, (off_t)strlen(GOOD) + 3), 0);
  close(file);
  assert_refused(rows_read(source, scratch, 0, &row, &error), SS_ERROR_INPUT,
                 "line 1: changed while it was read");
  assert_refused(rows_read(source, scratch, 1, &row, &error), SS_ERROR_INPUT, "became shorter");
  rows_scratch_free(scratch);
  rows_close(source);
}

static void threads_read_in_any_order(void **state) {
  (void)state;
  enum { N = 2000 };
  char path[TEST_PATH];
  ss_error error = {0};
  rows_options options = news_options();
  rows *source = NULL;
  for (int form = 0; form < 2; form++) {
    gzFile file = gzopen(test_path(path, form == 0 ? "t.jsonl.gz" : "t.csv.gz"), "wb");
    if (form == 1)
      gzprintf(file, "id,article,highlights\n");
    for (int k = 0; k < N; k++)
      gzprintf(file,
               form == 0 ? "{\"id\": \"%d\", \"article\": \"%0*d\", \"highlights\": \"\"}\n"
                         : "%d,\"%0*d\",\n",
               k, k % 97 + 8, k);
    gzclose(file);
    assert_ok(rows_open(&source, path, &options, &error));
    assert_int_equal(rows_count(source), N);
    int wrong = 0;
#pragma omp parallel num_threads(4) reduction(+ : wrong)
    {
      rows_scratch *scratch = NULL;
      rows_row row;
      ss_error mine = {0};
      wrong += rows_scratch_create(&scratch, &mine) != SS_OK;
#pragma omp for
      for (int k = 0; k < N; k++) {
        int index = (int)((int64_t)k * 1237 % N);
        if (rows_read(source, scratch, index, &row, &mine) != SS_OK || atoi(row.id) != index ||
            atoi(row.values[0]) != index || row.lengths[0] != index % 97 + 8)
          wrong++;
      }
      rows_scratch_free(scratch);
    }
    assert_int_equal(wrong, 0);
    rows_close(source);
  }
}

// In every form; a flag that is not raised changes nothing.
static void opening_can_be_stopped(void **state) {
  (void)state;
  ss_error error = {0};
  char path[TEST_PATH], story[TEST_PATH];
  static const char *const names[] = {"stopped.jsonl", "stopped.csv", "stopped.jsonl.gz", "stopped_stories"};
  const rows_field fields[] = {{"article", ROWS_FILLED}};
  volatile sig_atomic_t stop = 0;
  rows *source = NULL;
  test_write(path, names[0], "{\"article\": \"a\"}\n{\"article\": \"b\"}\n");
  test_write(path, names[1], "article\na\nb\n");
  write_gzip(test_path(path, names[2]), "wb", "{\"article\": \"a\"}\n", 17);
  assert_ok(ss_make_directories(test_path(path, names[3]), &error));
  test_write(story, "stopped_stories/a.story", "Text\n\n@highlight\n\nShort\n");
  for (int form = 0; form < 4; form++)
    for (stop = 0; stop <= 1; stop++) {
      const rows_options options = {.fields = fields, .n_field = 1, .stop = &stop};
      ss_status status = rows_open(&source, test_path(path, names[form]), &options, &error);
      if (stop == 1)
        assert_refused(status, SS_ERROR_INTERRUPTED, "interrupted");
      else
        assert_ok(status);
      if (stop == 0)
        rows_close(source);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(json_lines_are_rows),        cmocka_unit_test(csv_records_are_rows),
      cmocka_unit_test(stories_are_rows),           cmocka_unit_test(broken_json_is_left_out),
      cmocka_unit_test(broken_csv_is_left_out),     cmocka_unit_test(many_broken_rows_are_counted),
      cmocka_unit_test(a_long_row_is_broken),       cmocka_unit_test(gzip_is_read_like_plain_text),
      cmocka_unit_test(the_form_is_told_or_forced), cmocka_unit_test(the_caller_checks_rows),
      cmocka_unit_test(a_changed_file_is_noticed),  cmocka_unit_test(threads_read_in_any_order),
      cmocka_unit_test(opening_can_be_stopped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
