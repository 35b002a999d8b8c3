// selfspan bench decode: decoding steps over a long context, dense and at a visible fraction, on random weights.
// Planning, attention, the rest of the model and greedy sampling are all inside the measured step, which a device that
// can takes without the host. Beside each step stand its floor (bytes over the measured copy rate, or FLOPs over the
// measured rate of products) and its parts. With --replay: derivations of a dataset, their gold tokens forced.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench.h"
#include "commands/bench_decode.h"
#include "commands/device_options.h"
#include "common/cli.h"
#include "model/gpt.h"

#define HOST_STEPS 10  // of the host's way beside the device's own
#define DEFAULT_BATCH 8
#define UNSET INT64_MIN

// CPU: Hugging Face generate. CUDA: PyTorch, compiled, over as many rows as the dense arm's steps read on average.
static ss_status run_peer(const char *python, const decode_bench_options *o, const device_options *on,
                          json_t **report, ss_error *error) {
  bool cpu = strcmp(on->name, "cpu") == 0;
  const gpt_config *m = &o->model;
  const int64_t rows = o->context + o->warmup + (o->steps + 1) / 2;
  const int64_t generate[9] = {m->n_layer, m->n_embd,  m->n_head, m->vocab_size, m->n_positions,
                               o->batch,   o->context, o->steps,  on->threads};
  const int64_t compiled[9] = {m->n_layer, m->n_embd, m->n_head, m->vocab_size, o->batch,
                               rows,       o->steps,  o->warmup, on->threads};
  char text[9][32];
  char *arguments[11] = {0};
  for (int k = 0; k < 9; ++k) {
    snprintf(text[k], sizeof text[k], "%lld", (long long)(cpu ? generate[k] : compiled[k]));
    arguments[k] = text[k];
  }
  arguments[9] = cpu ? NULL : (char *)on->name;
  return bench_peer(python, cpu ? "tests/peers/hf_generate.py" : "tests/peers/torch_decode.py", arguments,
                    report, error);
}

// --- arms ---
typedef struct {
  decode_arm arm;
  int64_t run_length;  // what the views are made of
  bool host;           // beside steps on the device: the host's way too
  char name[48];
} arm_plan;

// Dense first: the others are compared with it. The host's way is measured for it and for the first run length.
static int list_arms(const decode_bench_options *o, arm_plan plans[DECODE_RUN_LENGTHS_MOST + 2]) {
  int n = 0;
  plans[n++] = (arm_plan){DECODE_ARM_DENSE, o->run_lengths[0], true, "dense"};
  if (o->mixed)
    plans[n++] = (arm_plan){DECODE_ARM_MIXED, o->run_lengths[0], false, "mixed"};
  for (int k = 0; k < o->n_run_length; ++k) {
    arm_plan *plan = &plans[n++];
    *plan = (arm_plan){DECODE_ARM_SPAN, o->run_lengths[k], k == 0, "span"};
    if (o->n_run_length > 1)
      snprintf(plan->name, sizeof plan->name, "span, runs of %lld", (long long)o->run_lengths[k]);
  }
  return n;
}

static int64_t visible_rows(const decode_work *work, const arm_plan *plan) {
  const decode_bench_options *o = work->options;
  return plan->arm == DECODE_ARM_SPAN ? o->visible_rows : work->listed_rows / o->batch;
}

// Steps that the host plans and samples. Beside those that the device takes alone, a few are enough.
static ss_status measure_host(decode_work *work, const arm_plan *plan, bool beside,
                              const bench_ceiling *rates, json_t *reports, ss_error *error) {
  const decode_bench_options *o = work->options;
  decode_bench_options fewer = *o;
  if (beside && fewer.steps > HOST_STEPS)
    fewer.steps = HOST_STEPS;
  char engine[80];
  snprintf(engine, sizeof engine, "selfspan %s%s", plan->name, beside ? " (host path)" : "");
  decode_timings timings = {0};
  work->options = &fewer;
  ss_status status = decode_time_steps(work, &timings, error);
  if (status == SS_OK)
    status = decode_time_parts(work, &timings, error);
  if (status == SS_OK && !beside)
    status = decode_check(work, error);
  if (status == SS_OK)
    json_array_append_new(reports, decode_host_json(work, engine, visible_rows(work, plan),
                                                    plan->arm == DECODE_ARM_DENSE ? 0 : plan->run_length,
                                                    &timings, rates));
  work->options = o;
  return status;
}

