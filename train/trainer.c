#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "train/run.h"

// --- one step ----------------------------------------------------------------------------------------------

// Sums over the micro-batches of a step.
typedef struct {
  double loss;
  int64_t targets, correct, tokens, examples, attended_rows;
} step_sums;

// Makes the next micro-batch ready to run. What was staged ahead may have been forgotten by a validation since.
static ss_status make_ready(train_run *run, ss_error *error) {
  train_ahead *ahead = &run->ahead;
  if (!ahead->fetched) {
    ahead->fed = false;
    SS_TRY(reader_next(run->reader, &ahead->batch, error));
    ahead->fetched = true;
  }
  bool staged = ahead->fed && gpt_is_staged(run->model);
  if (!ahead->fed)
    SS_TRY(train_feed_batch(&run->feed, run->model, ahead->batch, &ahead->rows, error));
  ahead->fed = true;
  return staged ? SS_OK : gpt_stage(run->model, &ahead->rows, true, error);
}

// Lets the device add the gradients of the next micro-batch, unscaled: their mean is taken over the whole step's
// targets, so that how examples fall into micro-batches does not weigh them.
static ss_status run_batch(train_run *run, step_sums *sums, ss_error *error) {
  SS_TRY(make_ready(run, error));
  const reader_batch *batch = run->ahead.batch;
  sums->targets += gpt_staged_targets(run->model);
  sums->tokens += batch->n_row;
  sums->examples += batch->n_example;
  sums->attended_rows += batch->attended_rows;
  run->ahead.fetched = false;
  return gpt_run(run->model, 1.0, error);
}

// While the device works, the batch after this one is read and staged; then the losses are waited for.
static ss_status collect_batch(train_run *run, bool another, step_sums *sums, ss_error *error) {
  gpt_loss loss;
  ss_error later = {0};
  if (another)
    make_ready(run, &later);  // what goes wrong does so again when the batch is needed
  SS_TRY(gpt_collect(run->model, &loss, error));
  sums->loss += loss.loss_sum;
  sums->correct += loss.n_correct;
  return SS_OK;
}

// The rate of the step after `state`. Under a time limit the schedule follows the clock where that is further on,
// so that the rate has decayed when time is up.
static double rate_of(const train_config *config, const train_state *state) {
  int64_t step = state->step;
  if (config->max_seconds > 0 && step >= config->warmup) {
    double passed = state->train_seconds / config->max_seconds * (double)config->steps;
    if (passed > (double)step)
      step = passed < (double)config->steps ? (int64_t)passed : config->steps;
  }
  return schedule_rate((schedule_kind)config->schedule, config->learning_rate, config->final_ratio,
                       config->warmup, config->steps, step);
}

static ss_status check_skipped(train_run *run, double loss, ss_error *error) {
  const train_state *state = &run->state;
  train_run_notice(run, "step %lld skipped: loss %g, gradient norm %g", (long long)state->step, loss,
                   state->gradient_norm);
  if (state->skipped_in_row < run->config->max_skipped)
    return SS_OK;
  if (run->saved_step < 0)
    return ss_fail(error, SS_ERROR_NUMERIC,
                   "%s: %lld steps in a row, up to step %lld, had a loss or gradient that is not finite; no "
                   "checkpoint was written yet",
                   run->config->out, (long long)state->skipped_in_row, (long long)state->step);
  return ss_fail(
      error, SS_ERROR_NUMERIC,
      "%s: %lld steps in a row, up to step %lld, had a loss or gradient that is not finite; the last good "
      "checkpoint is checkpoints/step_%08lld.h5",
      run->config->out, (long long)state->skipped_in_row, (long long)state->step, (long long)run->saved_step);
}

static ss_status enqueue_update(train_run *run, const step_sums *sums, ss_error *error) {
  const train_state *state = &run->state;
  return optimizer_enqueue(run->optimizer, state->learning_rate, state->step - state->skipped + 1,
                           1.0 / (double)sums->targets, run->config->clip, error);
}

