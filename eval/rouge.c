#include "eval/rouge.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "eval/rouge_private.h"

const char *rouge_type_name(rouge_type type) {
  static const char *const names[ROUGE_N_TYPE] = {"rouge1", "rouge2", "rougeL", "rougeLsum"};
  return names[type];
}

ss_status rouge_scorer_create(rouge_scorer **out, bool stem, ss_error *error) {
  SS_TRY(ss_allocate(out, 1, sizeof **out, "scorer", error));
  (*out)->stem = stem;
  return SS_OK;
}

void rouge_scorer_free(rouge_scorer *scorer) {
  if (scorer == NULL)
    return;
  void *const buffers[] = {scorer->letters,
                           scorer->words,
                           scorer->masks,
                           scorer->word_table.slots,
                           scorer->pair_table.slots,
                           scorer->prediction.ids,
                           scorer->prediction.sentences,
                           scorer->reference.ids,
                           scorer->reference.sentences,
                           scorer->left,
                           scorer->right,
                           scorer->positions,
                           scorer->carries,
                           scorer->united,
                           scorer->rows,
                           scorer->checkpoints,
                           scorer};
  for (size_t k = 0; k < sizeof buffers / sizeof *buffers; k++)
    free(buffers[k]);
}

// --- n-grams ---

static int64_t shared_words(rouge_scorer *scorer) {
  int64_t hits = 0;
  for (int64_t k = 0; k < scorer->n_word; k++) {
    const rouge_word *word = &scorer->words[k];
    hits += word->in_prediction < word->in_reference ? word->in_prediction : word->in_reference;
  }
  return hits;
}

static uint64_t pair_at(const rouge_tokens *tokens, int64_t i) {
  return (uint64_t)(uint32_t)tokens->ids[i] << 32 | (uint32_t)tokens->ids[i + 1];
}

// The prediction's pairs are counted in scorer->pair_table; each is used up by one of the reference's.
static ss_status shared_pairs(rouge_scorer *scorer, int64_t *hits, ss_error *error) {
  const rouge_tokens *prediction = &scorer->prediction, *reference = &scorer->reference;
  rouge_table *table = &scorer->pair_table;
  *hits = 0;
  SS_TRY(rouge_table_reset(table, prediction->count, error));
  for (int64_t i = 0; i + 1 < prediction->count; i++) {
    uint64_t key = pair_at(prediction, i);
    rouge_slot *slot = rouge_table_find(table, key);
    if (slot->stamp != table->stamp)
      *slot = (rouge_slot){key, 0, table->stamp};
    slot->value++;
  }
  for (int64_t i = 0; i + 1 < reference->count; i++) {
    rouge_slot *slot = rouge_table_find(table, pair_at(reference, i));
    if (slot->stamp == table->stamp && slot->value > 0) {
      slot->value--;
      ++*hits;
    }
  }
  return SS_OK;
}

// --- scores ---

static rouge_score rate(int64_t hits, int64_t n_prediction, int64_t n_reference) {
  rouge_score score = {0, 0, 0};
  if (hits > 0) {
    score.precision = (double)hits / (double)n_prediction;
    score.recall = (double)hits / (double)n_reference;
    score.f = 2 * score.precision * score.recall / (score.precision + score.recall);
  }
  return score;
}

// Scores the tokens in scorer->prediction and scorer->reference, whose words are counted.
static ss_status score_tokens(rouge_scorer *scorer, rouge_scores *out, ss_error *error) {
  int64_t n_prediction = scorer->prediction.count, n_reference = scorer->reference.count, hits;
  out->of[ROUGE_1] = rate(shared_words(scorer), n_prediction, n_reference);
  SS_TRY(shared_pairs(scorer, &hits, error));
  out->of[ROUGE_2] = rate(hits, n_prediction - 1, n_reference - 1);
  SS_TRY(rouge_lcs_length(scorer, &hits, error));
  out->of[ROUGE_L] = rate(hits, n_prediction, n_reference);
  SS_TRY(rouge_union_hits(scorer, &hits, error));
  out->of[ROUGE_LSUM] = rate(hits, n_prediction, n_reference);
  return SS_OK;
}

ss_status rouge_score_item(rouge_scorer *scorer, const rouge_item *item, rouge_scores *out, ss_error *error) {
  if (item->n_reference < 1)
    return ss_fail(error, SS_ERROR_USAGE, "a prediction has no reference, expected at least one");
  SS_TRY(rouge_words_reset(scorer, error));
  SS_TRY(rouge_tokenize(scorer, item->prediction, &scorer->prediction, error));
  for (int64_t i = 0; i < scorer->prediction.count; i++)
    scorer->words[scorer->prediction.ids[i]].in_prediction++;
  for (int64_t r = 0; r < item->n_reference; r++) {
    rouge_scores scores;
    SS_TRY(rouge_tokenize(scorer, item->references[r], &scorer->reference, error));
    for (int64_t k = 0; k < scorer->n_word; k++)
      scorer->words[k].in_reference = 0;
    for (int64_t i = 0; i < scorer->reference.count; i++)
      scorer->words[scorer->reference.ids[i]].in_reference++;
    SS_TRY(score_tokens(scorer, &scores, error));
    for (int t = 0; t < ROUGE_N_TYPE; t++)
      if (r == 0 || scores.of[t].f > out->of[t].f)
        out->of[t] = scores.of[t];
  }
  return SS_OK;
}

ss_status rouge_score_items(const rouge_item *items, int64_t n, bool stem, rouge_scores *out,
                            ss_error *error) {
  ss_status status = SS_OK;
#pragma omp parallel
  {
    rouge_scorer *scorer = NULL;
    ss_error own = {0};
    ss_status created = rouge_scorer_create(&scorer, stem, &own);
#pragma omp for schedule(dynamic, 16)
    for (int64_t i = 0; i < n; i++) {
      if (created == SS_OK && own.status == SS_OK &&
          rouge_score_item(scorer, &items[i], &out[i], &own) != SS_OK)
        ss_error_context(&own, "item %lld", (long long)(i + 1));
    }
    if (own.status != SS_OK) {
#pragma omp critical(rouge_error)
      if (status == SS_OK)
        status = ss_fail(error, own.status, "%s", own.message);
    }
    rouge_scorer_free(scorer);
  }
  return status;
}
