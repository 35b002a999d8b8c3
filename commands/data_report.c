#include "commands/data_report.h"

#include <stdlib.h>

#include "common/memory.h"
#include "common/table.h"

#define MOST_SPLITS 8

ss_status data_report_add(json_t *split, const data_task *task, const void *tally,
                          const generate_outcome *outcome, ss_error *error) {
  int failed = 0;
  if (tally != NULL)
    failed |= json_object_set_new(split, "content", task->tally_json(tally));
  if (outcome->n_reason > 0) {
    json_t *reasons = json_object(), *first = json_array();
    for (int32_t k = 0; k < outcome->n_reason; k++)
      failed |= json_object_set_new(reasons, outcome->reasons[k].reason,
                                    json_integer((json_int_t)outcome->reasons[k].n));
    for (int32_t k = 0; k < outcome->n_named; k++) {
      char *line = NULL;
      ss_status status = ss_format(&line, error, "%s: %s", outcome->named[k].id, outcome->named[k].reason);
      failed |= status != SS_OK || json_array_append_new(first, json_string(line)) != 0;
      free(line);
    }
    failed |= json_object_set_new(split, "skipped_reasons", reasons);
    failed |= json_object_set_new(split, "skipped_first", first);
  }
  return failed != 0 ? ss_fail(error, SS_ERROR_MEMORY, "card: out of memory") : SS_OK;
}

static ss_status add_row(ss_table *table, const json_t *splits, const char *key, ss_error *error) {
  const char *name;
  json_t *split;
  ss_status status = ss_table_row(table, error);
  if (status == SS_OK)
    status = ss_table_cell(table, error, "%s", key);
  json_object_foreach((json_t *)splits, name, split) {
    const json_t *value = json_object_get(json_object_get(split, "content"), key);
    if (status != SS_OK)
      break;
    if (json_is_real(value))
      status = ss_table_cell(table, error, "%.2f", json_real_value(value));
    else
      status = ss_table_cell(table, error, "%lld", (long long)json_integer_value(value));
  }
  return status;
}

static ss_status print_content(const json_t *splits, FILE *file, ss_error *error) {
  const char *columns[1 + MOST_SPLITS] = {"content"}, *name, *key;
  json_t *split, *value, *keys = json_object();
  int32_t n = 1;
  // Keys of all splits, each once, in the order of their first appearance.
  json_object_foreach((json_t *)splits, name, split) {
    if (n <= MOST_SPLITS)
      columns[n++] = name;
    json_object_foreach(json_object_get(split, "content"), key, value)
        json_object_set(keys, key, json_true());
  }
  ss_table *table = NULL;
  ss_status status = json_object_size(keys) == 0 ? SS_OK : ss_table_create(&table, columns, n, error);
  if (table != NULL) {
    json_object_foreach(keys, key, value) if (status == SS_OK) status = add_row(table, splits, key, error);
    if (status == SS_OK) {
      fputc('\n', file);
      ss_table_print(table, file);
    }
  }
  ss_table_free(table);
  json_decref(keys);
  return status;
}

ss_status data_report_print(const json_t *splits, FILE *file, ss_error *error) {
  const char *name, *reason;
  json_t *split, *value;
  SS_TRY(print_content(splits, file, error));
  json_object_foreach((json_t *)splits, name, split) {
    size_t k;
    json_object_foreach(json_object_get(split, "skipped_reasons"), reason, value)
        fprintf(file, "%s: %lld rows left out: %s\n", name, (long long)json_integer_value(value), reason);
    json_array_foreach(json_object_get(split, "skipped_first"), k, value)
        fprintf(file, "  %s\n", json_string_value(value));
  }
  return SS_OK;
}
