// An example as prose: an article, its summary, and arrows from the sentences that a step reads to the step.
//
//   #0       The first sentence, which no step reads.
//   #1   o   A sentence that step #3 reads.
//   #2   |o  One that step #4 reads.
//
//   #3   >|  Step #3.
//   #4    >  Step #4.
#include <stdlib.h>
#include <string.h>

#include "commands/inspect.h"
#include "common/memory.h"
#include "common/utf8.h"
#include "common/wrap.h"
#include "span/describe.h"

#define MOST_ARROWS 40
#define FEWEST_TEXT_COLUMNS 40
#define WIDEST 120

// One arrow a segment with references.
typedef struct {
  int64_t segments[MOST_ARROWS];
  int32_t n;
} arrow_list;

static bool refers(const example *example, int64_t segment, int64_t to) {
  const example_segment *reader = &example->segments[segment];
  for (int32_t k = 0; k < reader->n_reference; k++)
    if (example->references[reader->reference_first + k] == to)
      return true;
  return false;
}

static void find_arrows(const example *example, arrow_list *arrows) {
  arrows->n = 0;
  for (int64_t s = 0; s < example->n_segment; s++) {
    if (example->segments[s].n_reference == 0)
      continue;
    if (arrows->n == MOST_ARROWS) {  // the lists of references say it all the same
      arrows->n = 0;
      return;
    }
    arrows->segments[arrows->n++] = s;
  }
}

// The arrows' part of the line on which segment s begins, and of its other lines.
static void draw(const example *example, const arrow_list *arrows, int64_t s, char *begin, char *rest) {
  for (int32_t a = 0; a < arrows->n; a++) {
    int64_t reader = arrows->segments[a];
    int64_t first = example->references[example->segments[reader].reference_first];
    begin[a] = s == reader ? '>' : refers(example, reader, s) ? 'o' : first < s && s < reader ? '|' : ' ';
    rest[a] = first <= s && s < reader ? '|' : ' ';
  }
  begin[arrows->n] = rest[arrows->n] = '\0';
}

static int32_t digits(int64_t number) {
  int32_t n = 1;
  for (; number >= 10; number /= 10)
    n++;
  return n;
}

static ss_status show_segment(const inspection *inspection, const arrow_list *arrows, int64_t s, FILE *file,
                              ss_error *error) {
  const example *example = inspection->example;
  const example_segment *segment = &example->segments[s];
  char begin[MOST_ARROWS + 1], rest[MOST_ARROWS + 1], *head = NULL, *beside = NULL;
  int32_t width = inspection->columns < WIDEST ? inspection->columns : WIDEST;
  int32_t number = digits(example->n_segment + inspection->anchor_offset);
  if (width < arrows->n + number + FEWEST_TEXT_COLUMNS)
    width = arrows->n + number + FEWEST_TEXT_COLUMNS;
  bool read = false;
  for (int64_t later = s + 1; later < example->n_segment && !read; later++)
    read = refers(example, later, s);
  draw(example, arrows, s, begin, rest);
  ss_status status = ss_format(&head, error, "#%-*lld  %s  ", number,
                               (long long)(s + inspection->anchor_offset), begin);
  if (status == SS_OK)
    status = ss_format(&beside, error, " %*s  %s  ", number, "", rest);
  if (status == SS_OK) {
    bool dim = inspection->colours && segment->kind == SPAN_CONTEXT && !read;
    fputs(dim ? "\033[2m" : "", file);
    ss_print_wrapped_beside(file, head, beside, example->text + segment->text_first,
                            segment->text_end - segment->text_first, width);
    fputs(dim ? "\033[0m" : "", file);
  }
  free(head);
  free(beside);
  if (status != SS_OK || segment->kind == SPAN_CONTEXT)
    return status;
  fprintf(file, " %*s  %s  %s", number, "", rest, segment->n_reference == 0 ? "reads no sentence" : "reads");
  for (int32_t k = 0; k < segment->n_reference; k++)
    fprintf(file, " #%d", example->references[segment->reference_first + k] + inspection->anchor_offset);
  fputc('\n', file);
  return SS_OK;
}

ss_status inspection_prose(const inspection *inspection, FILE *file, ss_error *error) {
  const example *example = inspection->example;
  arrow_list arrows;
  find_arrows(example, &arrows);
  for (int64_t s = 0; s < example->n_segment; s++) {
    if (s > 0 && example->segments[s].kind != example->segments[s - 1].kind)
      fputc('\n', file);
    SS_TRY(show_segment(inspection, &arrows, s, file, error));
  }
  const char *answer = example->answers;
  for (int32_t k = 0; k < example->n_answer; k++, answer += strlen(answer) + 1) {
    fputc('\n', file);
    ss_print_wrapped(file, "answer  ", answer, (int64_t)strlen(answer), WIDEST);
  }
  if (example->n_meta > 0)
    fprintf(file, "\nmetadata  %s\n", example->meta);
  return SS_OK;
}

// --- JSON ---

static json_t *text_json(const example *example, const example_segment *segment) {
  json_t *text = json_stringn(example->text + segment->text_first,
                              (size_t)(segment->text_end - segment->text_first));
  return text == NULL ? json_null() : text;  // no UTF-8
}

json_t *inspection_prose_json(const inspection *inspection) {
  const example *example = inspection->example;
  json_t *segments = json_array(), *answers = json_array();
  for (int64_t s = 0; s < example->n_segment; s++) {
    const example_segment *segment = &example->segments[s];
    json_t *references = json_array(), *read_by = json_array();
    for (int32_t k = 0; k < segment->n_reference; k++)
      json_array_append_new(references, json_integer(example->references[segment->reference_first + k]));
    for (int64_t later = s + 1; later < example->n_segment; later++)
      if (refers(example, later, s))
        json_array_append_new(read_by, json_integer((json_int_t)later));
    json_array_append_new(segments, json_pack("{s:s, s:o, s:o, s:o}", "kind", span_kind_name(segment->kind),
                                              "references", references, "read_by", read_by, "text",
                                              text_json(example, segment)));
  }
  const char *answer = example->answers;
  for (int32_t k = 0; k < example->n_answer; k++, answer += strlen(answer) + 1)
    json_array_append_new(answers, ss_utf8_json(answer));
  json_t *meta = example->n_meta > 0 ? json_loadb(example->meta, (size_t)example->n_meta, 0, NULL) : NULL;
  return json_pack("{s:s, s:I, s:i, s:o, s:o, s:o}", "id", example->id, "n_token",
                   (json_int_t)inspection->rendering->n_token, "prompt_end",
                   (int)inspection->rendering->prompt_end, "segments", segments, "answers", answers, "meta",
                   meta == NULL ? json_object() : meta);
}
