// The training loop: resumed runs equal undisturbed ones bit for bit, wherever they were stopped; threads do not
// matter; steps that are not finite are skipped; accumulation, early stopping and starting from a base.
#include "train_fixture.h"

#include "late_device.h"
#include "train/folder.h"
#include "train/model_file.h"

#define STEPS 12

// A run's outcome and curve, to compare others with.
typedef struct {
  train_outcome outcome;
  char *metrics;
} curve;

static curve undisturbed(const char *name) {
  train_fixture fixture;
  curve made;
  train_fixture_open(&fixture, name, STEPS, 1);
  train_fixture_finish(&fixture, &made.outcome);
  made.metrics = train_fixture_metrics(&fixture);
  train_fixture_close(&fixture);
  return made;
}

static void assert_same_run(const curve *expected, const train_fixture *fixture,
                            const train_outcome *outcome) {
  assert_string_equal(outcome->parameters_hash, expected->outcome.parameters_hash);
  assert_int_equal(outcome->examples, expected->outcome.examples);
  assert_int_equal(outcome->tokens, expected->outcome.tokens);
  assert_int_equal(outcome->targets, expected->outcome.targets);
  assert_true(outcome->validation_loss == expected->outcome.validation_loss);
  assert_true(outcome->validation_accuracy == expected->outcome.validation_accuracy);
  assert_true(outcome->validation_score == expected->outcome.validation_score);
  char *metrics = train_fixture_metrics(fixture);
  assert_string_equal(metrics, expected->metrics);
  free(metrics);
}

// --- resume ------------------------------------------------------------------------------------------------

// Stopped in the middle of every micro-batch in turn: at once after the first of a step (whose work is dropped) and
// after the last (whose step counts).
static void resume_after_any_micro_batch(void **state) {
  (void)state;
  ss_error error = {0};
  curve whole = undisturbed("undisturbed");
  for (int64_t pass = 1; pass < 2 * STEPS; pass++) {
    train_fixture fixture;
    train_outcome outcome;
    char name[32], part[64];
    snprintf(name, sizeof name, "stopped_%lld", (long long)pass);
    train_fixture_open(&fixture, name, STEPS, 1);
    fixture.sabotage.stop_at = pass;
    snprintf(part, sizeof part, "interrupted after step %lld of %d", (long long)(pass / 2), STEPS);
    assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_INTERRUPTED, part);
    assert_true(outcome.interrupted);
    assert_int_equal(outcome.steps, pass / 2);
    fixture.sabotage.stop_at = 0;
    fixture.resume = true;
    train_fixture_finish(&fixture, &outcome);
    assert_same_run(&whole, &fixture, &outcome);
    train_fixture_close(&fixture);
  }
  free(whole.metrics);
}

// One run, stopped at every step.
static void resume_again_and_again(void **state) {
  (void)state;
  ss_error error = {0};
  curve whole = undisturbed("undisturbed_again");
  train_fixture fixture;
  train_outcome outcome;
  train_fixture_open(&fixture, "again", STEPS, 1);
  fixture.sabotage.stop_at = 2;
  for (int64_t step = 1; step < STEPS; step++) {
    assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_INTERRUPTED, "interrupted");
    assert_int_equal(outcome.steps, step);
    fixture.resume = true;
  }
  fixture.sabotage.stop_at = 0;
  train_fixture_finish(&fixture, &outcome);
  assert_same_run(&whole, &fixture, &outcome);
  // Resuming what is finished changes nothing.
  train_fixture_finish(&fixture, &outcome);
  assert_same_run(&whole, &fixture, &outcome);
  assert_int_equal(fixture.sabotage.calls, 0);
  train_fixture_close(&fixture);
  free(whole.metrics);
}

