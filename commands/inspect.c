// selfspan inspect: a dataset's summary, or one example with what each of its tokens may read.
#include "commands/inspect.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "commands/commands.h"
#include "common/cli.h"
#include "common/file.h"
#include "common/hdf5.h"
#include "common/memory.h"
#include "data/span_keys.h"
#include "span/describe.h"

#define DEFAULT_COLUMNS 120
#define NO_INDEX INT64_MIN

typedef struct {
  const char *arm;
  ss_string_list assignments;
  int64_t index, anchor_offset;
  bool text, every_token, no_verify, json;
} inspect_options;

static int32_t terminal_columns(void) {
  struct winsize size;
  if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    return size.ws_col;
  return DEFAULT_COLUMNS;
}

static ss_status print_json(json_t *object, ss_error *error) {
  char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(2));
  json_decref(object);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory");
  printf("%s\n", text);
  free(text);
  return SS_OK;
}

// --- a file as a whole ---

static ss_status show_dataset(store *data, const inspect_options *options, const char *path,
                              ss_error *error) {
  char hash[33];
  SS_TRY(ss_hash_file(path, hash, error));
  const vocabulary *vocabulary = store_vocabulary(data);
  if (options->json)
    return print_json(json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:i, s:i, s:o, s:i, s:O}", "format",
                                "selfspan-dataset", "task", store_task(data), "split", store_split(data),
                                "xxh128", hash, "verified", !options->no_verify, "seed",
                                (json_int_t)store_seed(data), "examples", (json_int_t)store_n_example(data),
                                "annotated_tokens", (json_int_t)store_n_token(data), "longest_example",
                                (int)store_longest(data), "most_segments", (int)store_most_segments(data),
                                "vocabulary", vocabulary_summary_json(vocabulary), "vocabulary_size",
                                (int)vocabulary_size(vocabulary), "config", store_config(data)),
                      error);
  printf("%s: dataset, task %s, split %s\n", path, store_task(data), store_split(data));
  printf("  examples          %lld\n", (long long)store_n_example(data));
  printf("  annotated tokens  %lld (%.1f an example, longest %d)\n", (long long)store_n_token(data),
         store_n_example(data) > 0 ? (double)store_n_token(data) / (double)store_n_example(data) : 0.0,
         store_longest(data));
  printf("  most segments     %d\n", store_most_segments(data));
  printf("  vocabulary        %d tokens: %d of text, %d anchors (hash %016llx)\n",
         vocabulary_size(vocabulary), vocabulary_n_text(vocabulary),
         vocabulary_span_tokens(vocabulary)->n_anchor, (unsigned long long)vocabulary_hash(vocabulary));
  printf("  seed              %llu\n", (unsigned long long)store_seed(data));
  printf("  XXH128            %s (%s)\n", hash, options->no_verify ? "not checked" : "equals its sidecar");
  printf("  configuration\n");
  const char *name;
  json_t *value;
  json_object_foreach((json_t *)store_config(data), name, value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    printf("    %-32s  %s\n", name, text == NULL ? "?" : text);
    free(text);
  }
  return SS_OK;
}

// A selfspan file of another kind: its format and what it holds.
static ss_status show_other(const char *path, const char *format, const inspect_options *options,
                            ss_error *error) {
  ss_hdf5 *file = NULL;
  char *names = NULL;
  int64_t n = 0;
  SS_TRY(ss_hdf5_open(&file, path, format, INT64_MAX, !options->no_verify, error));
  ss_status status = ss_hdf5_list(file, "/", &names, &n, error);
  json_t *list = json_array();
  const char *name = names;
  for (int64_t k = 0; status == SS_OK && k < n; k++, name += strlen(name) + 1)
    json_array_append_new(list, json_string(name));
  if (status == SS_OK && options->json) {
    status = print_json(json_pack("{s:s, s:O}", "format", format, "contents", list), error);
  } else if (status == SS_OK) {
    size_t k;
    json_t *entry;
    printf("%s: %s, %s\n", path, format, options->no_verify ? "hash not checked" : "hash equals its sidecar");
    json_array_foreach(list, k, entry) printf("  %s\n", json_string_value(entry));
  }
  json_decref(list);
  free(names);
  ss_hdf5_close(file);
  return status;
}

// --- one example ---

