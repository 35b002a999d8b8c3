// A decoded sequence, segment by segment: text, references, rows read against rows available.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/generate.h"
#include "common/memory.h"
#include "common/table.h"
#include "common/utf8.h"

ss_status generate_prompt_add(generate_run *run, generate_prompt **out, ss_error *error) {
  SS_TRY(ss_grow(&run->prompts, &run->prompt_capacity, run->n_prompt + 1, sizeof *run->prompts, "prompts",
                 error));
  memset(&run->prompts[run->n_prompt], 0, sizeof *run->prompts);
  *out = &run->prompts[run->n_prompt++];
  return SS_OK;
}

// One segment of the sequence.
typedef struct {
  const span_segment *segment;
  int32_t index;
  bool generated;
  char *text;
  char references[256];  // "#7 #8"
  char reads[256];       // the body's ranges, "0-2 15-29"
  int64_t rows;          // read by the queries that wrote the segment
  int64_t available;     // rows that a dense model reads for the same tokens
} shown_segment;

static void append(char *text, size_t size, const char *format, int32_t a, int32_t b) {
  size_t used = strlen(text);
  if (used + 1 < size)
    snprintf(text + used, size - used, format, a, b);
}

static void describe_references(const decode_result *result, shown_segment *shown) {
  const span_segment *segment = shown->segment;
  for (int32_t r = 0; r < segment->n_reference; r++)
    append(shown->references, sizeof shown->references, r > 0 ? " #%d" : "#%d",
           result->layout.references[segment->reference_first + r], 0);
}

// What the body's queries read besides their own segment.
static ss_status describe_reads(const span_policy *policy, const decode_result *result, shown_segment *shown,
                                ss_error *error) {
  span_range *ranges = NULL;
  int32_t self_first;
  SS_TRY(ss_allocate(&ranges, span_range_capacity(&result->layout), sizeof *ranges, "ranges", error));
  int32_t n = span_visible_before(policy, &result->layout, shown->index, 0, ranges, &self_first);
  for (int32_t k = 0; k < n; k++)
    append(shown->reads, sizeof shown->reads, k > 0 ? " %d-%d" : "%d-%d", ranges[k].first, ranges[k].end - 1);
  append(shown->reads, sizeof shown->reads, n > 0 ? " %d-" : "%d-", self_first, 0);
  free(ranges);
  return SS_OK;
}

// A token's rows are those of the query that produced it: of the row before.
static void count_rows(const decode_result *result, shown_segment *shown) {
  for (int32_t row = shown->segment->first; row < shown->segment->end && result->rows != NULL; row++) {
    if (row < result->n_prompt)
      continue;
    shown->rows += result->rows[row - result->n_prompt];
    shown->available += row;
  }
}

static ss_status describe(const generate_run *run, const decode_result *result, int32_t s,
                          shown_segment *shown, ss_error *error) {
  memset(shown, 0, sizeof *shown);
  shown->segment = &result->layout.segments[s];
  shown->index = s;
  shown->generated = shown->segment->first >= result->n_prompt;
  int32_t first = shown->segment->header_end == SPAN_ROW_OPEN ? shown->segment->end
                                                              : shown->segment->header_end;
  SS_TRY(vocabulary_decode(run->file->vocabulary, result->tokens + first, shown->segment->end - first, true,
                           &shown->text, error));
  describe_references(result, shown);
  count_rows(result, shown);
  return describe_reads(&run->file->policy, result, shown, error);
}

// --- as text ---

static ss_status add_row(ss_table *table, const shown_segment *shown, bool spans, ss_error *error) {
  const char *kinds[] = {"context", "step", "answer", "end"};
  SS_TRY(ss_table_row(table, error));
  SS_TRY(ss_table_cell(table, error, "#%d", shown->index));
  SS_TRY(ss_table_cell(table, error, "%s", kinds[shown->segment->kind]));
  SS_TRY(ss_table_cell(table, error, "%s", shown->references));
  SS_TRY(ss_table_cell(table, error, "%s", shown->text));
  if (!spans)
    return SS_OK;
  SS_TRY(ss_table_cell(table, error, "%d-%d", shown->segment->first, shown->segment->end - 1));
  SS_TRY(ss_table_cell(table, error, "%s", shown->reads));
  if (!shown->generated)
    return SS_OK;
  SS_TRY(ss_table_cell(table, error, "%lld", (long long)shown->rows));
  return ss_table_cell(table, error, "%lld", (long long)shown->available);
}

static ss_status print_segments(const generate_run *run, const decode_result *result, ss_error *error) {
  const char *columns[] = {"id",   "kind",       "references", "text",
                           "rows", "body reads", "rows read",  "of available"};
  bool spans = run->options->show_spans;
  ss_table *table = NULL;
  SS_TRY(ss_table_create(&table, columns, spans ? 8 : 4, error));
  ss_status status = SS_OK;
  for (int32_t s = 0; s < result->layout.n_segment && status == SS_OK; s++) {
    shown_segment shown;
    status = describe(run, result, s, &shown, error);
    if (status == SS_OK && shown.segment->kind != SPAN_END)
      status = add_row(table, &shown, spans, error);
    free(shown.text);
  }
  if (status == SS_OK)
    ss_table_print(table, stdout);
  ss_table_free(table);
  return status;
}