// A validation that was interrupted, or ended with the stop flag raised, leaves no half-written report.
static void resume_after_interrupted_validation(void **state) {
  (void)state;
  ss_error error = {0};
  curve whole = undisturbed("undisturbed_validation");
  for (int which = 0; which < 4; which++) {
    train_fixture fixture;
    train_outcome outcome;
    char name[32];
    snprintf(name, sizeof name, "validation_%d", which);
    train_fixture_open(&fixture, name, STEPS, 1);
    *(which < 2 ? &fixture.interrupt_at : &fixture.stop_at_score) = which % 2 + 1;
    assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_INTERRUPTED, "interrupted");
    assert_int_equal(outcome.steps, 4 * (which % 2 + 1));
    fixture.interrupt_at = fixture.stop_at_score = 0;
    fixture.resume = true;
    train_fixture_finish(&fixture, &outcome);
    assert_same_run(&whole, &fixture, &outcome);
    train_fixture_close(&fixture);
  }
  free(whole.metrics);
}

// A killed process leaves rows after its last checkpoint, half a row, and temporary files.
static void resume_after_a_kill(void **state) {
  (void)state;
  ss_error error = {0};
  curve whole = undisturbed("undisturbed_kill");
  train_fixture fixture;
  train_outcome outcome;
  char path[2 * TEST_PATH], *text = NULL;
  size_t size = 0;
  train_fixture_open(&fixture, "killed", STEPS, 1);
  train_fixture_finish(&fixture, &outcome);
  // Only the checkpoint of step 6 is left (of 6, 9 and 12), with the whole run's rows.
  for (int step = 9; step <= 12; step += 3) {
    char name[64];
    snprintf(name, sizeof name, "checkpoints/step_%08d.h5", step);
    assert_int_equal(unlink(train_fixture_path(&fixture, name, path)), 0);
  }
  assert_ok(ss_read_file(train_fixture_path(&fixture, "metrics.csv", path), &text, &size, &error));
  assert_ok(ss_write_file(path, text, size - 5, &error));
  free(text);
  const char *leftovers[] = {"checkpoints/.step_00000009.h5.tmp-123", ".model.h5.tmp-123"};
  for (int k = 0; k < 2; k++)
    assert_ok(ss_write_file(train_fixture_path(&fixture, leftovers[k], path), "x", 1, &error));
  fixture.resume = true;
  train_fixture_finish(&fixture, &outcome);
  assert_same_run(&whole, &fixture, &outcome);
  for (int k = 0; k < 2; k++)
    assert_false(ss_file_exists(train_fixture_path(&fixture, leftovers[k], path)));
  train_fixture_close(&fixture);
  free(whole.metrics);
}

// --- threads, micro-batches --------------------------------------------------------------------------------

static void threads_do_not_matter(void **state) {
  (void)state;
  train_outcome outcomes[N_ARM];
  for (int threads = 1; threads <= 2; threads++)
    for (int arm = 0; arm < N_ARM; arm++) {
      train_fixture fixture;
      train_outcome outcome;
      char name[32];
      snprintf(name, sizeof name, "threads_%d_%d", threads, arm);
      train_fixture_open(&fixture, name, 20, threads);
      fixture.config.arm = arm;
      fixture.model.n_embd = 64;
      fixture.model.n_layer = 2;
      train_fixture_finish(&fixture, &outcome);
      if (threads == 1)
        outcomes[arm] = outcome;
      assert_string_equal(outcomes[arm].parameters_hash, outcome.parameters_hash);
      train_fixture_close(&fixture);
    }
  for (int arm = 1; arm < N_ARM; arm++)  // the arms do differ
    assert_string_not_equal(outcomes[arm].parameters_hash, outcomes[arm - 1].parameters_hash);
}

