// Aligned text tables: text columns flush left, numbers flush right, UTF-8 aware.
#ifndef SELFSPAN_COMMON_TABLE_H
#define SELFSPAN_COMMON_TABLE_H

#include <stdio.h>

#include "common/error.h"

typedef struct ss_table ss_table;

// `columns` are the headings. Free with ss_table_free.
ss_status ss_table_create(ss_table **out, const char *const *columns, int n_column, ss_error *error);

// Starts a row; then one ss_table_cell per column (missing cells print as "-").
ss_status ss_table_row(ss_table *table, ss_error *error);
ss_status ss_table_cell(ss_table *table, ss_error *error, const char *format, ...) SS_PRINTF(3, 4);

// Headings, a rule, the rows; no trailing blanks.
void ss_table_print(const ss_table *table, FILE *file);

// Frees the table; NULL is allowed.
void ss_table_free(ss_table *table);

#endif