static const char *stop_text(decode_stop stop) {
  return stop == DECODE_STOP_EOS      ? "finished"
         : stop == DECODE_STOP_LENGTH ? "stopped: no room for more tokens"
                                      : "stopped: no anchor left";
}

static void print_totals(const generate_prompt *prompt, const decode_result *result) {
  int64_t available = 0;
  for (int32_t row = result->n_prompt; row < result->n_token; row++)
    available += row;
  printf("%s; %d tokens, %lld rows read of %lld available", stop_text(result->stop),
         result->n_token - result->n_prompt, (long long)result->attended_rows, (long long)available);
  int32_t malformed = span_malformed_total(&result->malformed);
  if (malformed > 0)
    printf("; %d malformed tokens", malformed);
  if (prompt->has_gold && prompt->content.n_answer > 0)
    printf("; exact answer %s", prompt->content.answers);
  printf("\n\n");
}

// --- as JSON ---

static json_t *segment_json(const decode_result *result, const shown_segment *shown) {
  const char *kinds[] = {"context", "step", "answer", "end"};
  json_t *object = json_object(), *references = json_array();
  for (int32_t r = 0; r < shown->segment->n_reference; r++)
    json_array_append_new(references,
                          json_integer(result->layout.references[shown->segment->reference_first + r]));
  json_object_set_new(object, "kind", json_string(kinds[shown->segment->kind]));
  json_object_set_new(object, "text", ss_utf8_json(shown->text));
  json_object_set_new(object, "references", references);
  json_object_set_new(object, "first_row", json_integer(shown->segment->first));
  json_object_set_new(object, "end_row", json_integer(shown->segment->end));
  if (shown->generated) {
    json_object_set_new(object, "rows_read", json_integer(shown->rows));
    json_object_set_new(object, "rows_available", json_integer(shown->available));
  }
  return object;
}

static ss_status append_json(generate_run *run, const generate_prompt *prompt, const decode_result *result,
                             ss_error *error) {
  json_t *segments = json_array(), *object = json_object();
  ss_status status = SS_OK;
  const char *stops[] = {"eos", "length", "anchors"};
  json_object_set_new(object, "id", ss_utf8_json(prompt->content.id));
  json_object_set_new(object, "answer", json_null());
  for (int32_t s = 0; s < result->layout.n_segment && status == SS_OK; s++) {
    shown_segment shown;
    status = describe(run, result, s, &shown, error);
    if (status == SS_OK && shown.segment->kind != SPAN_END)
      json_array_append_new(segments, segment_json(result, &shown));
    if (status == SS_OK && shown.segment->kind == SPAN_ANSWER && result->stop == DECODE_STOP_EOS)
      json_object_set_new(object, "answer", ss_utf8_json(shown.text));
    free(shown.text);
  }
  if (prompt->has_gold && prompt->content.n_answer > 0)
    json_object_set_new(object, "exact_answer", json_string(prompt->content.answers));
  json_object_set_new(object, "segments", segments);
  json_object_set_new(object, "tokens", json_integer(result->n_token - result->n_prompt));
  json_object_set_new(object, "rows", json_integer(result->attended_rows));
  json_object_set_new(object, "malformed", json_integer(span_malformed_total(&result->malformed)));
  json_object_set_new(object, "stop", json_string(stops[result->stop]));
  json_object_set_new(object, "log_probability", json_real(result->log_probability));
  json_array_append_new(run->list, object);
  return status;
}

void generate_stream(void *user, int64_t index, int32_t token, int32_t rows) {
  generate_run *run = user;
  const vocabulary *vocabulary = run->file->vocabulary;
  const span_tokens *special = vocabulary_span_tokens(vocabulary);
  char *text = NULL;
  (void)index;
  (void)rows;
  // A token that cannot be shown is left to the table that follows, which reports the failure.
  if (vocabulary_decode(vocabulary, &token, 1, false, &text, NULL) == SS_OK)
    fputs(text, stdout);
  free(text);
  if (token == special->open || token == special->colon)
    run->in_header = token == special->open;
  if (token == special->eos || (!run->in_header && span_is_anchor(special, token)))
    putchar('\n');
  fflush(stdout);
}

ss_status generate_show(generate_run *run, const generate_prompt *prompt, const decode_result *result,
                        ss_error *error) {
  if (run->list != NULL)
    return append_json(run, prompt, result, error);
  if (run->n_prompt > 1)
    printf("%s\n", prompt->content.id);
  SS_TRY(print_segments(run, result, error));
  print_totals(prompt, result);
  return SS_OK;
}
