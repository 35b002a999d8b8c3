#include "train/trainer.h"

#include <string.h>

#define INT(field, initial, low, high, help) \
  SS_CONFIG_INT(train_config, field, "train." #field, initial, low, high, help)
#define REAL(field, initial, low, high, help) \
  SS_CONFIG_REAL(train_config, field, "train." #field, initial, low, high, help)

const ss_key train_config_keys[] = {
    SS_CONFIG_TEXT(train_config, data, "train.data", "", "folder of train.h5 and validation.h5"),
    SS_CONFIG_TEXT(train_config, base, "train.base", "",
                   "checkpoint to start from; its shape replaces model.*; empty: random start"),
    SS_CONFIG_TEXT(train_config, out, "train.out", "", "run folder (also --out)"),
    SS_CONFIG_CHOICE(train_config, arm, "train.arm", "span", "dense|annotated|span",
                     "training text and mask"),

    INT(batch_rows, "16", 1, 65536, "packed rows a micro-batch"),
    INT(row_tokens, "1024", 16, 1048576, "tokens a packed row; no example may be longer"),
    INT(batch_examples, "0", 0, 1048576,
        "exactly so many examples a micro-batch, whatever their length; 0: fill batch_rows"),
    INT(accumulate, "1", 1, 65536, "micro-batches a step; the loss is the mean over the step's targets"),
    SS_CONFIG_BOOL(train_config, random_anchor_offset, "train.random_anchor_offset", "true",
                   "count each example's anchors from a random offset, so that all are trained"),
    INT(seed, "1", 0, 9007199254740991.0, "of initialisation, order and anchor offsets"),

    SS_CONFIG_BOOL(
        train_config, recompute, "train.recompute", "false",
        "compute norms and activations again in the backward pass: less memory, the same gradients"),

    SS_CONFIG_CHOICE(train_config, learn, "train.learn", "all", "all|keep_text|span_tokens",
                     "keep_text: all but the embedding's rows of text tokens, of which few examples say "
                     "nothing; span_tokens: its rows of span tokens alone"),

    INT(steps, "1000", 1, 1000000000, "optimizer steps"),
    REAL(
        max_seconds, "0", 0, 1e9,
        "stop after so many seconds of training, the schedule following the clock; 0: off; not reproducible"),
    REAL(learning_rate, "1e-3", 0, 10, "peak learning rate"),
    REAL(span_tokens_rate, "1", 1e-3, 1e3,
         "multiplies the learning rate of the embedding's rows of span tokens, which are new to a base"),
    REAL(final_ratio, "0.1", 0, 1, "last learning rate as a share of the peak"),
    SS_CONFIG_CHOICE(train_config, schedule, "train.schedule", "cosine", "cosine|linear|constant",
                     "decay after the warm-up"),
    INT(warmup, "50", 0, 1000000000, "steps of linear warm-up"),
    REAL(weight_decay, "0.1", 0, 10, "of matrices; norms, biases and positions have none"),
    REAL(beta1, "0.9", 0, 0.999999, "AdamW's first-moment decay"),
    REAL(beta2, "0.95", 0, 0.99999999, "AdamW's second-moment decay"),
    REAL(epsilon, "1e-8", 1e-16, 1, "AdamW's denominator offset"),
    REAL(clip, "1", 0, 1e9, "clip the gradient's global norm to this; 0: off"),
    INT(max_skipped, "10", 1, 1000000, "non-finite steps in a row before training gives up"),

    INT(validate_every, "100", 0, 1000000000, "steps between validations; 0: only at the end"),
    INT(validate_examples, "512", 0, 1000000000, "validation examples for the loss; 0: none"),
    INT(generate_examples, "0", 0, 1000000000,
        "validation examples for accuracy and score by generation; 0: none"),
    INT(generate_tokens, "0", 0, 1000000000,
        "tokens of a validation example at most, when generating; 0: as many as fit"),
    SS_CONFIG_BOOL(train_config, generate_constrain, "train.generate_constrain", "no",
                   "forbid malformed headers and correct closing anchors when generating"),
    SS_CONFIG_CHOICE(train_config, best_metric, "train.best_metric", "loss", "loss|score",
                     "what patience watches: the validation loss, or the task's own score by generation"),
    INT(patience, "0", 0, 1000000,
        "stop after so many validations without a better train.best_metric, and end with the best weights; "
        "0: off"),

    INT(checkpoint_every, "100", 0, 1000000000, "steps between checkpoints; 0: only at the end"),
    INT(keep, "3", 1, 1000000, "checkpoints kept"),
    INT(log_every, "10", 1, 1000000000, "steps a row of metrics.csv"),
    {NULL, SS_KEY_INT, 0, NULL, 0, 0, NULL, NULL},
};

ss_status train_config_check(const train_config *config, ss_error *error) {
  if (config->data[0] == '\0')
    return ss_fail(error, SS_ERROR_USAGE,
                   "train.data is empty, expected a folder with train.h5 and validation.h5");
  if (config->out[0] == '\0')
    return ss_fail(error, SS_ERROR_USAGE, "train.out is empty, expected a run folder (--out DIR)");
  bool by_score = config->best_metric == TRAIN_BEST_SCORE;
  int64_t watched = by_score ? config->generate_examples : config->validate_examples;
  if (config->patience > 0 && (config->validate_every == 0 || watched == 0))
    return ss_fail(error, SS_ERROR_USAGE,
                   "train.patience is %lld, which needs train.validate_every and train.%s above 0",
                   (long long)config->patience, by_score ? "generate_examples" : "validate_examples");
  return SS_OK;
}

bool train_key_may_change(const train_config *config, const char *name) {
  // These decide where results lie, how often they are kept and when to stop, not what is learnt; the data is
  // recognised by content, not by path.
  static const char *const free_keys[] =
      {"train.data",        "train.out",      "train.keep", "train.max_seconds", "train.checkpoint_every",
       "train.max_skipped", "train.recompute"};
  for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
    if (strcmp(name, free_keys[i]) == 0)
      return true;
  // A constant rate does not look at the end, so the end may move.
  return strcmp(name, "train.steps") == 0 && config->schedule == SCHEDULE_CONSTANT;
}
