// Text -> ranges for every policy, fixed in tests/golden/visibility.txt. After an intended change of the protocol run
//   SELFSPAN_UPDATE_GOLDEN=1 build/tests/test_span_golden
// from the repository's root, and read the difference before committing it.
#include "span/describe.h"
#include "tests/helpers.h"
#include "tests/span_fixture.h"

#define GOLDEN "tests/golden/visibility.txt"
#define N_ANCHOR 32
#define MOST_TOKENS 256
#define MOST_SEGMENTS 32

typedef struct {
  const char *title;
  const char *text;  // a line a segment; blanks and line breaks are no tokens
  bool headers;
  int32_t anchor_offset;
  int32_t max_header;
} golden_case;

static const golden_case cases[] = {
    {"The example of the design, anchors from 7",
     "<bos> <arith> ((12+7)*(3 <#7> -(8/2))) <#8>\n"
     "<[> <#7> <:> 12+7=19 <#9>\n"
     "<[> <#8> <:> 8/2=4 <#10>\n"
     "<[> <#7> <#8> <#10> <:> 3-4=-1 <#11>\n"
     "<[> <#7> <#9> <#11> <:> 19*-1=-19 <#12>\n"
     "<[> <=> <#12> <:> -19 <eos>",
     true, 7, 16},
    {"The same, dense",
     "<bos> <arith> ((12+7)*(3 <#7> -(8/2))) <#8>\n"
     "12+7=19 <#9>\n"
     "8/2=4 <#10>\n"
     "3-4=-1 <#11>\n"
     "19*-1=-19 <#12>\n"
     "-19 <eos>",
     false, 7, 16},
    {"Article sentences and summary steps without an answer; steps that share references, and one without "
     "any",
     "<bos> <news> ab <#0> cd <#1> ef <#2>\n"
     "<[> <#0> <#2> <:> A <#3>\n"
     "<[> <:> B <#4>\n"
     "<[> <#0> <#1> <:> C <#5>\n"
     "<[> <eos>",
     true, 0, 16},
    {"Malformed: unknown, self and duplicate references, descending order, a wrong closing id",
     "<bos> <arith> 1+2 <#0> +3 <#1>\n"
     "<[> <#9> <#2> <#1> <#1> <#0> <:> 1+2=3 <#7>\n"
     "<[> <#2> <#3> <:> 3+3=6 <#3>\n"
     "<[> <=> <#3> <:> 6 <eos>",
     true, 0, 16},
    {"Malformed: a header that is closed by force, a step that is not closed, text in a header, a step "
     "without one",
     "<bos> <arith> 1+2 <#0> +3 <#1>\n"
     "<[> <#0> <#1> 1 + 2 <:> =3 <#2>\n"
     "<[> <#2> <:> 3+\n"
     "<[> 7 <#1> <:> 3 <#4>\n"
     "6 <#5>\n"
     "<[> <#1> <=> <:> 6 <eos>",
     true, 0, 6},
};

// --- reading a case ---

typedef struct {
  int32_t tokens[MOST_TOKENS];
  char texts[MOST_TOKENS][10];
  int32_t n_token, prompt_end;
  span_tracker tracker;
  span_segment segments[MOST_SEGMENTS];
  int32_t references[MOST_TOKENS];
} golden_text;

// Ids: 0 text, 1 <bos>, 2 the task, then the special tokens.
static const span_tokens tokens = {3, 4, 5, 6, 7, N_ANCHOR};

static int32_t token_of(const char *text) {
  int32_t anchor = 0;
  if (sscanf(text, "<#%d>", &anchor) == 1)
    return tokens.anchor_first + anchor;
  return strcmp(text, "<bos>") == 0   ? 1
         : strcmp(text, "<[>") == 0   ? tokens.open
         : strcmp(text, "<:>") == 0   ? tokens.colon
         : strcmp(text, "<=>") == 0   ? tokens.answer
         : strcmp(text, "<eos>") == 0 ? tokens.eos
         : text[0] == '<'             ? 2
                                      : 0;
}

static void read_case(const golden_case *given, golden_text *out) {
  memset(out, 0, sizeof *out);
  for (const char *at = given->text; *at != '\0';) {
    if (*at == ' ' || *at == '\n') {
      if (*at == '\n' && out->prompt_end == 0)
        out->prompt_end = out->n_token;  // the first line is the prompt
      at++;
      continue;
    }
    const char *end = *at == '<' ? strchr(at, '>') + 1 : at + 1;
    assert_in_range(out->n_token, 0, MOST_TOKENS - 1);
    snprintf(out->texts[out->n_token], sizeof out->texts[0], "%.*s", (int)(end - at), at);
    out->tokens[out->n_token] = token_of(out->texts[out->n_token]);
    out->n_token++;
    at = end;
  }
}

