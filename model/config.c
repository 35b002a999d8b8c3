// The model's configuration: its keys, and the numbers that follow from others.
#include "model/gpt.h"

const ss_key gpt_config_keys[] =
    {SS_CONFIG_INT(gpt_config, n_layer, "model.n_layer", "6", 1, 1024, "blocks"),
     SS_CONFIG_INT(gpt_config, n_head, "model.n_head", "6", 1, 1024, "query heads"),
     SS_CONFIG_INT(gpt_config, n_kv_head, "model.n_kv_head", "0", 0, 1024,
                   "key/value heads; 0: as many as query heads"),
     SS_CONFIG_INT(gpt_config, n_embd, "model.n_embd", "384", 1, 65536, "width of the residual stream"),
     SS_CONFIG_INT(gpt_config, n_ff, "model.n_ff", "0", 0, 1048576,
                   "width of the MLP; 0: 4 n_embd (gelu), 8/3 n_embd rounded up to 32 (swiglu)"),
     SS_CONFIG_INT(gpt_config, n_positions, "model.n_positions", "1024", 1, 16777216,
                   "longest sequence in tokens"),
     SS_CONFIG_INT(gpt_config, vocab_size, "model.vocab_size", "0", 0, 16777216,
                   "tokens; 0: taken from the dataset, where there is one"),
     SS_CONFIG_CHOICE(gpt_config, norm, "model.norm", "layer", "layer|rms", "normalisation"),
     SS_CONFIG_CHOICE(gpt_config, position, "model.position", "learned", "learned|rotary|none",
                      "position encoding"),
     SS_CONFIG_CHOICE(gpt_config, activation, "model.activation", "gelu", "gelu|swiglu", "MLP activation"),
     SS_CONFIG_BOOL(gpt_config, bias, "model.bias", "true", "biases of linear layers and layer norms"),
     SS_CONFIG_REAL(gpt_config, norm_epsilon, "model.norm_epsilon", "1e-5", 1e-12, 1e-1,
                    "added to the variance"),
     SS_CONFIG_REAL(gpt_config, rotary_theta, "model.rotary_theta", "10000", 1.0, 1e9,
                    "base of the rotary angles"),
     SS_CONFIG_REAL(gpt_config, init_std, "model.init_std", "0.02", 0.0, 1.0,
                    "standard deviation of initial matrices; residual projections: / sqrt(2 n_layer)"),
     {0}};

// One elementary bound, so that every message reads the same.
static ss_status check_range(int64_t value, int64_t low, int64_t high, const char *name, ss_error *error) {
  if (value < low || value > high)
    return ss_fail(error, SS_ERROR_USAGE, "model.%s is %lld, expected %lld..%lld", name, (long long)value,
                   (long long)low, (long long)high);
  return SS_OK;
}

ss_status gpt_config_resolve(gpt_config *config, ss_error *error) {
  SS_TRY(check_range(config->n_layer, 1, 1024, "n_layer", error));
  SS_TRY(check_range(config->n_head, 1, 1024, "n_head", error));
  SS_TRY(check_range(config->n_kv_head, 0, 1024, "n_kv_head", error));
  SS_TRY(check_range(config->n_embd, 1, 65536, "n_embd", error));
  SS_TRY(check_range(config->n_ff, 0, 1048576, "n_ff", error));
  SS_TRY(check_range(config->n_positions, 1, 16777216, "n_positions", error));
  SS_TRY(check_range(config->vocab_size, 0, 16777216, "vocab_size", error));
  SS_TRY(check_range(config->norm, SS_NORM_LAYER, SS_NORM_RMS, "norm", error));
  SS_TRY(check_range(config->position, GPT_POSITION_LEARNED, GPT_POSITION_NONE, "position", error));
  SS_TRY(check_range(config->activation, SS_ACTIVATION_GELU, SS_ACTIVATION_SWIGLU, "activation", error));
  if (!(config->norm_epsilon > 0))
    return ss_fail(error, SS_ERROR_USAGE, "model.norm_epsilon is %g, expected a positive number",
                   config->norm_epsilon);
  if (!(config->rotary_theta >= 1))
    return ss_fail(error, SS_ERROR_USAGE, "model.rotary_theta is %g, expected 1 or more",
                   config->rotary_theta);
  if (!(config->init_std >= 0))
    return ss_fail(error, SS_ERROR_USAGE, "model.init_std is %g, expected 0 or more", config->init_std);
  if (config->n_kv_head == 0)
    config->n_kv_head = config->n_head;
  if (config->n_ff == 0)
    config->n_ff = config->activation == SS_ACTIVATION_GELU ? 4 * config->n_embd
                                                            : (8 * config->n_embd / 3 + 31) / 32 * 32;
  if (config->n_embd % config->n_head != 0)
    return ss_fail(error, SS_ERROR_USAGE, "model.n_embd is %lld, expected a multiple of model.n_head %lld",
                   (long long)config->n_embd, (long long)config->n_head);
  if (config->n_head % config->n_kv_head != 0)
    return ss_fail(error, SS_ERROR_USAGE, "model.n_head is %lld, expected a multiple of model.n_kv_head %lld",
                   (long long)config->n_head, (long long)config->n_kv_head);
  if (config->position == GPT_POSITION_ROTARY && config->n_embd / config->n_head % 2 != 0)
    return ss_fail(error, SS_ERROR_USAGE,
                   "model.n_embd / model.n_head is %lld, expected an even number (rotary)",
                   (long long)(config->n_embd / config->n_head));
  return SS_OK;
}