// One optimizer step. Interrupted between micro-batches it changes neither state nor weights.
//
// A device that works on its own gets the update before the loss is known, so that it never waits for the host; it
// leaves the weights alone when the gradients are not finite. The loss is then not finite either but for overflows
// that no gradient shows; such a step counts as skipped though its update is done.
static ss_status take_step(train_run *run, ss_error *error) {
  const train_config *config = run->config;
  train_state *state = &run->state;
  bool at_once = run->request->device->synchronous;
  step_sums sums;
  memset(&sums, 0, sizeof sums);
  double start = ss_seconds();
  SS_TRY(gpt_zero_gradients(run->model, error));
  for (int64_t i = 0; i < config->accumulate; i++) {
    if (i > 0 && train_run_stopping(run))
      return ss_fail(error, SS_ERROR_INTERRUPTED, "interrupted");
    bool last = i + 1 == config->accumulate;
    SS_TRY(run_batch(run, &sums, error));
    if (last)
      state->learning_rate = rate_of(config, state);
    if (last && !at_once && sums.targets > 0)
      SS_TRY(enqueue_update(run, &sums, error));
    bool another = !last || state->step + 1 < config->steps;
    SS_TRY(collect_batch(run, another && !train_run_stopping(run), &sums, error));
  }
  if (sums.targets == 0)
    return ss_fail(error, SS_ERROR_INPUT, "%s/train.h5: step %lld has no generated token to learn",
                   config->data, (long long)state->step + 1);
  bool skipped = true, finite = isfinite(sums.loss);
  state->gradient_norm = NAN;
  if (finite && at_once)
    SS_TRY(enqueue_update(run, &sums, error));
  if (finite || !at_once)
    SS_TRY(optimizer_collect(run->optimizer, &state->gradient_norm, &skipped, error));
  skipped = skipped || !finite;
  double seconds = ss_seconds() - start;
  state->step++;
  state->reader_position = reader_position(run->reader) - (run->ahead.fetched ? 1 : 0);
  state->examples += sums.examples;
  state->tokens += sums.tokens;
  state->targets += sums.targets;
  state->train_seconds += seconds;
  state->interval_seconds += seconds;
  state->interval_tokens += sums.tokens;
  state->interval_attended_rows += sums.attended_rows;
  if (skipped) {
    state->skipped++;
    state->skipped_in_row++;
    return check_skipped(run, sums.loss / (double)sums.targets, error);
  }
  state->skipped_in_row = 0;
  state->interval_loss += sums.loss;
  state->interval_targets += sums.targets;
  state->interval_correct += sums.correct;
  return SS_OK;
}

// --- reports -----------------------------------------------------------------------------------------------

static ss_status validate(train_run *run, ss_error *error) {
  const train_config *config = run->config;
  const train_request *request = run->request;
  train_state *state = &run->state;
  // Into locals first: an interrupted validation is done again by the resumed run, from an unchanged state.
  double loss = NAN;
  train_generated generated = {NAN, NAN, 0};
  if (run->validator != NULL)
    SS_TRY(validator_loss(run->validator, run->model, request->stop, &loss, error));
  if (config->generate_examples > 0 && request->generate_score != NULL)
    SS_TRY(request->generate_score(request->generate_user, run->model, &generated, error));
  state->validation_loss = loss;
  state->validation_accuracy = generated.accuracy;
  state->validation_score = generated.score;
  bool better = config->best_metric == TRAIN_BEST_SCORE ? generated.score > state->best_validation_score
                                                        : loss < state->best_validation_loss;
  if (!better) {
    state->without_improvement++;
    return SS_OK;
  }
  state->best_validation_loss = loss;
  state->best_validation_score = generated.score;
  state->best_step = state->step;
  state->without_improvement = 0;
  return config->patience > 0 ? train_weights_save(run, train_folder_best(run->folder), error) : SS_OK;
}

static ss_status write_row(train_run *run, bool validated, ss_error *error) {
  train_state *state = &run->state;
  if (state->interval_targets > 0) {
    state->train_loss = state->interval_loss / (double)state->interval_targets;
    state->train_accuracy = (double)state->interval_correct / (double)state->interval_targets;
  } else {
    state->train_loss = state->train_accuracy = NAN;
  }
  double tokens = (double)state->interval_tokens;
  metrics_row row = {state->step,
                     state->examples,
                     state->tokens,
                     state->targets,
                     state->train_loss,
                     state->train_accuracy,
                     state->learning_rate,
                     state->gradient_norm,
                     state->skipped,
                     state->train_seconds,
                     state->interval_seconds > 0 ? tokens / state->interval_seconds : NAN,
                     tokens > 0 ? (double)state->interval_attended_rows / tokens : NAN,
                     validated ? state->validation_loss : NAN,
                     validated ? state->validation_accuracy : NAN,
                     validated ? state->validation_score : NAN};
  SS_TRY(metrics_append(run->metrics, &row, error));
  state->interval_loss = state->interval_seconds = 0;
  state->interval_targets = state->interval_correct = 0;
  state->interval_tokens = state->interval_attended_rows = 0;
  return SS_OK;
}