static ss_status measure_resident(decode_work *work, const arm_plan *plan, const bench_ceiling *rates,
                                  json_t *reports, ss_error *error) {
  char engine[80];
  snprintf(engine, sizeof engine, "selfspan %s", plan->name);
  decode_resident_timings timings = {0};
  SS_TRY(decode_measure_resident(work, &timings, error));
  json_array_append_new(reports, decode_resident_json(work, engine, visible_rows(work, plan),
                                                      plan->arm == DECODE_ARM_DENSE ? 0 : plan->run_length,
                                                      &timings, rates));
  return SS_OK;
}

static ss_status measure_arms(decode_work *work, const bench_ceiling *rates, json_t *reports,
                              ss_error *error) {
  const decode_bench_options *o = work->options;
  bool resident = decode_resident_serves(work);
  arm_plan plans[DECODE_RUN_LENGTHS_MOST + 2];
  int n = list_arms(o, plans);
  json_t *beside = json_array();
  ss_status status = SS_OK;
  for (int k = 0; k < n && status == SS_OK; ++k) {
    // The checks leave NaN in the rows that an arm does not select.
    if (k > 0)
      status = decode_fill_cache(work, error);
    decode_make_views(work, plans[k].arm, plans[k].run_length);
    if (status == SS_OK && (!resident || plans[k].host))
      status = measure_host(work, &plans[k], resident, rates, resident ? beside : reports, error);
    if (status == SS_OK && resident)
      status = measure_resident(work, &plans[k], rates, reports, error);
  }
  json_array_extend(reports, beside);
  json_decref(beside);
  return status;
}

static ss_status run_all(const decode_bench_options *options, ss_device *device, json_t *all,
                         ss_error *error) {
  decode_work work = {.options = options, .device = device};
  bench_ceiling rates;
  json_t *reports = json_array();
  ss_status status = bench_measure_ceiling(device, &rates, error);
  if (status == SS_OK)
    status = gpt_create(&work.model, device, &options->model, false, error);
  if (status == SS_OK)
    status = gpt_initialize(work.model, 1, error);
  if (status == SS_OK)
    status = decode_work_create(&work, error);
  if (status == SS_OK)
    status = measure_arms(&work, &rates, reports, error);
  if (status == SS_OK) {
    decode_costs costs = decode_count_costs(work.model, options->batch);
    json_t *about = json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:f}", "device", device->description,
                              "cache_dtype", device->compute == SS_BF16 ? "bf16" : "fp32", "parameters",
                              (json_int_t)gpt_n_parameter(work.model), "weight_bytes", costs.weight_bytes,
                              "kv_bytes_per_row", costs.kv_row_bytes, "copy_bytes_per_second",
                              rates.copy_bytes, "gemm_flops_per_second", rates.gemm_flops);
    json_object_update(all, about);
    json_decref(about);
  }
  json_object_set_new(all, "results", reports);
  decode_work_free(&work);
  gpt_free(work.model);
  return status;
}

// --- options ---
static ss_status parse_run_lengths(const char *text, decode_bench_options *o, ss_error *error) {
  const char *rest = text;
  while (o->n_run_length == 0 || *rest != '\0') {
    size_t length = strcspn(rest, ",");
    char one[24];
    if (o->n_run_length == DECODE_RUN_LENGTHS_MOST || length >= sizeof one)
      return ss_fail(error, SS_ERROR_USAGE, "--run-length %s: up to %d lengths, separated by commas", text,
                     DECODE_RUN_LENGTHS_MOST);
    snprintf(one, sizeof one, "%.*s", (int)length, rest);
    SS_TRY(ss_parse_int(one, 1, INT32_MAX, &o->run_lengths[o->n_run_length++], "--run-length", error));
    rest += length + (rest[length] == ',');
  }
  return SS_OK;
}

ss_status decode_check_block(const gpt_config *m, ss_error *error) {
  if (m->n_kv_head != m->n_head || m->n_ff != 4 * m->n_embd || m->norm != SS_NORM_LAYER ||
      m->position != GPT_POSITION_LEARNED || m->activation != SS_ACTIVATION_GELU || !m->bias)
    return ss_fail(error, SS_ERROR_USAGE,
                   "--peer measures GPT-2's block; leave other model keys than n_layer, "
                   "n_embd, n_head, vocab_size and n_positions out");
  return SS_OK;
}