static ss_status show_example(store *data, const inspect_options *options, const span_policy *policy,
                              const example *example, const rendering *annotated, ss_error *error) {
  arm arm = ARM_SPAN;
  rendering rendered = {0};
  SS_TRY(arm_from_name(options->arm, &arm, error));
  if (options->anchor_offset < 0 || options->anchor_offset > INT32_MAX / 2)
    return ss_fail(error, SS_ERROR_USAGE, "--anchor-offset: %lld is out of range",
                   (long long)options->anchor_offset);
  ss_status status = render_arm(&rendered, annotated, arm, store_vocabulary(data),
                                (int32_t)options->anchor_offset, error);
  inspection inspection = {.example = example,
                           .rendering = &rendered,
                           .vocabulary = store_vocabulary(data),
                           .arm = arm,
                           .policy = arm_policy(arm, policy),
                           .anchor_offset = (int32_t)options->anchor_offset,
                           .colours = isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL,
                           .columns = terminal_columns()};
  if (status == SS_OK && !options->text)
    status = inspection_make(&inspection, error);
  if (status == SS_OK && options->json) {
    status = print_json(options->text ? inspection_prose_json(&inspection) : inspection_json(&inspection),
                        error);
  } else if (status == SS_OK && options->text) {
    printf("%s (example %lld of %lld, task %s, split %s)\n%lld tokens, %d of them prompt\n\n", example->id,
           (long long)options->index, (long long)store_n_example(data), store_task(data), store_split(data),
           (long long)rendered.n_token, rendered.prompt_end);
    status = inspection_prose(&inspection, stdout, error);
  } else if (status == SS_OK) {
    printf("%s (example %lld of %lld, task %s, split %s), arm %s: ", example->id, (long long)options->index,
           (long long)store_n_example(data), store_task(data), store_split(data), arm_name(arm));
    span_write_policy(stdout, &inspection.policy);
    printf("\n%lld tokens, %d of them prompt; the queries of the %lld generated tokens read %lld rows\n\n",
           (long long)rendered.n_token, rendered.prompt_end,
           (long long)(rendered.n_token - rendered.prompt_end), (long long)inspection_rows(&inspection));
    status = inspection_show(&inspection, options->every_token, stdout, error);
    if (status == SS_OK)
      inspection_map(&inspection, stdout);
  }
  inspection_free(&inspection);
  rendering_free(&rendered);
  return status;
}

static ss_status inspect_file(const char *path, const inspect_options *options, const span_policy *policy,
                              ss_error *error) {
  char *format = NULL;
  SS_TRY(ss_hdf5_format(path, &format, error));
  bool dataset = strcmp(format, "selfspan-dataset") == 0;
  ss_status status = SS_OK;
  if (options->text && options->index == NO_INDEX)
    status = ss_fail(error, SS_ERROR_USAGE, "--text shows one example: expected --index N beside it");
  else if (!dataset && options->index != NO_INDEX)
    status = ss_fail(error, SS_ERROR_USAGE, "%s: --index needs a dataset, this is a %s", path, format);
  else if (!dataset)
    status = show_other(path, format, options, error);
  free(format);
  if (!dataset || status != SS_OK)
    return status;
  store *data = NULL;
  SS_TRY(store_open(&data, path, !options->no_verify, error));
  if (options->index == NO_INDEX) {
    status = show_dataset(data, options, path, error);
  } else if (options->index < 0 || options->index >= store_n_example(data)) {
    status = ss_fail(error, SS_ERROR_USAGE, "--index: %lld is out of range [0, %lld]",
                     (long long)options->index, (long long)store_n_example(data) - 1);
  } else {
    example example = {0};
    rendering annotated = {0};
    status = store_read(data, options->index, 1, &example, &annotated, error);
    if (status == SS_OK)
      status = show_example(data, options, policy, &example, &annotated, error);
    example_free(&example);
    rendering_free(&annotated);
  }
  store_close(data);
  return status;
}

static const char examples[] =
    "  selfspan inspect runs/quickstart/data/test.h5\n"
    "  selfspan inspect runs/quickstart/data/test.h5 --index 3\n"
    "  selfspan inspect FILE.h5 --index 3 --arm span --set span.choose=open --tokens\n"
    "  selfspan inspect runs/news/test.h5 --index 3 --text\n"
    "  selfspan inspect FILE.h5 --index 3 --json\n";

ss_status ss_command_inspect(int argc, char **argv, ss_error *error) {
  inspect_options options;
  memset(&options, 0, sizeof options);
  options.arm = "span";
  options.index = NO_INDEX;
  span_keys keys;
  memset(&keys, 0, sizeof keys);
  const ss_key_group groups[] = {{span_policy_keys, &keys}, {NULL, NULL}};
  const ss_option table[] =
      {{"index", SS_OPTION_INT, &options.index, "N", "show example N (from 0) instead of the file"},
       {"arm", SS_OPTION_STRING, &options.arm, "ARM", "dense, annotated or span (default span)"},
       {"set", SS_OPTION_LIST, &options.assignments, "KEY=VALUE", "a span.* key (repeatable)"},
       {"anchor-offset", SS_OPTION_INT, &options.anchor_offset, "K", "id of the first anchor (default 0)"},
       {"text", SS_OPTION_FLAG, &options.text, NULL,
        "long texts: the example as prose, with arrows from context to steps"},
       {"tokens", SS_OPTION_FLAG, &options.every_token, NULL,
        "a line a token instead of a line a header or body"},
       {"no-verify", SS_OPTION_FLAG, &options.no_verify, NULL, "do not compare the file with its hash"},
       {"json", SS_OPTION_FLAG, &options.json, NULL, "print JSON"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line =
      {"inspect",
       "Shows a file's summary, or an example: segments, references, what each token may read.",
       "selfspan inspect FILE.h5 [--index N] [options]",
       table,
       groups,
       examples};
  bool help = false;
  ss_string_list positionals = {NULL, 0};
  ss_status status = ss_cli_parse(&line, argc, argv, &positionals, &help, error);
  if (status == SS_OK && !help) {
    if (positionals.count != 1)
      status = ss_fail(error, SS_ERROR_USAGE, "inspect: %d files given, expected one", positionals.count);
    if (status == SS_OK)
      status = ss_cli_config(groups, NULL, &options.assignments, error);
    span_policy policy = span_keys_policy(&keys);
    if (status == SS_OK)
      status = inspect_file(positionals.items[0], &options, &policy, error);
  }
  ss_string_list_free(&positionals);
  ss_string_list_free(&options.assignments);
  return status;
}
