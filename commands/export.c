// selfspan export jsonl | notebook | hf | rows.
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands/commands.h"
#include "commands/export_hf.h"
#include "commands/export_rows.h"
#include "common/cli.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/utf8.h"
#include "data/jsonl_write.h"
#include "data/render.h"
#include "data/span_keys.h"
#include "data/store.h"
#include "model/checkpoint.h"
#include "notebooks-export/notebook.h"

extern char **environ;

static const char usage[] =
    "usage: selfspan export jsonl|notebook|hf|rows [options]\n"
    "\n"
    "  jsonl      a dataset as one JSON object a line, readable by `selfspan data jsonl` and anything else\n"
    "  notebook   an executed Jupyter notebook of a run: table, learning curves, span map\n"
    "  hf         a model as transformers load it: config.json, model.safetensors\n"
    "  rows       what train.learn=span_tokens learnt, small, for `selfspan import --rows`\n"
    "\n"
    "examples:\n"
    "  selfspan export jsonl --data runs/quickstart/data/test.h5 --out test.jsonl\n"
    "  selfspan export notebook --run runs/quickstart\n"
    "  selfspan export hf --model runs/span/model.h5 --out span-hf\n"
    "  selfspan export rows --model runs/span/model.h5 --out summarize.safetensors\n";

// The data itself is never replaced; another file only when asked.
static ss_status check_target(const char *data, const char *out, bool force, ss_error *error) {
  struct stat from, to;
  if (stat(out, &to) != 0 || (!S_ISREG(to.st_mode) && !S_ISDIR(to.st_mode)))
    return SS_OK;
  if (S_ISDIR(to.st_mode))
    return ss_fail(error, SS_ERROR_USAGE, "--out %s: is a folder, expected the name of a file", out);
  if (stat(data, &from) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino)
    return ss_fail(error, SS_ERROR_USAGE, "--out %s: is the dataset itself", out);
  if (!force)
    return ss_fail(error, SS_ERROR_USAGE, "--out %s: exists; --force replaces it", out);
  return SS_OK;
}