static ss_status check_options(decode_bench_options *o, const char *peer, ss_error *error) {
  if (o->batch < 1 || o->context < 1 || o->steps < 1 || o->warmup < 0)
    return ss_fail(error, SS_ERROR_USAGE, "--batch, --context and --steps must be positive");
  if (o->visible_rows != 0 && !isnan(o->visible))
    return ss_fail(error, SS_ERROR_USAGE, "--visible and --visible-rows say the same; give one of them");
  if (o->visible_rows == 0) {
    o->visible = isnan(o->visible) ? 0.1 : o->visible;
    if (!(o->visible > 0 && o->visible < 1))
      return ss_fail(error, SS_ERROR_USAGE, "--visible must lie between 0 and 1, both excluded");
    o->visible_rows = llround(o->visible * (double)o->context);
  } else if (o->visible_rows < 1 || o->visible_rows >= o->context) {
    return ss_fail(error, SS_ERROR_USAGE, "--visible-rows must lie between 1 and --context - 1, %lld",
                   (long long)o->context - 1);
  }
  if (o->mixed && o->batch < 2)
    return ss_fail(error, SS_ERROR_USAGE, "--mixed needs a --batch of 2 or more");
  if (o->context + o->warmup + o->steps >= o->model.n_positions)
    return ss_fail(error, SS_ERROR_LIMIT, "context %lld + %lld steps do not fit model.n_positions %lld",
                   (long long)o->context, (long long)(o->warmup + o->steps), (long long)o->model.n_positions);
  SS_TRY(gpt_config_resolve(&o->model, error));
  return peer == NULL ? SS_OK : decode_check_block(&o->model, error);
}

// --- the command ---
static ss_status run_steps(decode_bench_options *options, const device_options *on, const char *peer_python,
                           bool json, ss_error *error) {
  SS_TRY(check_options(options, peer_python, error));
  ss_device *device = NULL;
  SS_TRY(device_options_open(&device, on, error));
  json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "device", device->description, "batch",
                          (json_int_t)options->batch, "context", (json_int_t)options->context, "run_length",
                          (json_int_t)options->run_lengths[0], "steps", (json_int_t)options->steps, "warmup",
                          (json_int_t)options->warmup);
  ss_status status = run_all(options, device, all, error);
  ss_device_close(device);
  bool measured = status == SS_OK;
  if (measured && peer_python != NULL) {
    json_t *peer = NULL;
    status = run_peer(peer_python, options, on, &peer, error);
    if (status == SS_OK)
      json_array_append_new(json_object_get(all, "results"), peer);
  }
  // Our figures are printed though the peer failed.
  ss_error printing = {0};
  if (measured && json) {
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
  } else if (measured) {
    ss_status printed = decode_print(all, options, &printing);
    if (status == SS_OK && printed != SS_OK)
      *error = printing, status = printed;
  }
  json_decref(all);
  return status;
}

// Whether a key that begins so is set on the command line.
static bool is_set(int argc, char **argv, const char *key) {
  for (int k = 1; k < argc; ++k) {
    const char *text = strncmp(argv[k], "--set=", 6) == 0 ? argv[k] + 6 : argv[k];
    if (strncmp(text, key, strlen(key)) == 0)
      return true;
  }
  return false;
}

// Options of the other kind of measurement have no meaning here.
static ss_status refuse_options(int argc, char **argv, const char *const *names, const char *why,
                                ss_error *error) {
  for (; *names != NULL; ++names)
    for (int k = 1; k < argc; ++k) {
      size_t length = strlen(*names);
      if (strncmp(argv[k], *names, length) == 0 && (argv[k][length] == '\0' || argv[k][length] == '='))
        return ss_fail(error, SS_ERROR_USAGE, "%s %s", *names, why);
    }
  return SS_OK;
}

