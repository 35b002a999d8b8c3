// The span map: where the rows lie that each part of an example reads.
#include "commands/inspect.h"

#define LEFT_COLUMNS 24  // "rows", part and two blanks before the map
#define FEWEST_COLUMNS 20

// Rows of [first, end) that the query at `row` reads.
static int32_t visible_in(const inspection *inspection, const span_view *view, int32_t row, int32_t first,
                          int32_t end) {
  int32_t visible = 0;
  for (int32_t k = 0; k <= view->n_range; k++) {
    bool self = k == view->n_range;
    int32_t low = self ? view->self_first : inspection->ranges[view->range_first + k].first;
    int32_t high = self ? row + 1 : inspection->ranges[view->range_first + k].end;
    low = low > first ? low : first;
    high = high < end ? high : end;
    visible += high > low ? high - low : 0;
  }
  return visible;
}

// Marks the columns in which segments begin.
static void write_ruler(const inspection *inspection, int32_t per_column, int32_t n_column, FILE *file) {
  const span_layout *layout = &inspection->rendering->layout;
  fprintf(file, "%*s", LEFT_COLUMNS, "");
  int32_t s = 0;
  for (int32_t column = 0; column < n_column && (s < layout->n_segment || column == 0); column++) {
    bool starts = false;
    int32_t kind = SPAN_CONTEXT;
    for (; s < layout->n_segment && layout->segments[s].first < (column + 1) * per_column; s++)
      if (layout->segments[s].first >= column * per_column) {
        starts = true;
        kind = layout->segments[s].kind;
      }
    fputc(!starts ? (column == 0 ? 'P' : ' ') : "csae"[kind], file);
  }
  fprintf(file, "\n");
}

void inspection_map(const inspection *inspection, FILE *file) {
  int32_t n_token = (int32_t)inspection->rendering->n_token;
  int32_t room = inspection->columns - LEFT_COLUMNS;
  room = room < FEWEST_COLUMNS ? FEWEST_COLUMNS : room;
  int32_t per_column = (n_token + room - 1) / room;
  int32_t n_column = (n_token + per_column - 1) / per_column;
  const char *on = inspection->colours ? "\033[32m" : "", *own = inspection->colours ? "\033[36m" : "";
  const char *off = inspection->colours ? "\033[0m" : "";
  fprintf(
      file,
      "\nSpan map: a line for each header and body, a column for %d row%s (P preamble, c context, s step, a "
      "answer, e end begin there)\n# read, + read in part, = the part itself, . not read\n",
      per_column, per_column == 1 ? "" : "s");
  write_ruler(inspection, per_column, n_column, file);
  for (int32_t v = 0; v < inspection->n_view; v++) {
    const span_view *view = &inspection->views[v];
    int32_t last = view->query_end - 1;
    fprintf(file, "%5d-%-5d  %-8s   ", view->query_first, last,
            inspection_part(inspection, view->query_first));
    for (int32_t column = 0; column < n_column; column++) {
      int32_t first = column * per_column, end = first + per_column < n_token ? first + per_column : n_token;
      int32_t visible = visible_in(inspection, view, last, first, end);
      if (end > view->query_first && first <= last)
        fprintf(file, "%s=%s", own, off);
      else if (first > last)
        break;
      else
        fprintf(file, "%s%c%s", visible > 0 ? on : "",
                visible == 0             ? '.'
                : visible == end - first ? '#'
                                         : '+',
                visible > 0 ? off : "");
    }
    fputc('\n', file);
  }
}