// The kernels that a device chooses when they are first needed, as its description names them.
static void show_kernels(train_run *run) {
  const ss_device *device = run->request->device;
  const char *gained = ss_device_gained(device, run->described);
  if (*gained != '\0' && !run->request->quiet)
    train_run_notice(run, "%s", gained);
  run->described = strlen(device->description);
}

static void show_progress(train_run *run, bool finished) {
  const train_config *config = run->config;
  const train_state *state = &run->state;
  char note[160];
  double loss = state->interval_targets > 0 ? state->interval_loss / (double)state->interval_targets
                                            : state->train_loss;
  int used = snprintf(note, sizeof note, "loss %.4f", loss);
  if (state->train_seconds > 0)
    used += snprintf(note + used, sizeof note - (size_t)used, "  %.1fK tokens/s",
                     1e-3 * (double)state->tokens / state->train_seconds);
  if (!isnan(state->validation_loss))
    used += snprintf(note + used, sizeof note - (size_t)used, "  validation %.4f", state->validation_loss);
  if (!isnan(state->validation_accuracy))
    used += snprintf(note + used, sizeof note - (size_t)used, "  accuracy %.1f%%",
                     100 * state->validation_accuracy);
  // Where there is an accuracy the score is next to the same.
  if (!isnan(state->validation_score) && isnan(state->validation_accuracy))
    snprintf(note + used, sizeof note - (size_t)used, "  score %.4f", state->validation_score);
  if (config->max_seconds > 0 && state->train_seconds > 0) {
    double expected = (double)state->step * config->max_seconds / state->train_seconds;
    run->progress.total = expected < (double)config->steps ? (int64_t)expected : config->steps;
  }
  if (finished)
    ss_progress_finish(&run->progress, state->step, note);
  else
    ss_progress_update(&run->progress, state->step, note);
}

// Validation and the metrics row of the step just done, where due; `last` makes both due.
static ss_status report(train_run *run, bool last, ss_error *error) {
  const train_config *config = run->config;
  train_state *state = &run->state;
  bool validated = last || (config->validate_every > 0 && state->step % config->validate_every == 0);
  if (validated)
    SS_TRY(validate(run, error));
  show_progress(run, false);
  if (validated || state->step % config->log_every == 0)
    SS_TRY(write_row(run, validated, error));
  state->reported_step = state->step;
  return SS_OK;
}

// --- the loop ----------------------------------------------------------------------------------------------

static bool out_of_patience(const train_run *run) {
  return run->config->patience > 0 && run->state.without_improvement >= run->config->patience;
}

static ss_status save(train_run *run, ss_error *error) {
  SS_TRY(metrics_sync(run->metrics, error));
  return train_checkpoint_save(run, error);
}

static ss_status train(train_run *run, ss_error *error) {
  const train_config *config = run->config;
  const train_state *state = &run->state;
  for (;;) {
    bool last = state->step >= config->steps ||
                (config->max_seconds > 0 && state->train_seconds >= config->max_seconds);
    if (state->reported_step < state->step)
      SS_TRY(report(run, last, error));
    last = last || out_of_patience(run);
    // In a streak of skipped steps the weights are suspect: the last checkpoint before it is the good one.
    bool due = config->checkpoint_every > 0 && state->step > 0 && state->step % config->checkpoint_every == 0;
    if (last || (due && state->skipped_in_row == 0))
      SS_TRY(save(run, error));
    if (last)
      return SS_OK;
    if (train_run_stopping(run))
      return ss_fail(error, SS_ERROR_INTERRUPTED, "interrupted");
    SS_TRY(take_step(run, error));
    show_kernels(run);
  }
}

static ss_status write_outcome(const train_run *run, const train_outcome *outcome, ss_error *error) {
  json_t *object = train_outcome_json(outcome);
  if (object != NULL) {
    json_object_set_new(object, "arm", json_string(arm_name((arm)run->config->arm)));
    json_object_set_new(object, "device", json_string(run->request->device->description));
  }
  char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
  json_decref(object);
  if (text == NULL)
    return ss_fail(error, SS_ERROR_MEMORY, "out of memory for the outcome");
  size_t size = strlen(text);
  text[size] = '\n';  // in the place of the terminator
  ss_status status = ss_write_file(train_folder_outcome(run->folder), text, size + 1, error);
  free(text);
  return status;
}

