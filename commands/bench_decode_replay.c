// selfspan bench decode --replay: a dataset's test split decoded in every arm with its gold tokens forced, on random
// weights: the work of real derivations, the same in every run. Beside each arm stands the least time that its bytes and
// FLOPs take. All arms have the same slots.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/bench_decode.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/progress.h"
#include "data/store.h"
#include "infer/capacity.h"
#include "infer/decoder.h"

#define BLOCK_EXAMPLES 64
#define HOST_SLOTS 32  // on the CPU

typedef struct {
  const decode_replay_options *options;
  ss_device *device;
  gpt_config config;
  gpt *model;
  store *data;
  vocabulary *vocabulary;  // the data's, as large as the model's
  int64_t n_example, batch, longest;
  rendering *annotated;  // [n_example]
  rendering *arm;        // [n_example] the same examples in the arm under way
  // One run of the decoder.
  int64_t next, end;
  bool prompts_alone;  // each sequence ends behind its prompt
} decode_replay_run;

// --- the examples ---
static ss_status read_examples(decode_replay_run *run, ss_error *error) {
  int64_t total = store_n_example(run->data);
  run->n_example = run->options->examples > 0 ? run->options->examples : total;
  if (run->n_example > total || run->n_example < 1)
    return ss_fail(error, SS_ERROR_INPUT, "%s holds %lld examples, expected at least %lld",
                   store_path(run->data), (long long)total, (long long)run->n_example);
  SS_TRY(ss_allocate(&run->annotated, run->n_example, sizeof *run->annotated, "examples", error));
  SS_TRY(ss_allocate(&run->arm, run->n_example, sizeof *run->arm, "examples", error));
  example *block = NULL;
  SS_TRY(ss_allocate(&block, BLOCK_EXAMPLES, sizeof *block, "examples", error));
  ss_status status = SS_OK;
  for (int64_t first = 0; first < run->n_example && status == SS_OK; first += BLOCK_EXAMPLES) {
    int64_t left = run->n_example - first, count = left < BLOCK_EXAMPLES ? left : BLOCK_EXAMPLES;
    status = store_read(run->data, first, count, block, run->annotated + first, error);
  }
  for (int k = 0; k < BLOCK_EXAMPLES; ++k)
    example_free(&block[k]);
  free(block);
  for (int64_t i = 0; i < run->n_example; ++i)
    run->longest = run->annotated[i].n_token > run->longest ? run->annotated[i].n_token : run->longest;
  return status;
}

static ss_status render(decode_replay_run *run, arm arm, ss_error *error) {
  for (int64_t i = 0; i < run->n_example; ++i)
    SS_TRY(render_arm(&run->arm[i], &run->annotated[i], arm, store_vocabulary(run->data), 0, error));
  return SS_OK;
}

// --- the batch ---
// The most slots that the memory holds. Slots are filled again as they fall free, so a number of examples a little below a
// multiple of them leaves the fewest idle at the end.
static ss_status choose_batch(decode_replay_run *run, ss_error *error) {
  int64_t most = run->n_example;
  run->batch = run->options->batch;
  if (run->batch > 0)
    return SS_OK;
  int64_t fitting = HOST_SLOTS;
  if (!run->device->synchronous)
    SS_TRY(decode_room(&fitting, run->model, run->longest, error));
  most = most < fitting ? most : fitting;
  run->batch = most < 1 ? 1 : most;
  return SS_OK;
}

// --- one arm ---
static ss_status next_request(void *user, decode_request *request, bool *done, ss_error *error) {
  decode_replay_run *run = user;
  (void)error;
  *done = run->next == run->end;
  if (*done)
    return SS_OK;
  const rendering *text = &run->arm[run->next];
  int64_t first = run->prompts_alone ? text->n_token - 1 : text->prompt_end;  // the last is the end itself
  *request = (decode_request){.index = run->next++,
                              .prompt = text->tokens,
                              .n_prompt = text->prompt_end,
                              .preamble_end = text->layout.preamble_end,
                              .gold = text->tokens + first,
                              .n_gold = (int32_t)(text->n_token - first)};
  return SS_OK;
}

static ss_status take_result(void *user, const decode_result *result, ss_error *error) {
  const decode_replay_run *run = user;
  const rendering *text = &run->arm[result->index];
  if (!run->prompts_alone &&
      (result->n_token != text->n_token || result->stop != DECODE_STOP_EOS ||
       memcmp(result->tokens, text->tokens, (size_t)text->n_token * sizeof *text->tokens) != 0))
    return ss_fail(error, SS_ERROR_INTERNAL, "example %lld was not replayed: %d tokens of %lld",
                   (long long)result->index, result->n_token, (long long)text->n_token);
  return SS_OK;
}