// 1 x 12, 2 x 6 and 6 x 2 examples a step are the same step within rounding: every target weighs the same, though
// micro-batches hold different numbers of targets.
static void accumulation_weighs_targets(void **state) {
  (void)state;
  double losses[3], validations[3];
  static const int64_t counts[3] = {1, 2, 6};
  for (int k = 0; k < 3; k++) {
    train_fixture fixture;
    train_outcome outcome;
    char name[32];
    snprintf(name, sizeof name, "accumulate_%d", k);
    train_fixture_open(&fixture, name, 4, 1);
    fixture.config.accumulate = counts[k];
    fixture.config.batch_examples = 12 / counts[k];
    fixture.config.epsilon = 1e-3;  // the sign of a gradient near zero must not decide
    train_fixture_finish(&fixture, &outcome);
    assert_int_equal(outcome.examples, 48);
    losses[k] = outcome.train_loss;
    validations[k] = outcome.validation_loss;
    train_fixture_close(&fixture);
  }
  for (int k = 1; k < 3; k++) {
    assert_near(losses[k], losses[0], 2e-6);
    assert_near(validations[k], validations[0], 2e-6);
  }
}

// --- a device that works on its own ------------------------------------------------------------------------

// The next batch is staged while one runs, and validations come between; the run is the same bit for bit.
static void working_ahead_changes_nothing(void **state) {
  (void)state;
  curve whole = undisturbed("undisturbed_late");
  ss_error error = {0};
  train_fixture fixture;
  train_outcome outcome;
  train_fixture_open(&fixture, "late", STEPS, 1);
  late_device_begin(fixture.device);
  train_fixture_finish(&fixture, &outcome);
  assert_same_run(&whole, &fixture, &outcome);
  late_device_end(fixture.device);
  train_fixture_close(&fixture);
  // Stopped in and after steps; the batch read ahead is not lost.
  train_fixture_open(&fixture, "late_resumed", STEPS, 1);
  late_device_begin(fixture.device);
  for (int64_t pass = 4; pass <= 7; pass++) {
    fixture.sabotage.stop_at = pass / 2;
    assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_INTERRUPTED, "interrupted");
    fixture.resume = true;
  }
  fixture.sabotage.stop_at = 0;
  train_fixture_finish(&fixture, &outcome);
  assert_same_run(&whole, &fixture, &outcome);
  late_device_end(fixture.device);
  train_fixture_close(&fixture);
  free(whole.metrics);
}

static void recomputation_changes_nothing(void **state) {
  (void)state;
  curve whole = undisturbed("undisturbed_recompute");
  train_fixture fixture;
  train_outcome outcome;
  train_fixture_open(&fixture, "recompute", STEPS, 1);
  fixture.config.recompute = true;
  train_fixture_finish(&fixture, &outcome);
  assert_same_run(&whole, &fixture, &outcome);
  train_fixture_close(&fixture);
  free(whole.metrics);
}

// --- steps that are not finite -----------------------------------------------------------------------------

static void not_finite_steps_are_skipped(void **state) {
  (void)state;
  // Third: a gradient on a device that takes the update before the host knows.
  for (int which = 0; which < 3; which++) {
    bool gradient = which > 0, late = which > 1;
    train_fixture fixture;
    train_outcome shorter, longer;
    train_fixture_open(&fixture, late ? "short_late" : gradient ? "short_gradient" : "short_loss", 3, 1);
    fixture.config.schedule = SCHEDULE_CONSTANT;
    train_fixture_finish(&fixture, &shorter);
    train_fixture_close(&fixture);
    // The same, and two more steps, of which one micro-batch each is not finite.
    train_fixture_open(&fixture, late ? "long_late" : gradient ? "long_gradient" : "long_loss", 5, 1);
    if (late)
      late_device_begin(fixture.device);
    fixture.config.schedule = SCHEDULE_CONSTANT;
    fixture.sabotage.nan_first = 8;
    fixture.sabotage.nan_last = 9;
    fixture.sabotage.nan_gradient = gradient;
    train_fixture_finish(&fixture, &longer);
    assert_string_equal(longer.parameters_hash, shorter.parameters_hash);
    assert_int_equal(longer.skipped, 2);
    assert_non_null(strstr(fixture.notices, "step 4 skipped: loss "));
    assert_non_null(strstr(fixture.notices, "step 5 skipped: loss "));
    if (late)
      late_device_end(fixture.device);
    train_fixture_close(&fixture);
  }
}

