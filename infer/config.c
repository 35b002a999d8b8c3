#include "infer/decoder.h"

const ss_key decode_keys[] =
    {SS_CONFIG_INT(decode_options, max_batch, "decode.max_batch", "0", 0, 65536,
                   "sequences decoded at the same time (KV slots); 0: 32 on the CPU, on a GPU as many as "
                   "fit, up to 256"),
     SS_CONFIG_INT(decode_options, max_tokens, "decode.max_tokens", "0", 0, 1e9,
                   "generated tokens an example; 0: as many as fit"),
     SS_CONFIG_REAL(decode_options, temperature, "decode.temperature", "0", 0, 100,
                    "sampling temperature; 0: greedy"),
     SS_CONFIG_INT(decode_options, top_k, "decode.top_k", "0", 0, 1e9, "sample from the k likeliest; 0: all"),
     SS_CONFIG_REAL(decode_options, top_p, "decode.top_p", "1", 1e-6, 1,
                    "sample from the likeliest that add up to p"),
     SS_CONFIG_INT(decode_options, seed, "decode.seed", "0", 0, 9e15,
                   "seed of sampling and of control random"),
     SS_CONFIG_BOOL(
         decode_options, constrain, "decode.constrain", "no",
         "forbid tokens that cannot continue a well-formed header, and an end before anything else"),
     SS_CONFIG_CHOICE(decode_options, control, "decode.control", "self",
                      "self|oracle|recency|random|window|replay",
                      "what is read: the selected span, or a control"),
     SS_CONFIG_CHOICE(decode_options, engine, "decode.engine", "auto", "auto|host|device",
                      "who tracks spans, samples and plans: the GPU by itself, or the host"),
     SS_CONFIG_INT(decode_options, n_sink, "decode.n_sink", "4", 0, 1e6, "sink rows of control window"),
     SS_CONFIG_INT(decode_options, no_repeat_ngram, "decode.no_repeat_ngram", "0", 0, 1000,
                   "generate no n-gram of text tokens twice; 0: off; the host's engine alone"),
     {NULL, SS_KEY_INT, 0, NULL, 1, 0, NULL, NULL}};