static void track(const golden_case *given, const span_policy *policy, golden_text *text) {
  span_policy adapted = *policy;
  adapted.max_header = given->max_header;
  span_tracker_start(&text->tracker, &tokens, &adapted, given->headers, given->anchor_offset, 2,
                     text->prompt_end, text->segments, MOST_SEGMENTS, text->references, MOST_TOKENS);
  for (int32_t row = 0; row < text->n_token; row++)
    assert_int_equal(span_tracker_push(&text->tracker, text->tokens[row]), SPAN_PUSH_OK);
}

// --- writing it ---

// The rows that the last query of a view reads, as text.
static void rows_text(const span_policy *policy, const span_layout *layout, int32_t s, int32_t v, char *out,
                      size_t size) {
  span_view views[2];
  span_range ranges[2 * (2 * MOST_SEGMENTS + 4)];
  int32_t n_range = 0;
  assert_true(v < span_views_of(policy, layout, s, views, ranges, &n_range));
  FILE *file = fmemopen(out, size, "w");
  assert_non_null(file);
  span_write_rows(file, &views[v], ranges, views[v].query_end - 1);
  fputc('\0', file);
  assert_int_equal(fclose(file), 0);
}

// One line a setting that matters for this view. That the other settings do not is checked here.
static void write_view(const golden_text *text, int32_t s, int32_t v, const span_view *view, FILE *file) {
  const span_layout *layout = &text->tracker.layout;
  const char *part = s < 0                                                ? "preamble"
                     : layout->segments[s].kind == SPAN_CONTEXT           ? "context"
                     : view->query_first < layout->segments[s].body_first ? "header"
                                                                          : "body";
  fprintf(file, "rows %d-%d: %s", view->query_first, view->query_end - 1, part);
  if (s >= 0)
    fprintf(file, " of segment %d (%s)", s, span_kind_name(layout->segments[s].kind));
  fprintf(file, "  `");
  for (int32_t row = view->query_first; row < view->query_end; row++)
    fprintf(file, "%s", text->texts[row]);
  fprintf(file, "`\n");
  char lines[FIXTURE_N_PLAIN][128];
  for (int32_t k = 0; k < FIXTURE_N_PLAIN; k++) {
    span_policy policy = span_fixture_policy(k);
    rows_text(&policy, layout, s, v, lines[k], sizeof lines[k]);
  }
  // Bits of k: choose 3, pin 4, context 8, body_sees_header 16.
  int32_t matters = part[0] == 'h' ? 7 : part[0] == 'c' ? 8 : part[0] == 'b' ? 16 : 0;
  for (int32_t k = 0; k < FIXTURE_N_PLAIN; k++)
    assert_string_equal(lines[k], lines[k & matters]);
  if (matters == 0)
    fprintf(file, "    %s\n", lines[0]);
  for (int32_t k = 0; k < FIXTURE_N_PLAIN; k++) {
    char setting[64];
    if ((k & ~matters) != 0 || matters == 0)
      continue;
    span_policy policy = span_fixture_policy(k);
    if (matters == 7)
      snprintf(setting, sizeof setting, "choose=%s pin=%s", span_choose_name(policy.choose),
               policy.pin ? "all" : "none");
    else if (matters == 8)
      snprintf(setting, sizeof setting, "context=%s", span_context_name(policy.context));
    else
      snprintf(setting, sizeof setting, "body_sees_header=%s", policy.body_sees_header ? "yes" : "no");
    fprintf(file, "    %-23s  %s\n", setting, lines[k]);
  }
  static const int32_t always[][2] = {{1, 0}, {0, 1}, {2, 2}};  // lead, recent
  for (int32_t k = 0; k < 3 && (matters == 7 || matters == 16); k++) {
    span_policy policy = span_policy_default();
    policy.lead = always[k][0];
    policy.recent = always[k][1];
    char setting[64], line[128];
    snprintf(setting, sizeof setting, "lead=%d recent=%d", policy.lead, policy.recent);
    rows_text(&policy, layout, s, v, line, sizeof line);
    fprintf(file, "    %-23s  %s\n", setting, line);
  }
}