static float *final_weights(const train_fixture *fixture, int64_t *count) {
  ss_error error = {0};
  model_file file;
  char path[2 * TEST_PATH];
  assert_ok(model_file_open(&file, train_fixture_path(fixture, "model.h5", path), fixture->device, &error));
  *count = gpt_n_parameter(file.model);
  float *host = calloc((size_t)*count, sizeof *host);
  assert_int_equal(fixture->device->ops->download(fixture->device, host, gpt_parameters(file.model),
                                                  (size_t)*count * sizeof *host),
                   SS_OK);
  model_file_close(&file);
  return host;
}

// Bias correction counts updates, not steps: the first update after a skipped step moves weights by the rate.
static void skipped_steps_do_not_age_the_moments(void **state) {
  (void)state;
  train_fixture fixture;
  train_outcome outcome;
  float *weights[2];
  int64_t count = 0;
  for (int moved = 0; moved < 2; moved++) {
    train_fixture_open(&fixture, moved ? "young" : "unborn", 2, 1);
    fixture.config.warmup = 0;
    fixture.config.schedule = SCHEDULE_CONSTANT;
    fixture.config.weight_decay = 0;
    fixture.config.learning_rate = moved ? 1e-3 : 0;
    fixture.sabotage.nan_first = fixture.sabotage.nan_last = 1;
    train_fixture_finish(&fixture, &outcome);
    assert_int_equal(outcome.skipped, 1);
    weights[moved] = final_weights(&fixture, &count);
    train_fixture_close(&fixture);
  }
  double most = 0;
  for (int64_t i = 0; i < count; i++)
    most = fmax(most, fabs((double)weights[1][i] - weights[0][i]));
  assert_near(most, 1e-3, 1e-6);
  free(weights[0]);
  free(weights[1]);
}

// A step skipped in the middle, before and after a resume: the count goes on, the weights are the same.
static void skipped_steps_survive_a_resume(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome whole, outcome;
  train_fixture_open(&fixture, "skip_whole", STEPS, 1);
  fixture.sabotage.nan_first = fixture.sabotage.nan_last = 9;
  train_fixture_finish(&fixture, &whole);
  char *metrics = train_fixture_metrics(&fixture);
  train_fixture_close(&fixture);
  train_fixture_open(&fixture, "skip_resumed", STEPS, 1);
  fixture.sabotage.nan_first = fixture.sabotage.nan_last = 9;
  fixture.sabotage.stop_at = 14;
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_INTERRUPTED, "step 7");
  memset(&fixture.sabotage, 0, sizeof fixture.sabotage);
  fixture.resume = true;
  train_fixture_finish(&fixture, &outcome);
  assert_int_equal(outcome.skipped, 1);
  assert_string_equal(outcome.parameters_hash, whole.parameters_hash);
  char *resumed = train_fixture_metrics(&fixture);
  assert_string_equal(resumed, metrics);
  free(resumed);
  free(metrics);
  train_fixture_close(&fixture);
}

static void too_many_skipped_steps_stop(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome outcome;
  curve whole = undisturbed("undisturbed_limit");
  train_fixture_open(&fixture, "limit", STEPS, 1);
  fixture.config.max_skipped = 3;
  fixture.sabotage.nan_first = 11;  // from step 6 on, at which a checkpoint would be due
  fixture.sabotage.nan_last = INT64_MAX;
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_NUMERIC,
                 "3 steps in a row, up to step 8, had a loss or gradient that is not finite; the last good "
                 "checkpoint is checkpoints/step_00000003.h5");
  assert_int_equal(train_fixture_checkpoints(&fixture), 1);
  // From there the run goes on as if nothing had been.
  memset(&fixture.sabotage, 0, sizeof fixture.sabotage);
  fixture.resume = true;
  train_fixture_finish(&fixture, &outcome);
  assert_string_equal(outcome.parameters_hash, whole.outcome.parameters_hash);
  train_fixture_close(&fixture);
  free(whole.metrics);
}

