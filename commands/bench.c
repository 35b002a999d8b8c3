#include "commands/bench.h"

#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands/commands.h"
#include "common/cli.h"
#include "common/memory.h"
#include "common/progress.h"

extern char **environ;

static int compare_doubles(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

void bench_summarize(double *seconds, int64_t n, bench_timing *timing) {
  qsort(seconds, (size_t)n, sizeof *seconds, compare_doubles);
  timing->repeats = n;
  timing->median = 0.5 * (seconds[(n - 1) / 2] + seconds[n / 2]);
  timing->low = seconds[(int64_t)floor(0.1 * (double)(n - 1))];
  timing->high = seconds[(int64_t)ceil(0.9 * (double)(n - 1))];
}

ss_status bench_time(bench_work work, void *user, int64_t warmup, int64_t repeats, bench_timing *timing,
                     ss_error *error) {
  double *seconds = NULL;
  SS_TRY(ss_allocate(&seconds, repeats, sizeof *seconds, "timings", error));
  ss_status status = SS_OK;
  for (int64_t k = -warmup; k < repeats && status == SS_OK; ++k) {
    double start = ss_seconds();
    status = work(user, error);
    if (k >= 0)
      seconds[k] = ss_seconds() - start;
  }
  if (status == SS_OK)
    bench_summarize(seconds, repeats, timing);
  free(seconds);
  return status;
}

json_t *bench_timing_json(const bench_timing *timing) {
  return json_pack("{s:f, s:f, s:f, s:I}", "median_seconds", timing->median, "p10_seconds", timing->low,
                   "p90_seconds", timing->high, "repeats", (json_int_t)timing->repeats);
}

// Everything the child writes to the pipe, zero-terminated.
static ss_status read_all(int descriptor, char **out, ss_error *error) {
  int64_t capacity = 0, n = 0;
  for (;;) {
    SS_TRY(ss_grow(out, &capacity, n + 4096, 1, "peer output", error));
    ssize_t got = read(descriptor, *out + n, 4095);
    if (got < 0)
      return ss_fail_errno(error, SS_ERROR_IO, "reading the peer's output");
    (*out)[n + got] = 0;
    if (got == 0)
      return SS_OK;
    n += got;
  }
}

static ss_status last_line_json(char *text, const char *script, json_t **out, ss_error *error) {
  size_t n = strlen(text);
  while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
    text[--n] = 0;
  char *line = strrchr(text, '\n');
  json_error_t failure;
  *out = json_loads(line == NULL ? text : line + 1, 0, &failure);
  if (!json_is_object(*out))
    return ss_fail(error, SS_ERROR_INPUT, "%s: expected a JSON object on the last line of its output",
                   script);
  return SS_OK;
}

ss_status bench_peer(const char *python, const char *script, char *const *arguments, json_t **out,
                     ss_error *error) {
  int count = 0;
  while (arguments[count] != NULL)
    ++count;
  char **line = NULL;
  SS_TRY(ss_allocate(&line, count + 3, sizeof *line, "peer arguments", error));
  line[0] = (char *)python;
  line[1] = (char *)script;
  memcpy(line + 2, arguments, (size_t)count * sizeof *line);
  int ends[2];
  pid_t child = 0;
  posix_spawn_file_actions_t actions;
  if (pipe(ends) != 0) {
    free(line);
    return ss_fail_errno(error, SS_ERROR_IO, "pipe for %s", script);
  }
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  int failed = posix_spawnp(&child, python, &actions, NULL, line, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  free(line);
  char *text = NULL;
  ss_status status = SS_OK;
  if (failed != 0) {
    status = ss_fail(error, SS_ERROR_IO, "cannot start the peer with %s: %s", python, strerror(failed));
  } else {
    status = read_all(ends[0], &text, error);
    int exit_status = 0;
    waitpid(child, &exit_status, 0);
    if (status == SS_OK && !(WIFEXITED(exit_status) && WEXITSTATUS(exit_status) == 0))
      status = ss_fail(error, SS_ERROR_IO, "the peer %s %s failed", python, script);
    if (status == SS_OK)
      status = last_line_json(text, script, out, error);
  }
  close(ends[0]);
  free(text);
  return status;
}

ss_status bench_parse(const ss_command_line *line, int argc, char **argv, gpt_config *model,
                      ss_string_list *assignments, bool *help, ss_error *error) {
  SS_TRY(ss_config_defaults(line->groups, error));
  model->n_layer = 6;
  model->n_embd = 384;
  model->n_head = 6;
  model->n_kv_head = model->n_ff = 0;
  model->vocab_size = 512;
  model->n_positions = 2560;
  model->norm = SS_NORM_LAYER;
  model->position = GPT_POSITION_LEARNED;
  model->activation = SS_ACTIVATION_GELU;
  model->bias = true;
  ss_status status = ss_cli_parse(line, argc, argv, NULL, help, error);
  for (int k = 0; k < assignments->count && status == SS_OK && !*help; ++k)
    status = ss_config_set(line->groups, assignments->items[k], "--set", error);
  ss_string_list_free(assignments);
  return status;
}

static const char usage[] =
    "usage: selfspan bench train|losses|attention|decode [options]\n"
    "\n"
    "  train      forward + backward + AdamW of a GPT shape: tokens/s, beside PyTorch with --peer\n"
    "  losses     training losses against PyTorch's in fp32 and bf16, same start and data\n"
    "  attention  attention alone, forward and backward, under a mask: time, planning, checked against the "
    "CPU\n"
    "  decode     decoding steps over a long context, dense and at a visible fraction: tokens/s\n"
    "\n"
    "Each prints what it ran, medians and spread; --json for machines; --help for its options.\n"
    "\n"
    "examples:\n"
    "  selfspan bench train --device cpu\n"
    "  selfspan bench train --device cpu --peer python3\n"
    "  selfspan bench attention --device cuda --segment 32\n"
    "  selfspan bench decode --device cpu --context 2048 --visible 0.1 --batch 8\n";

ss_status ss_command_bench(int argc, char **argv, ss_error *error) {
  static const char *const names[] = {"train", "losses", "attention", "decode"};
  if (argc >= 2 && strcmp(argv[1], "train") == 0)
    return bench_train_command(argc - 1, argv + 1, error);
  if (argc >= 2 && strcmp(argv[1], "losses") == 0)
    return bench_losses_command(argc - 1, argv + 1, error);
  if (argc >= 2 && strcmp(argv[1], "attention") == 0)
    return bench_attention_command(argc - 1, argv + 1, error);
  if (argc >= 2 && strcmp(argv[1], "decode") == 0)
    return bench_decode_command(argc - 1, argv + 1, error);
  if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    fputs(usage, stdout);
    return argc < 2 ? ss_fail(error, SS_ERROR_USAGE, "expected train, losses, attention or decode") : SS_OK;
  }
  const char *nearest = ss_nearest(argv[1], names, 4);
  return ss_fail(error, SS_ERROR_USAGE,
                 "unknown benchmark '%s'%s%s%s; expected train, losses, attention or decode", argv[1],
                 nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "");
}