static void write_case(const golden_case *given, FILE *file) {
  golden_text *text = malloc(sizeof *text);
  assert_non_null(text);
  span_policy policy = span_policy_default();
  read_case(given, text);
  track(given, &policy, text);
  const span_malformed *m = &text->tracker.malformed;
  fprintf(file, "\n==== %s\n%s\n\n", given->title, given->text);
  fprintf(file,
          "%d rows, max_header %d; malformed: unknown %d, duplicate %d, unordered %d, wrong anchor %d, "
          "unclosed %d, "
          "long header %d, stray %d\n",
          text->n_token, given->max_header, m->unknown_reference, m->duplicate_reference,
          m->unordered_reference, m->wrong_anchor, m->unclosed_segment, m->long_header, m->stray_token);
  const span_layout *layout = &text->tracker.layout;
  for (int32_t s = 0; s < layout->n_segment; s++) {
    const span_segment *segment = &layout->segments[s];
    fprintf(file, "segment %d: %s, rows %d-%d", s, span_kind_name(segment->kind), segment->first,
            segment->end - 1);
    if (segment->header_end == SPAN_ROW_OPEN)
      fprintf(file, ", header never closed");
    else if (segment->header_end > segment->first)
      fprintf(file, ", header to %d", segment->header_end - 1);
    if (segment->n_reference > 0)
      fprintf(file, ", references");
    for (int32_t k = 0; k < segment->n_reference; k++)
      fprintf(file, " %d", layout->references[segment->reference_first + k]);
    if (segment->referenced_by != SPAN_ROW_OPEN)
      fprintf(file, ", first referenced by step %d", segment->referenced_by);
    fprintf(file, "\n");
  }
  fprintf(file, "\n");
  for (int32_t s = -1; s < layout->n_segment; s++) {
    span_view views[2];
    span_range ranges[2 * (2 * MOST_SEGMENTS + 4)];
    int32_t n_range = 0, n_view = span_views_of(&policy, layout, s, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; v++)
      write_view(text, s, v, &views[v], file);
  }
  free(text);
}

static char *write_all(void) {
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_non_null(file);
  fprintf(file,
          "What queries may read, for every policy: tests/test_span_golden.c writes and checks this file.\n"
          "Rows count from 0. Each line gives the rows that the LAST query of a group reads; an earlier "
          "query of\n"
          "the group reads the same rows up to itself. Without a mask every query reads all rows up to "
          "itself.\n");
  for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
    write_case(&cases[k], file);
  assert_int_equal(fclose(file), 0);
  return text;
}

static void golden_file_holds(void **state) {
  (void)state;
  ss_error error = {0};
  char *now = write_all(), *golden = NULL;
  size_t size = 0;
  if (getenv("SELFSPAN_UPDATE_GOLDEN") != NULL)
    assert_ok(ss_write_file(GOLDEN, now, strlen(now), &error));
  assert_ok(ss_read_file(GOLDEN, &golden, &size, &error));
  int line = 1;
  const char *a = now, *b = golden;
  for (; *a == *b && *a != '\0'; a++, b++)
    line += *a == '\n';
  if (*a != *b) {
    const char *a_end = strchr(a, '\n'), *b_end = strchr(b, '\n');
    fail_msg("%s: line %d differs: now \"%.*s\", expected \"%.*s\"", GOLDEN, line,
             (int)(a_end == NULL ? strlen(a) : (size_t)(a_end - a)), a,
             (int)(b_end == NULL ? strlen(b) : (size_t)(b_end - b)), b);
  }
  free(now);
  free(golden);
}

// Under no mask every row reads everything up to itself.
static void no_mask_is_causal(void **state) {
  (void)state;
  golden_text *text = malloc(sizeof *text);
  assert_non_null(text);
  span_policy none = span_fixture_policy(FIXTURE_N_POLICY - 1);
  read_case(&cases[0], text);
  track(&cases[0], &none, text);
  for (int32_t s = -1; s < text->tracker.layout.n_segment; s++) {
    span_view views[2];
    span_range ranges[2 * (2 * MOST_SEGMENTS + 4)];
    int32_t n_range = 0, n_view = span_views_of(&none, &text->tracker.layout, s, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; v++) {
      assert_int_equal(views[v].n_range, 0);
      assert_int_equal(views[v].self_first, 0);
    }
  }
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(golden_file_holds),
                                     cmocka_unit_test(no_mask_is_causal)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