// Weights that overflowed are never saved, let alone over good ones.
static void weights_not_finite_are_not_saved(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome outcome;
  char path[2 * TEST_PATH];
  train_fixture_open(&fixture, "overflow", 1, 1);
  fixture.config.learning_rate = 1e39;  // infinite as a float
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_NUMERIC,
                 "the weights are not finite after step 1; not saved");
  assert_int_equal(train_fixture_checkpoints(&fixture), 0);
  assert_false(ss_file_exists(train_fixture_path(&fixture, "model.h5", path)));
  train_fixture_close(&fixture);
}

// --- stopping, starting ------------------------------------------------------------------------------------

static void early_stopping_ends_with_the_best(void **state) {
  (void)state;
  train_fixture fixture;
  train_outcome outcome, best;
  ss_error error = {0};
  char path[2 * TEST_PATH];
  // A rate that is far too large: the loss soon rises.
  train_fixture_open(&fixture, "patience", 400, 1);
  fixture.config.validate_every = 1;
  fixture.config.learning_rate = 0.3;
  fixture.config.patience = 3;
  fixture.config.generate_examples = 0;
  assert_ok(train_fixture_run(&fixture, &outcome, &error));
  assert_true(outcome.stopped_early);
  assert_int_equal(outcome.steps, outcome.best_step + 3);
  assert_true(outcome.best_validation_loss < outcome.validation_loss);
  assert_true(ss_file_exists(train_fixture_path(&fixture, "best.h5", path)));
  train_fixture_close(&fixture);
  // The final weights are those of the best step.
  train_fixture_open(&fixture, "patience_best", 400, 1);
  fixture.config.learning_rate = 0.3;
  fixture.config.max_seconds = 0;
  fixture.config.validate_every = 1;
  fixture.config.generate_examples = 1;
  fixture.stop_at_score = outcome.best_step;
  assert_refused(train_fixture_run(&fixture, &best, &error), SS_ERROR_INTERRUPTED, "interrupted");
  assert_string_equal(best.parameters_hash, outcome.parameters_hash);
  train_fixture_close(&fixture);
}

// By the score: the loss still falls when the score has been at its best.
static void the_score_stops_early(void **state) {
  (void)state;
  train_fixture fixture;
  train_outcome outcome, best;
  ss_error error = {0};
  const double scores[] = {0.1, 0.3, 0.2, 0.25, 0.3, 0.1, 0.9};
  train_fixture_open(&fixture, "score", 400, 1);
  fixture.config.validate_every = 1;
  fixture.config.patience = 3;
  fixture.config.best_metric = TRAIN_BEST_SCORE;
  fixture.scores = scores;
  assert_ok(train_fixture_run(&fixture, &outcome, &error));
  assert_true(outcome.stopped_early);
  assert_int_equal(outcome.best_step, 2);
  assert_int_equal(outcome.steps, 5);
  assert_true(outcome.best_validation_score == 0.3 && outcome.validation_score == 0.3);
  assert_true(outcome.validation_loss < outcome.best_validation_loss);
  train_fixture_close(&fixture);
  train_fixture_open(&fixture, "score_best", 400, 1);
  fixture.config.validate_every = 1;
  fixture.stop_at_score = 2;
  assert_refused(train_fixture_run(&fixture, &best, &error), SS_ERROR_INTERRUPTED, "interrupted");
  assert_string_equal(best.parameters_hash, outcome.parameters_hash);
  train_fixture_close(&fixture);
  fixture.config.patience = 3;
  fixture.config.best_metric = TRAIN_BEST_SCORE;
  fixture.config.generate_examples = 0;
  assert_refused(train_config_check(&fixture.config, &error), SS_ERROR_USAGE, "train.generate_examples");
}