static ss_status run_decoder(decode_replay_run *run, decoder *decoder, int64_t n_example,
                             decode_statistics *statistics, double *wall, ss_error *error) {
  run->next = 0;
  run->end = n_example;
  double start = ss_seconds();
  SS_TRY(decoder_run(decoder, next_request, take_result, run, statistics, error));
  *wall = ss_seconds() - start;
  if (statistics->n_sequence != n_example)
    return ss_fail(error, SS_ERROR_INTERNAL, "%lld of %lld examples were replayed",
                   (long long)statistics->n_sequence, (long long)n_example);
  return SS_OK;
}

// What a device loads and chooses once, by time, is no arm's: a round of all slots, then a prefill of each number of
// prompts.
static ss_status warm_up(decode_replay_run *run, decoder *decoder, ss_error *error) {
  decode_statistics statistics = {0};
  double wall;
  int64_t few = run->n_example < run->batch ? run->n_example : run->batch, n_token = 0;
  if (run->device->synchronous)
    return SS_OK;
  SS_TRY(run_decoder(run, decoder, few, &statistics, &wall, error));
  run->prompts_alone = true;
  ss_status status = SS_OK;
  for (int64_t n = 1; n <= few && n_token < DECODE_PREFILL_TOKENS && status == SS_OK; ++n) {
    n_token += run->arm[n - 1].prompt_end;
    statistics = (decode_statistics){0};
    status = run_decoder(run, decoder, n, &statistics, &wall, error);
  }
  run->prompts_alone = false;
  return status;
}

static json_t *arm_json(const decode_replay_run *run, arm arm, const decoder *decoder,
                        const decode_statistics *s, double wall, const bench_ceiling *rates) {
  decode_floor floor = decode_floor_of(run->model, run->batch, s, rates);
  double n = (double)s->n_sequence, tokens = (double)(s->generated_tokens - s->n_sequence);
  double rows = (double)s->decode_attended_rows;
  double seconds = s->prefill_seconds + s->decode_seconds;
  char engine[64];
  snprintf(engine, sizeof engine, "selfspan %s", arm_name(arm));
  json_t *report = json_pack(
      "{s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:f, s:I, s:f}", "engine", engine,
      "decoder", decoder_description(decoder), "examples", (json_int_t)s->n_sequence, "examples_per_second",
      n / seconds, "decode_examples_per_second", n / s->decode_seconds, "tokens_per_second",
      tokens / s->decode_seconds, "prefill_seconds", s->prefill_seconds, "decode_seconds", s->decode_seconds,
      "wall_seconds", wall, "host_share", s->host_seconds / seconds, "steps", (json_int_t)s->steps,
      "generated_tokens", (json_int_t)s->generated_tokens, "slots_filled",
      tokens / (double)(s->steps * run->batch), "rows_per_token", rows / (double)s->generated_tokens,
      "kv_bytes_read", (json_int_t)s->kv_bytes_read, "kv_gigabytes_per_second",
      (double)s->kv_bytes_read / s->decode_seconds * 1e-9);
  json_object_set_new(report, "floor",
                      json_pack("{s:f, s:f, s:f, s:f, s:s, s:f}", "bytes", floor.bytes, "flops", floor.flops,
                                "decode_seconds", floor.decode_seconds, "prefill_seconds",
                                floor.prefill_seconds, "bound",
                                floor.by_copies ? "copy rate" : "product rate", "examples_per_second",
                                floor.examples_per_second));
  json_object_set_new(report, "percent_of_ceiling",
                      json_real(100 * (floor.decode_seconds + floor.prefill_seconds) / seconds));
  json_object_set_new(report, "decode_percent_of_ceiling",
                      json_real(100 * floor.decode_seconds / s->decode_seconds));
  return report;
}

static ss_status measure_arm(decode_replay_run *run, arm arm, const bench_ceiling *rates, json_t *reports,
                             ss_error *error) {
  decode_options options = {.max_batch = run->batch, .top_p = 1, .control = DECODE_REPLAY};
  decode_statistics statistics = {0};
  double wall = 0;
  decoder *decoder = NULL;
  SS_TRY(render(run, arm, error));
  SS_TRY(decoder_create(&decoder, run->model, run->vocabulary, arm, &run->options->policy, &options,
                        run->longest, error));
  ss_status status = warm_up(run, decoder, error);
  if (status == SS_OK)
    status = run_decoder(run, decoder, run->n_example, &statistics, &wall, error);
  if (status == SS_OK)
    json_array_append_new(reports, arm_json(run, arm, decoder, &statistics, wall, rates));
  decoder_free(decoder);
  return status;
}