static ss_status export_jsonl(int argc, char **argv, ss_error *error) {
  const char *data = NULL, *out = NULL;
  bool help = false, quiet = false, force = false;
  const ss_option options[] = {{"data", SS_OPTION_STRING, &data, "FILE", "the dataset (HDF5)"},
                               {"out", SS_OPTION_STRING, &out, "FILE", "where to write"},
                               {"force", SS_OPTION_FLAG, &force, NULL, "replace an existing file"},
                               {"quiet", SS_OPTION_FLAG, &quiet, NULL, "no progress"},
                               {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"export jsonl",
       "Writes a dataset as one JSON object a line.",
       "selfspan export jsonl --data FILE --out FILE",
       options,
       NULL,
       "  selfspan export jsonl --data runs/quickstart/data/test.h5 --out test.jsonl\n"};
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  if (data == NULL || out == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--data and --out are needed");
  SS_TRY(check_target(data, out, force, error));
  store *store = NULL;
  int64_t n = 0;
  SS_TRY(store_open(&store, data, true, error));
  ss_status status = jsonl_write(store, out, quiet, &n, error);
  store_close(store);
  if (status == SS_OK)
    printf("%s: %lld examples\n", out, (long long)n);
  return status;
}

// --- the span map of one example: what each token's query reads ---

static ss_status append_rows(json_t *rows, const rendering *text, const span_policy *policy,
                             ss_error *error) {
  span_range *ranges = NULL;
  SS_TRY(
      ss_allocate(&ranges, 2 * (int64_t)span_range_capacity(&text->layout), sizeof *ranges, "ranges", error));
  for (int32_t s = -1; s < text->layout.n_segment; ++s) {
    span_view views[2];
    int32_t n_range = 0;
    int32_t n_view = span_views_of(policy, &text->layout, s, views, ranges, &n_range);
    for (int32_t v = 0; v < n_view; ++v)
      for (int32_t row = views[v].query_first; row < views[v].query_end; ++row) {
        json_t *read = json_array();
        for (int32_t k = 0; k < views[v].n_range; ++k) {
          const span_range *range = &ranges[views[v].range_first + k];
          json_array_append_new(read, json_pack("[i, i]", range->first, range->end));
        }
        json_array_append_new(read, json_pack("[i, i]", views[v].self_first, row + 1));
        bool header = s >= 0 && row < text->layout.segments[s].body_first;
        json_array_append_new(rows,
                              json_pack("{s:i, s:b, s:o}", "row", row, "header", header, "ranges", read));
      }
  }
  free(ranges);
  return SS_OK;
}

static ss_status write_span_map(const char *path, const char *id, const rendering *text,
                                const vocabulary *vocabulary, const span_policy *policy, ss_error *error) {
  json_t *tokens = json_array(), *segments = json_array(), *rows = json_array();
  ss_status status = append_rows(rows, text, policy, error);
  for (int64_t t = 0; t < text->n_token && status == SS_OK; ++t) {
    char *name = NULL;
    status = vocabulary_decode(vocabulary, text->tokens + t, 1, false, &name, error);
    if (status == SS_OK)
      json_array_append_new(tokens, ss_utf8_json(name));
    free(name);
  }
  for (int32_t s = 0; s < text->layout.n_segment; ++s)
    json_array_append_new(segments, json_pack("{s:i, s:i}", "first", text->layout.segments[s].first, "end",
                                              text->layout.segments[s].end));
  json_t *map = json_pack("{s:s, s:o, s:o, s:o}", "id", id, "tokens", tokens, "segments", segments, "rows",
                          rows);
  char *written = map == NULL ? NULL : json_dumps(map, JSON_COMPACT | JSON_PRESERVE_ORDER);
  if (status == SS_OK && written == NULL)
    status = ss_fail(error, SS_ERROR_MEMORY, "out of memory for the span map");
  if (status == SS_OK)
    status = ss_write_file(path, written, strlen(written), error);
  json_decref(map);
  free(written);
  return status;
}

// The policy that the run's span model was trained with.
static ss_status run_policy(const char *run, span_policy *policy, ss_error *error) {
  char *path = NULL;
  arm arm;
  checkpoint_meta meta = checkpoint_meta_initial();
  SS_TRY(ss_format(&path, error, "%s/span/model.h5", run));
  ss_status status = checkpoint_read_meta(path, &meta, error);
  if (status == SS_OK)
    status = span_policy_parse(meta.policy, path, &arm, policy, error);
  if (status == SS_OK && arm != ARM_SPAN)
    status = ss_fail(error, SS_ERROR_INPUT, "%s: expected a model of the span arm, found %s", path,
                     arm_name(arm));
  checkpoint_meta_free(&meta);
  free(path);
  return status;
}

// Among the first examples, the one with the most segments shows most.
static ss_status richest_example(store *store, int64_t *index, ss_error *error) {
  enum { LOOKED_AT = 64 };
  int64_t n = store_n_example(store) < LOOKED_AT ? store_n_example(store) : LOOKED_AT;
  int32_t most = -1;
  example example = {0};
  rendering rendering = {0};
  ss_status status = SS_OK;
  *index = 0;
  for (int64_t k = 0; k < n && status == SS_OK; ++k) {
    status = store_read(store, k, 1, &example, &rendering, error);
    if (status == SS_OK && rendering.layout.n_segment > most) {
      most = rendering.layout.n_segment;
      *index = k;
    }
  }
  example_free(&example);
  rendering_free(&rendering);
  return status;
}

static ss_status export_span_map(const char *run, int64_t index, ss_error *error) {
  char *data = NULL, *out = NULL;
  store *store = NULL;
  span_policy policy;
  example example = {0};
  rendering annotated = {0}, text = {0};
  SS_TRY(run_policy(run, &policy, error));
  ss_status status = ss_format(&data, error, "%s/data/test.h5", run);
  if (status == SS_OK)
    status = ss_format(&out, error, "%s/span_map.json", run);
  if (status == SS_OK)
    status = store_open(&store, data, true, error);
  if (status == SS_OK && index == -1)
    status = richest_example(store, &index, error);
  if (status == SS_OK && (index < 0 || index >= store_n_example(store)))
    status = ss_fail(error, SS_ERROR_USAGE, "--index %lld: %s has examples 0 to %lld", (long long)index, data,
                     (long long)store_n_example(store) - 1);
  if (status == SS_OK)
    status = store_read(store, index, 1, &example, &annotated, error);
  if (status == SS_OK)
    status = render_arm(&text, &annotated, ARM_SPAN, store_vocabulary(store), 0, error);
  if (status == SS_OK)
    status = write_span_map(out, example.id, &text, store_vocabulary(store), &policy, error);
  example_free(&example);
  rendering_free(&annotated);
  rendering_free(&text);
  store_close(store);
  free(data);
  free(out);
  return status;
}

// --- the notebook ---

// "runs/quickstart/" -> "quickstart": the notebook's name.
static ss_status default_name(const char *run, char **out, ss_error *error) {
  size_t end = strlen(run);
  while (end > 1 && run[end - 1] == '/')
    --end;
  size_t first = end;
  while (first > 0 && run[first - 1] != '/')
    --first;
  return ss_format(out, error, "notebooks-export/%.*s.ipynb", (int)(end - first), run + first);
}

static ss_status execute(const char *python, const char *path, ss_error *error) {
  char *arguments[] = {(char *)python, "notebooks-export/execute.py", (char *)path, NULL};
  pid_t child;
  int exit_status = 0;
  int failed = posix_spawnp(&child, python, NULL, NULL, arguments, environ);
  if (failed != 0)
    return ss_fail(error, SS_ERROR_IO, "cannot start %s: %s; `make venv` installs what the notebook needs",
                   python, strerror(failed));
  waitpid(child, &exit_status, 0);
  if (!WIFEXITED(exit_status) || WEXITSTATUS(exit_status) != 0)
    return ss_fail(error, SS_ERROR_IO,
                   "%s: running the cells failed; it needs nbclient, ipykernel, h5py and matplotlib "
                   "(`make venv`)",
                   path);
  return SS_OK;
}

static ss_status export_notebook(int argc, char **argv, ss_error *error) {
  const char *run = NULL, *out = NULL, *python = ".venv/bin/python",
             *template_path = "notebooks-export/report.py";
  int64_t index = -1;
  bool help = false, no_execute = false;
  const ss_option options[] = {{"run", SS_OPTION_STRING, &run, "DIR",
                                "the run: summary.json, results.h5, ARM/metrics.csv, data/test.h5"},
                               {"out", SS_OPTION_STRING, &out, "FILE",
                                "the notebook; default notebooks-export/RUN.ipynb"},
                               {"index", SS_OPTION_INT, &index, "N",
                                "the test example of the span map; default: the richest of the first 64"},
                               {"template", SS_OPTION_STRING, &template_path, "FILE",
                                "the cells (notebooks-export/report.py)"},
                               {"python", SS_OPTION_STRING, &python, "PYTHON",
                                "the interpreter that runs the cells (.venv/bin/python)"},
                               {"no-execute", SS_OPTION_FLAG, &no_execute, NULL, "leave the outputs empty"},
                               {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line = {"export notebook",
                                "Writes an executed Jupyter notebook of a run.",
                                "selfspan export notebook --run DIR [options]",
                                options,
                                NULL,
                                "  selfspan export notebook --run runs/quickstart\n"};
  SS_TRY(ss_cli_parse(&line, argc, argv, NULL, &help, error));
  if (help)
    return SS_OK;
  if (run == NULL)
    return ss_fail(error, SS_ERROR_USAGE, "--run is needed");
  char *path = NULL, *temporary = NULL;
  SS_TRY(export_span_map(run, index, error));
  ss_status status = out != NULL ? ss_format(&path, error, "%s", out) : default_name(run, &path, error);
  // Cells run in a file of another name: a failure leaves an earlier notebook as it was.
  if (status == SS_OK)
    status = ss_format(&temporary, error, "%s.new", path);
  if (status == SS_OK)
    status = notebook_write(template_path, run, temporary, error);
  if (status == SS_OK && !no_execute)
    status = execute(python, temporary, error);
  if (status == SS_OK)
    status = ss_commit_file(temporary, path, error);
  if (status == SS_OK)
    printf("%s\n", path);
  else if (temporary != NULL)
    unlink(temporary);
  free(path);
  free(temporary);
  return status;
}

ss_status ss_command_export(int argc, char **argv, ss_error *error) {
  static const char *const names[] = {"jsonl", "notebook", "hf", "rows"};
  if (argc >= 2 && strcmp(argv[1], "jsonl") == 0)
    return export_jsonl(argc - 1, argv + 1, error);
  if (argc >= 2 && strcmp(argv[1], "notebook") == 0)
    return export_notebook(argc - 1, argv + 1, error);
  if (argc >= 2 && strcmp(argv[1], "hf") == 0)
    return export_hf_command(argc - 1, argv + 1, error);
  if (argc >= 2 && strcmp(argv[1], "rows") == 0)
    return export_rows_command(argc - 1, argv + 1, error);
  if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    fputs(usage, stdout);
    return argc < 2 ? ss_fail(error, SS_ERROR_USAGE, "expected jsonl, notebook, hf or rows") : SS_OK;
  }
  const char *nearest = ss_nearest(argv[1], names, 4);
  return ss_fail(error, SS_ERROR_USAGE, "unknown export '%s'%s%s%s; expected jsonl, notebook, hf or rows",
                 argv[1], nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "");
}