// Early stopping's state is part of the checkpoint.
static void stops_early_in_pieces(int best_metric) {
  ss_error error = {0};
  train_fixture fixture;
  train_outcome whole, outcome;
  for (int resumed = 0; resumed < 2; resumed++) {
    char name[64];
    snprintf(name, sizeof name, "patience_%d_%d", best_metric, resumed);
    train_fixture_open(&fixture, name, 400, 1);
    fixture.config.best_metric = best_metric;
    fixture.config.validate_every = 1;
    fixture.config.learning_rate = 0.3;
    fixture.config.patience = 3;
    fixture.sabotage.stop_at = resumed ? 4 : 0;  // every two steps
    ss_status status;
    int runs = 0;
    do {
      status = train_fixture_run(&fixture, resumed ? &outcome : &whole, &error);
      fixture.resume = true;
      runs++;
      if (status == SS_ERROR_INTERRUPTED)
        ss_error_clear(&error);
    } while (status == SS_ERROR_INTERRUPTED && runs < 300);
    assert_ok(status);
    assert_true(!resumed || runs > 1);
    train_fixture_close(&fixture);
  }
  assert_true(whole.stopped_early);
  assert_int_equal(outcome.steps, whole.steps);
  assert_int_equal(outcome.best_step, whole.best_step);
  assert_string_equal(outcome.parameters_hash, whole.parameters_hash);
}

static void early_stopping_survives_resumes(void **state) {
  (void)state;
  stops_early_in_pieces(TRAIN_BEST_LOSS);
  stops_early_in_pieces(TRAIN_BEST_SCORE);
}

static void time_limit_stops(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome outcome;
  train_fixture_open(&fixture, "seconds", 1000000, 1);
  fixture.config.max_seconds = 0.3;
  fixture.config.checkpoint_every = 0;
  fixture.config.validate_every = 0;
  assert_ok(train_fixture_run(&fixture, &outcome, &error));
  assert_true(outcome.steps > 0 && outcome.steps < 1000000);
  assert_true(outcome.train_seconds >= 0.3 && outcome.train_seconds < 5);
  assert_int_equal(train_fixture_checkpoints(&fixture), 1);
  train_fixture_close(&fixture);
}

// The base's weights are the start, and its shape holds; a model file says how it was trained.
static void training_starts_from_a_base(void **state) {
  (void)state;
  ss_error error = {0};
  train_fixture fixture;
  train_outcome base, outcome;
  model_file file;
  char path[2 * TEST_PATH];
  train_fixture_open(&fixture, "base", 3, 1);
  fixture.config.arm = ARM_DENSE;
  train_fixture_finish(&fixture, &base);
  train_fixture_path(&fixture, "model.h5", path);
  train_fixture_close(&fixture);
  train_fixture_open(&fixture, "tuned", 2, 1);
  assert_true(strlen(path) < sizeof fixture.config.base);
  memcpy(fixture.config.base, path, strlen(path) + 1);
  fixture.config.learning_rate = 0;
  // Defaults ask for nothing beside a base.
  ss_key_group groups[] = {{gpt_config_keys, &fixture.model}, {NULL, NULL}};
  assert_ok(ss_config_defaults(groups, &error));
  train_fixture_finish(&fixture, &outcome);
  assert_string_equal(outcome.parameters_hash, base.parameters_hash);
  assert_ok(model_file_open(&file, train_fixture_path(&fixture, "model.h5", path), fixture.device, &error));
  assert_int_equal(file.arm, ARM_SPAN);
  assert_int_equal(file.policy.choose, SPAN_CHOOSE_INDEX);
  assert_int_equal(file.steps, 2);
  assert_int_equal(file.tokens, outcome.tokens);
  assert_true(file.train_seconds == outcome.train_seconds);
  assert_int_equal(json_integer_value(json_object_get(file.config, "model.n_embd")), 16);
  model_file_close(&file);
  fixture.model.n_layer = 3;
  fixture.overwrite = true;
  assert_refused(train_fixture_run(&fixture, &outcome, &error), SS_ERROR_USAGE,
                 "has model.n_layer = 1, the configuration asks for 3");
  train_fixture_close(&fixture);
}