// --- the peer ---
static ss_status write_lengths(decode_replay_run *run, const char *path, ss_error *error) {
  SS_TRY(render(run, ARM_DENSE, error));
  json_t *prompts = json_array(), *generated = json_array();
  for (int64_t i = 0; i < run->n_example; ++i) {
    json_array_append_new(prompts, json_integer(run->arm[i].prompt_end));
    json_array_append_new(generated, json_integer(run->arm[i].n_token - run->arm[i].prompt_end));
  }
  json_t *lengths = json_pack("{s:o, s:o}", "prompt", prompts, "generated", generated);
  char *text = json_dumps(lengths, JSON_COMPACT);
  ss_status status = ss_write_file(path, text, strlen(text), error);
  free(text);
  json_decref(lengths);
  return status;
}

// PyTorch decodes the dense arm's streams.
static ss_status run_peer(decode_replay_run *run, json_t *reports, ss_error *error) {
  const gpt_config *m = &run->config;
  const char *folder = getenv("TMPDIR");
  char *path = NULL, text[6][32];
  SS_TRY(ss_format(&path, error, "%s/selfspan-replay-%ld.json", folder ? folder : "/tmp", (long)getpid()));
  const int64_t numbers[6] = {m->n_layer,    m->n_embd,  m->n_head,
                              m->vocab_size, run->batch, run->options->on->threads};
  char *arguments[9] = {path};
  for (int k = 0; k < 6; ++k) {
    snprintf(text[k], sizeof text[k], "%lld", (long long)numbers[k]);
    arguments[k + 1] = text[k];
  }
  arguments[7] = (char *)run->options->on->name;
  json_t *report = NULL;
  ss_status status = write_lengths(run, path, error);
  if (status == SS_OK)
    status = bench_peer(run->options->peer, "tests/peers/torch_replay.py", arguments, &report, error);
  if (status == SS_OK)
    json_array_append_new(reports, report);
  unlink(path);
  free(path);
  return status;
}

// --- printing ---
static ss_status print(const json_t *all, ss_error *error) {
  static const char *const columns[13] = {"engine",    "examples/s", "x dense",      "tokens/s",
                                          "decode s",  "prefill s",  "rows/token",   "KV GB read",
                                          "KV GB/s",   "ceiling",    "% of ceiling", "decode alone %",
                                          "slots full"};
  const json_t *reports = json_object_get(all, "replay");
  ss_table *table = NULL;
  printf("%lld examples of %s, %lld slots of %lld rows, gold tokens forced\n%s\n",
         (long long)json_integer_value(json_object_get(all, "examples")),
         json_string_value(json_object_get(all, "data")),
         (long long)json_integer_value(json_object_get(all, "batch")),
         (long long)json_integer_value(json_object_get(all, "longest")),
         json_string_value(json_object_get(all, "device")));
  SS_TRY(ss_table_create(&table, columns, 13, error));
  double first = json_number_value(json_object_get(json_array_get(reports, 0), "examples_per_second"));
  size_t index;
  json_t *report;
  json_array_foreach((json_t *)reports, index, report) {
    ss_table_row(table, error);
    ss_table_cell(table, error, "%s", json_string_value(json_object_get(report, "engine")));
    decode_number_cell(table, "%.2f", 1, report, "examples_per_second", error);
    decode_number_cell(table, "%.2f", 1 / first, report, "examples_per_second", error);
    decode_number_cell(table, "%.0f", 1, report, "tokens_per_second", error);
    decode_number_cell(table, "%.3f", 1, report, "decode_seconds", error);
    decode_number_cell(table, "%.3f", 1, report, "prefill_seconds", error);
    decode_number_cell(table, "%.1f", 1, report, "rows_per_token", error);
    decode_number_cell(table, "%.2f", 1e-9, report, "kv_bytes_read", error);
    decode_number_cell(table, "%.1f", 1, report, "kv_gigabytes_per_second", error);
    decode_number_cell(table, "%.2f", 1, json_object_get(report, "floor"), "examples_per_second", error);
    decode_number_cell(table, "%.1f", 1, report, "percent_of_ceiling", error);
    decode_number_cell(table, "%.1f", 1, report, "decode_percent_of_ceiling", error);
    decode_number_cell(table, "%.2f", 1, report, "slots_filled", error);
  }
  ss_table_print(table, stdout);
  ss_table_free(table);
  printf("ceiling: every step with full slots at its floor (tokens over slots; idle slots at the end are not "
         "counted), prompts at the rate of products; copy %.1f GB/s, products %.2f TFLOP/s\n",
         1e-9 * json_number_value(json_object_get(all, "copy_bytes_per_second")),
         1e-12 * json_number_value(json_object_get(all, "gemm_flops_per_second")));
  return error->status;
}