static ss_status fill_outcome(const train_run *run, bool interrupted, train_outcome *outcome,
                              ss_error *error) {
  const train_state *state = &run->state;
  memset(outcome, 0, sizeof *outcome);
  outcome->steps = state->step;
  outcome->examples = state->examples;
  outcome->tokens = state->tokens;
  outcome->targets = state->targets;
  outcome->skipped = state->skipped;
  outcome->train_seconds = state->train_seconds;
  outcome->train_loss = state->train_loss;
  outcome->validation_loss = state->validation_loss;
  outcome->validation_accuracy = state->validation_accuracy;
  outcome->validation_score = state->validation_score;
  outcome->best_validation_loss = state->best_step >= 0 ? state->best_validation_loss : NAN;
  outcome->best_validation_score = state->best_step >= 0 ? state->best_validation_score : NAN;
  outcome->best_step = state->best_step;
  outcome->n_parameter = gpt_n_parameter(run->model);
  outcome->stopped_early = out_of_patience(run);
  outcome->interrupted = interrupted;
  return train_weights_hash(run->model, outcome->parameters_hash, error);
}

// Ends an interrupted run: its state is saved, so that nothing is lost but the step under way.
static ss_status interrupted_end(train_run *run, train_outcome *outcome, ss_error *error) {
  ss_error_clear(error);
  if (run->state.skipped_in_row == 0)
    SS_TRY(save(run, error));
  SS_TRY(fill_outcome(run, true, outcome, error));
  return ss_fail(error, SS_ERROR_INTERRUPTED, "%s: interrupted after step %lld of %lld; --resume continues",
                 run->config->out, (long long)run->state.step, (long long)run->config->steps);
}

static ss_status finished_end(train_run *run, train_outcome *outcome, ss_error *error) {
  if (run->config->patience > 0 && run->state.best_step >= 0 && run->state.best_step != run->state.step)
    SS_TRY(train_best_restore(run, error));
  SS_TRY(train_weights_save(run, train_folder_model(run->folder), error));
  SS_TRY(fill_outcome(run, false, outcome, error));
  return write_outcome(run, outcome, error);
}

ss_status trainer_run(const train_request *request, train_outcome *outcome, ss_error *error) {
  train_run run;
  ss_error local;
  memset(&local, 0, sizeof local);
  memset(outcome, 0, sizeof *outcome);
  error = error == NULL ? &local
                        : error;  // an interruption is told from a failure by its status, then cleared
  ss_status status = train_run_open(&run, request, error);
  if (status == SS_OK) {
    ss_progress_start(&run.progress, "train", "steps", run.state.step, run.config->steps, request->quiet);
    status = train(&run, error);
    show_progress(&run, true);
    if (status == SS_OK)
      status = finished_end(&run, outcome, error);
    else if (status == SS_ERROR_INTERRUPTED)
      status = interrupted_end(&run, outcome, error);
  }
  train_run_close(&run);
  return status;
}

static json_t *real_or_null(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

json_t *train_outcome_json(const train_outcome *outcome) {
  json_t *object = json_object();
  if (object == NULL)
    return NULL;
  int failed = 0;
  failed |= json_object_set_new(object, "steps", json_integer(outcome->steps));
  failed |= json_object_set_new(object, "examples", json_integer(outcome->examples));
  failed |= json_object_set_new(object, "tokens", json_integer(outcome->tokens));
  failed |= json_object_set_new(object, "targets", json_integer(outcome->targets));
  failed |= json_object_set_new(object, "skipped", json_integer(outcome->skipped));
  failed |= json_object_set_new(object, "train_seconds", real_or_null(outcome->train_seconds));
  failed |= json_object_set_new(object, "train_loss", real_or_null(outcome->train_loss));
  failed |= json_object_set_new(object, "validation_loss", real_or_null(outcome->validation_loss));
  failed |= json_object_set_new(object, "validation_accuracy", real_or_null(outcome->validation_accuracy));
  failed |= json_object_set_new(object, "validation_score", real_or_null(outcome->validation_score));
  failed |= json_object_set_new(object, "best_validation_loss", real_or_null(outcome->best_validation_loss));
  failed |= json_object_set_new(object, "best_validation_score",
                                real_or_null(outcome->best_validation_score));
  failed |= json_object_set_new(object, "best_step",
                                outcome->best_step >= 0 ? json_integer(outcome->best_step) : json_null());
  failed |= json_object_set_new(object, "n_parameter", json_integer(outcome->n_parameter));
  failed |= json_object_set_new(object, "parameters_hash", json_string(outcome->parameters_hash));
  failed |= json_object_set_new(object, "stopped_early", json_boolean(outcome->stopped_early));
  failed |= json_object_set_new(object, "interrupted", json_boolean(outcome->interrupted));
  if (failed) {
    json_decref(object);
    return NULL;
  }
  return object;
}