ss_status bench_decode_command(int argc, char **argv, ss_error *error) {
  decode_bench_options options = {.batch = UNSET, .context = 2048, .steps = 64, .warmup = 8, .visible = NAN};
  device_options on = DEVICE_DEFAULTS;
  decode_replay_options replay = {.arms = "dense,annotated,span", .on = &on};
  const char *peer_python = NULL, *run_lengths = "16";
  bool json = false, help = false;
  span_keys span;
  ss_key_group groups[] = {{gpt_config_keys, &options.model}, {span_policy_keys, &span}, {NULL, NULL}};
  ss_string_list assignments = {0};
  const ss_option table[] =
      {{"batch", SS_OPTION_INT, &options.batch, "N", "sequences (8; with --replay: the most that fit)"},
       {"context", SS_OPTION_INT, &options.context, "ROWS", "rows already in every cache slab (2048)"},
       {"visible", SS_OPTION_REAL, &options.visible, "F",
        "fraction of the context that the span arm reads (0.1)"},
       {"visible-rows", SS_OPTION_INT, &options.visible_rows, "N", "the same as a number of rows"},
       {"run-length", SS_OPTION_STRING, &run_lengths, "ROWS,...",
        "rows of a contiguous visible run; the span arm is measured for each (16)"},
       {"mixed", SS_OPTION_FLAG, &options.mixed, NULL, "also a batch of which half is dense"},
       {"set", SS_OPTION_LIST, &assignments, "KEY=VALUE",
        "a model.* key (below; default: 6 layers, 384 wide, 6 heads), or with --replay a span.* key"},
       {"steps", SS_OPTION_INT, &options.steps, "N", "timed steps (64)"},
       {"warmup", SS_OPTION_INT, &options.warmup, "N", "untimed steps before (8)"},
       {"replay", SS_OPTION_STRING, &replay.folder, "DIR",
        "instead: decode DIR/test.h5 in every arm with its gold tokens forced (model.vocab_size 0: the "
        "data's)"},
       {"examples", SS_OPTION_INT, &replay.examples, "N", "with --replay: the first N; 0: all (0)"},
       {"arms", SS_OPTION_STRING, &replay.arms, "NAME,...", "with --replay (dense,annotated,span)"},
       DEVICE_OPTIONS(on),
       {"peer", SS_OPTION_STRING, &peer_python, "PYTHON",
        "also run, with this interpreter, Hugging Face generate (CPU; needs torch and transformers) or "
        "PyTorch "
        "compiled into a CUDA graph (CUDA; needs torch)"},
       {"json", SS_OPTION_FLAG, &json, NULL, "one JSON object instead of the tables"},
       {NULL, SS_OPTION_FLAG, NULL, NULL, NULL}};
  const ss_command_line line = {"bench decode",
                                "Times decoding steps over a long context.",
                                "selfspan bench decode [options]",
                                table,
                                groups,
                                "  selfspan bench decode --device cpu\n"
                                "  selfspan bench decode --visible 0.25 --run-length 64 --peer python3\n"
                                "  selfspan bench decode --device cuda --batch 256 --context 1024 "
                                "--visible-rows 128 --mixed\n"
                                "  selfspan bench decode --device cuda --replay runs/wide\n"};
  ss_status status = bench_parse(&line, argc, argv, &options.model, &assignments, &help, error);
  if (status != SS_OK || help)
    return status;
  static const char *const of_steps[] = {"--context", "--visible", "--visible-rows", "--run-length",
                                         "--mixed",   "--steps",   "--warmup",       NULL};
  static const char *const of_replay[] = {"--examples", "--arms", NULL};
  if (replay.folder != NULL) {
    SS_TRY(refuse_options(argc, argv, of_steps, "is not for --replay, whose data say what is read", error));
    if (replay.examples < 0 || (options.batch != UNSET && options.batch < 1))
      return ss_fail(error, SS_ERROR_USAGE, "--examples and --batch must be positive");
    replay.batch = options.batch == UNSET ? 0 : options.batch;
    replay.model = options.model;
    if (!is_set(argc, argv, "model.vocab_size="))
      replay.model.vocab_size = 0;
    replay.policy = span_keys_policy(&span);
    replay.peer = peer_python;
    replay.json = json;
    return decode_replay(&replay, error);
  }
  SS_TRY(refuse_options(argc, argv, of_replay, "needs --replay", error));
  if (is_set(argc, argv, "span."))
    return ss_fail(error, SS_ERROR_USAGE, "a span.* key needs --replay");
  SS_TRY(parse_run_lengths(run_lengths, &options, error));
  if (options.batch == UNSET)
    options.batch = DEFAULT_BATCH;
  return run_steps(&options, &on, peer_python, json, error);
}
