// A Jupyter notebook (nbformat 4) from a template of cells: Python text cut at "# %%" (code) and
// "# %% [markdown]" lines, with the run's folder put before as a parameter.
#ifndef SELFSPAN_NOTEBOOKS_EXPORT_NOTEBOOK_H
#define SELFSPAN_NOTEBOOKS_EXPORT_NOTEBOOK_H

#include "common/error.h"

// Writes `out` (atomically) with the cells of `template_path` and a first code cell that sets RUN = `run`. Cells are not
// executed. Errors: unreadable template, a template without cells, unwritable output.
ss_status notebook_write(const char *template_path, const char *run, const char *out, ss_error *error);

#endif