static void parameters_may_rest(int learn) {
  ss_error error = {0};
  train_fixture first, fixture;
  train_outcome outcome;
  model_file base, tuned;
  char path[2 * TEST_PATH];
  train_fixture_open(&first, learn == TRAIN_LEARN_KEEP_TEXT ? "rows-base" : "span-base", 3, 1);
  train_fixture_finish(&first, &outcome);
  train_fixture_path(&first, "model.h5", path);
  assert_ok(model_file_open(&base, path, first.device, &error));
  train_fixture_open(&fixture, learn == TRAIN_LEARN_KEEP_TEXT ? "rows-tuned" : "span-tuned", 3, 1);
  assert_true(strlen(path) < sizeof fixture.config.base);
  memcpy(fixture.config.base, path, strlen(path) + 1);
  fixture.config.learn = learn;
  train_fixture_finish(&fixture, &outcome);
  assert_ok(model_file_open(&tuned, train_fixture_path(&fixture, "model.h5", path), fixture.device, &error));
  const gpt_parameter *wte = &gpt_parameter_table(base.model)[gpt_find_parameter(base.model, "wte")];
  const float *before = gpt_parameters(base.model), *after = gpt_parameters(tuned.model);
  int64_t text = vocabulary_n_text(base.vocabulary) * wte->cols, all = gpt_n_parameter(base.model);
  assert_true(text > 0 && text < wte->rows * wte->cols);
  assert_memory_equal(before + wte->offset, after + wte->offset, (size_t)text * sizeof *before);
  int64_t moved = 0;
  for (int64_t k = 0; k < all; k++)
    moved += before[k] != after[k];
  int64_t learnt = learn == TRAIN_LEARN_KEEP_TEXT ? all - text : wte->rows * wte->cols - text;
  assert_true(moved > learnt / 2 && moved <= learnt);
  model_file_close(&tuned);
  model_file_close(&base);
  train_fixture_close(&fixture);
  train_fixture_close(&first);
}

static void parts_may_rest(void **state) {
  (void)state;
  parameters_may_rest(TRAIN_LEARN_KEEP_TEXT);
  parameters_may_rest(TRAIN_LEARN_SPAN_TOKENS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(resume_after_any_micro_batch),
      cmocka_unit_test(resume_again_and_again),
      cmocka_unit_test(resume_after_interrupted_validation),
      cmocka_unit_test(resume_after_a_kill),
      cmocka_unit_test(threads_do_not_matter),
      cmocka_unit_test(accumulation_weighs_targets),
      cmocka_unit_test(working_ahead_changes_nothing),
      cmocka_unit_test(recomputation_changes_nothing),
      cmocka_unit_test(not_finite_steps_are_skipped),
      cmocka_unit_test(skipped_steps_survive_a_resume),
      cmocka_unit_test(skipped_steps_do_not_age_the_moments),
      cmocka_unit_test(too_many_skipped_steps_stop),
      cmocka_unit_test(weights_not_finite_are_not_saved),
      cmocka_unit_test(early_stopping_ends_with_the_best),
      cmocka_unit_test(the_score_stops_early),
      cmocka_unit_test(early_stopping_survives_resumes),
      cmocka_unit_test(time_limit_stops),
      cmocka_unit_test(training_starts_from_a_base),
      cmocka_unit_test(parts_may_rest),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