// --- the command's part ---
static ss_status parse_arms(const char *text, bool wanted[N_ARM], ss_error *error) {
  do {
    size_t length = strcspn(text, ",");
    char name[24];
    arm one;
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), text);
    SS_TRY(arm_from_name(name, &one, error));
    wanted[one] = true;
    text += length + (text[length] == ',');
  } while (*text != '\0');
  return SS_OK;
}

static ss_status open_model(decode_replay_run *run, ss_error *error) {
  gpt_config *config = &run->config;
  int64_t known = vocabulary_size(store_vocabulary(run->data));
  *config = run->options->model;
  config->n_positions = run->longest;
  if (config->vocab_size == 0)
    config->vocab_size = known;
  if (config->vocab_size < known)
    return ss_fail(error, SS_ERROR_USAGE, "model.vocab_size %lld is less than the dataset's %lld tokens",
                   (long long)config->vocab_size, (long long)known);
  SS_TRY(gpt_config_resolve(config, error));
  if (run->options->peer != NULL)
    SS_TRY(decode_check_block(config, error));
  SS_TRY(gpt_create(&run->model, run->device, config, false, error));
  return gpt_initialize(run->model, 1, error);
}

// Where the model has more tokens than the data, they are anchors that no text uses: they are the last ids.
static ss_status make_vocabulary(decode_replay_run *run, ss_error *error) {
  const vocabulary *own = store_vocabulary(run->data);
  int64_t more = run->config.vocab_size - vocabulary_size(own);
  json_t *json = vocabulary_json(own);
  json_object_set_new(json, "n_anchor", json_integer(vocabulary_span_tokens(own)->n_anchor + more));
  ss_status status = vocabulary_from_json(&run->vocabulary, json, "a vocabulary of the model's size", error);
  json_decref(json);
  return status;
}

static ss_status measure(decode_replay_run *run, const bool wanted[N_ARM], json_t *all, json_t *reports,
                         ss_error *error) {
  bench_ceiling rates;
  SS_TRY(read_examples(run, error));
  SS_TRY(device_options_open(&run->device, run->options->on, error));
  SS_TRY(bench_measure_ceiling(run->device, &rates, error));
  SS_TRY(open_model(run, error));
  SS_TRY(make_vocabulary(run, error));
  SS_TRY(choose_batch(run, error));
  for (int k = 0; k < N_ARM; ++k)
    if (wanted[k])
      SS_TRY(measure_arm(run, (arm)k, &rates, reports, error));
  json_t *about = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "device",
                            run->device->description, "data", store_path(run->data), "examples",
                            (json_int_t)run->n_example, "batch", (json_int_t)run->batch, "longest",
                            (json_int_t)run->longest, "parameters", (json_int_t)gpt_n_parameter(run->model),
                            "vocab_size", (json_int_t)gpt_get_config(run->model)->vocab_size,
                            "copy_bytes_per_second", rates.copy_bytes, "gemm_flops_per_second",
                            rates.gemm_flops);
  json_object_update(all, about);
  json_decref(about);
  return SS_OK;
}

static void free_renderings(rendering *renderings, int64_t n) {
  for (int64_t i = 0; renderings != NULL && i < n; ++i)
    rendering_free(&renderings[i]);
  free(renderings);
}

// What the device holds is given back before a peer uses it.
static void close_device(decode_replay_run *run) {
  gpt_free(run->model);
  run->model = NULL;
  if (run->device != NULL)
    ss_device_close(run->device);
  run->device = NULL;
}

ss_status decode_replay(const decode_replay_options *options, ss_error *error) {
  decode_replay_run run = {.options = options};
  bool wanted[N_ARM] = {false};
  char *path = NULL;
  json_t *all = json_object(), *reports = json_array();
  ss_status status = parse_arms(options->arms, wanted, error);
  if (status == SS_OK)
    status = ss_format(&path, error, "%s/test.h5", options->folder);
  if (status == SS_OK)
    status = store_open(&run.data, path, true, error);
  if (status == SS_OK)
    status = measure(&run, wanted, all, reports, error);
  close_device(&run);
  bool measured = status == SS_OK;
  if (measured && options->peer != NULL)
    status = run_peer(&run, reports, error);
  json_object_set_new(all, "replay", reports);
  // Our figures are printed though the peer failed.
  ss_error printing = {0};
  if (measured && options->json) {
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
  } else if (measured) {
    ss_status printed = print(all, &printing);
    if (status == SS_OK && printed != SS_OK)
      *error = printing, status = printed;
  }
  json_decref(all);
  free_renderings(run.annotated, run.n_example);
  free_renderings(run.arm, run.n_example);
  vocabulary_free(run.vocabulary);
  store_close(run.data);
  free(path);
  return status;
}
